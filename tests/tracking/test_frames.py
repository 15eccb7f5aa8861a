"""A film is drawn frame by frame; what is half done is kept, and gone when all is done."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import DataError, StorageError
from glip.jobs.folder import held
from glip.progress import Step
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.tracking.frames import draw_film
from glip.tracking.looking import Looker
from glip.video.reading import Clip, Frame
from glip.video.writing import whole_film

pytest.importorskip("av")


@pytest.fixture
def film(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    with whole_film(tmp_path / "clip.mp4", rate=Fraction(10)) as add:
        for number in range(5):
            add(make_picture(seed=number), number / 10)
    return tmp_path / "clip.mp4"


@pytest.fixture
def looker(tiny_detector: Detector) -> Looker:
    return Looker(tiny_detector, Prompt.from_classes(["cat"]), PostprocessOptions(score=0.3))


def nothing(frame: Frame, found: Detections) -> Detections:
    return found[:0]


def draw(film: Path, looker: Looker, *, keep: bool = True, every: int = 2) -> list[Step]:
    out, work = film.with_name("out.mp4"), film.with_name("work")
    steps: list[Step] = []
    with Clip(film) as clip:
        broken = draw_film(
            clip,
            looker,
            nothing,
            every=every,
            out=out if keep else None,
            work=work if keep else None,
            model={},
            progress=steps.append,
        )
    assert broken is None and out.exists() == keep and not work.exists()
    return steps


def test_progress_counts_the_frames_that_are_looked_at(film: Path, looker: Looker) -> None:
    steps = draw(film, looker)
    assert [(step.what, step.done, step.total, step.unit) for step in steps] == [
        ("clip.mp4", done, 3, "frame") for done in range(4)
    ]
    with Clip(film.with_name("out.mp4")) as drawn:
        assert (drawn.rate, drawn.total) == (5, 3)


def test_nothing_is_kept_where_nothing_is_written(film: Path, looker: Looker) -> None:
    draw(film, looker, keep=False)
    assert [path.name for path in film.parent.iterdir()] == ["clip.mp4"]


def test_two_at_a_time_are_refused(film: Path, looker: Looker) -> None:
    with held(film.with_name("work")), pytest.raises(StorageError, match="in use by another run"):
        draw(film, looker)


def test_a_film_without_frames_leaves_nothing(
    film: Path, looker: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(clip: Clip) -> None:
        raise DataError(f"{clip.name} has no frames")

    monkeypatch.setattr(Clip, "__iter__", none)
    with pytest.raises(DataError, match=r"clip\.mp4 has no frames"):
        draw(film, looker)
    assert [path.name for path in film.parent.iterdir()] == ["clip.mp4"]
