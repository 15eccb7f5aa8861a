"""Frames get their answers in order, each once, from the journal or from the model."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import DataError
from glip.jobs.journal import Journal
from glip.text.prompt import Prompt
from glip.tracking.looking import Looker, Readable
from glip.video.reading import Clip, FrameAt
from glip.video.writing import whole_film

pytest.importorskip("av")


@pytest.fixture
def film(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    path = tmp_path / "clip.mp4"
    with whole_film(path, rate=Fraction(10)) as add:
        for number in range(9):
            add(make_picture(seed=number), number / 10)
    return path


@pytest.fixture
def looker(tiny_detector: Detector) -> Looker:
    prompt = Prompt.from_classes(["cat", "dog"])
    return Looker(tiny_detector, prompt, PostprocessOptions(score=0.3), batch_size=2)


def test_the_journal_answers_what_it_knows(film: Path, looker: Looker, tmp_path: Path) -> None:
    def run(limit: int | None) -> list[tuple[int, list[list[float]] | None]]:
        with Clip(film) as clip, Journal(tmp_path / "j", looker.settings(clip, {})) as journal:
            due = ((frame, frame.number % 3 != 1) for frame in Readable(clip, limit))
            return [
                (frame.number, None if found is None else found.boxes.tolist())
                for frame, found in looker.found(clip, due, journal)
            ]

    first = run(5)
    with Journal(tmp_path / "j", looker.settings(Clip(film), {})) as journal:
        assert [int(key) for key, _, _ in journal.read()] == [0, 2, 3]
        journal.write([("000000000", "done", {"boxes": [], "scores": [], "phrases": []})])
    both = run(None)
    assert [number for number, _ in both] == list(range(9))
    assert [number for number, boxes in both if boxes is None] == [1, 4, 7]
    assert both[1:5] == first[1:5] and first[0][1] and both[0][1] == []


def test_what_is_found_remembers_its_frame(film: Path, looker: Looker) -> None:
    with Clip(film) as clip:
        frames = list(looker.found(clip, ((frame, True) for frame in clip), None))
    for frame, found in frames:
        assert found is not None and found.source == FrameAt(str(film), frame.number, frame.seconds)
    frame, found = frames[6]
    assert found is not None
    assert np.array_equal(np.asarray(found.image()), np.asarray(frame.picture()))
    again = looker.detector.predict(
        frame.picture(), looker.prompt, threshold=0.3, max_detections=100
    )
    assert np.allclose(found.boxes, again[0].boxes, atol=0.1)


def test_a_clip_that_breaks_gives_what_came_before(film: Path) -> None:
    content = film.read_bytes()
    place = len(content) * 3 // 4
    film.write_bytes(content[:place] + b"\xff" * (len(content) - place))
    with Clip(film) as clip:
        readable = Readable(clip)
        frames = list(readable)
    assert 0 < len(frames) < 9 and "cannot be decoded after" in str(readable.broken)
    with whole_film(film, rate=Fraction(10)):
        pass
    with pytest.raises(DataError), Clip(film) as clip:
        list(Readable(clip))
