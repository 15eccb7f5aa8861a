"""Tracks of made-up boxes: who goes on with whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from glip.association.byte_track import AssociationOptions, Tracker
from glip.errors import ConfigError

Seen = tuple[float, float, int]
"""Left edge of a box of 40 x 80 pixels, score, phrase."""


def steps(tracker: Tracker, frames: Sequence[Sequence[Seen]], *, every: int = 1) -> list[list[int]]:
    """For each frame the ids of its boxes, as they are known in that frame."""
    found = []
    for seen in frames:
        boxes = np.array([[x, 10, x + 40, 90] for x, _, _ in seen], np.float32).reshape(-1, 4)
        scores = np.array([score for _, score, _ in seen], np.float32)
        phrases = np.array([phrase for *_, phrase in seen], np.int64)
        keys = tracker.step(boxes, scores, phrases, frames=every)
        found.append(tracker.ids(keys).tolist())
    return found


def test_two_things_that_walk_past_each_other_keep_their_ids() -> None:
    frames = [[(4.0 * n, 0.9, 0), (200 - 4.0 * n, 0.9, 0)] for n in range(50)]
    assert steps(Tracker(), frames) == [[1, 2]] * 50


def test_a_track_begins_when_it_is_seen_twice() -> None:
    frames = [[(0.0, 0.9, 0)], [(0.0, 0.9, 0), (100.0, 0.9, 0), (300.0, 0.9, 0)]]
    frames += [[(0.0, 0.9, 0), (101.0, 0.9, 0)], [(0.0, 0.9, 0), (300.0, 0.9, 0)]]
    assert steps(Tracker(), frames) == [[1], [1, 0, 0], [1, 2], [1, 0]]


def test_low_scores_carry_tracks_on_and_begin_none() -> None:
    options = AssociationOptions(threshold=0.5, low=0.2)
    frames = [[(0.0, 0.9, 0)], [(1.0, 0.3, 0), (200.0, 0.3, 0)], [(2.0, 0.1, 0)], [(2.0, 0.6, 0)]]
    assert steps(Tracker(options), frames) == [[1], [1, 0], [0], [1]]


def test_a_low_score_does_not_wake_a_track_that_was_lost() -> None:
    options = AssociationOptions(threshold=0.5, low=0.2)
    frames: list[list[Seen]] = [[(0.0, 0.9, 0)], [], [(0.0, 0.3, 0)], [(0.0, 0.9, 0)]]
    assert steps(Tracker(options), frames) == [[1], [], [0], [1]]


@pytest.mark.parametrize(("hidden", "same"), [(5, True), (6, False)])
def test_patience_ends(hidden: int, same: bool) -> None:
    tracker = Tracker(AssociationOptions(patience=5))
    gap: list[list[Seen]] = [[] for _ in range(hidden)]
    first = [(0.0, 0.9, 0)]
    last = steps(tracker, [first, first, *gap, first, first])[-1]
    assert last == [1 if same else 2]


def test_another_phrase_is_another_track() -> None:
    frames = [[(0.0, 0.9, 0), (0.0, 0.8, 1)]] + [[(3.0 * n, 0.8, 1)] for n in range(1, 6)]
    assert steps(Tracker(), frames) == [[1, 2], *[[2]] * 5]


def test_looks_that_are_far_apart_count_their_frames() -> None:
    """Half a box from look to look is found when the speed is known, not by overlap alone."""
    frames = [[(0.0, 0.9, 0)], [(20.0, 0.9, 0)], [(40.0, 0.9, 0)], [], [(80.0, 0.9, 0)]]
    assert steps(Tracker(), frames, every=10)[-1] == [1]
    assert steps(Tracker(AssociationOptions(patience=9)), frames, every=10)[-1] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold must lie in \[0, 1\], got 1.5"),
        ({"low": -0.1}, r"low must lie in \[0, 1\], got -0.1"),
        ({"patience": -1}, "patience must be .* 0 or more, got -1|patience must"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AssociationOptions(**options)  # type: ignore[arg-type]
