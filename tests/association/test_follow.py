"""Results of every frame, one look later; straight lines between looks; nothing is held."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from glip.association.byte_track import Tracker
from glip.association.follow import follow
from glip.structures import Detections
from glip.text.prompt import Prompt

PROMPT = Prompt.from_classes(["person", "dog"])


def found(*lefts: float, score: float = 0.9, phrase: int = 0) -> Detections:
    """Boxes of 40 x 80 pixels by their left edges."""
    boxes = np.array([[x, 10, x + 40, 90] for x in lefts], np.float32).reshape(-1, 4)
    scores = np.full(len(lefts), score, np.float32)
    return Detections(boxes, scores, np.full(len(lefts), phrase, np.int64), PROMPT, (100, 400))


def lines(frames: list[Detections | None]) -> list[tuple[int, list[int], list[float]]]:
    """(frame, ids, left edges) of what is tracked."""
    return [
        (number, tracked.track_ids.tolist(), tracked.boxes[:, 0].tolist())
        for number, tracked in follow(enumerate(frames), Tracker())
        if tracked.track_ids is not None
    ]


def test_frames_between_two_looks_lie_on_a_line() -> None:
    frames = [found(0, score=0.8), None, None, None, found(8, score=0.4)]
    assert lines(frames) == [(n, [1], [2.0 * n]) for n in range(5)]
    scores = [t.scores[0] for _, t in follow(enumerate(frames), Tracker())]
    assert scores == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4])


def test_the_beginning_of_a_track_is_told_once_it_is_known() -> None:
    frames = [found(0), found(0, 100), found(0, 102), found(0), found(0, 300), found(0)]
    assert lines(frames) == [
        (0, [1], [0]),
        (1, [1, 2], [0, 100]),
        (2, [1, 2], [0, 102]),
        (3, [1], [0]),
        (4, [1], [0]),  # 300 was never seen again
        (5, [1], [0]),
    ]


def test_nothing_is_known_outside_of_the_looks() -> None:
    frames = [None, found(0), None, found(2), None]
    assert lines(frames) == [(0, [], []), (1, [1], [0]), (2, [1], [1]), (3, [1], [2]), (4, [], [])]
    assert lines([None, None]) == []


def test_a_thing_that_goes_is_not_guessed_at() -> None:
    frames = [found(0, 200), None, found(0), None, found(0, 200)]
    assert lines(frames) == [
        (0, [1, 2], [0, 200]),
        (1, [1], [0]),
        (2, [1], [0]),
        (3, [1], [0]),
        (4, [1, 2], [0, 200]),
    ]


def test_phrases_stay_with_their_tracks() -> None:
    frames: list[Detections | None] = [found(0, phrase=1), found(2, phrase=1)]
    for _, tracked in follow(enumerate(frames), Tracker()):
        assert tracked.phrases == ["dog"] and tracked["dog"].track_ids is not None
        assert tracked.to_dict()["detections"][0]["track"] == 1


def test_results_come_one_look_later() -> None:
    read = []

    def frames() -> Iterator[tuple[int, Detections | None]]:
        for number in range(10):
            read.append(number)
            yield number, found(number) if number % 3 == 0 else None

    results = follow(frames(), Tracker())
    assert next(results)[0] == 0 and read == [0, 1, 2, 3]
    assert [number for number, _ in results] == list(range(1, 10))
