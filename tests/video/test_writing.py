"""A film is there whole or not at all, with the times that were said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.errors import StorageError
from glip.video.reading import Clip
from glip.video.writing import whole_film

pytest.importorskip("av")


def test_times_and_an_odd_size(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.35, 0.35, 2.0]  # with a stretch that stands still
    with whole_film(tmp_path / "new" / "film.mp4", rate=Fraction(30000, 1001)) as add:
        for number, seconds in enumerate(times):
            add(Image.new("RGB", (97, 65), (40 * number, 80, 90)), seconds)
    with Clip(tmp_path / "new" / "film.mp4") as clip:
        frames = list(clip)
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=1e-3)
    assert {frame.picture().size for frame in frames} == {(96, 64)}
    colours = [np.asarray(frame.picture())[32, 48] for frame in frames]
    assert np.allclose(colours, [(40 * number, 80, 90) for number in range(5)], atol=4)


def test_nothing_is_left_of_a_film_that_was_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("an old one")

    def stopped() -> None:
        with whole_film(path, rate=Fraction(10)) as add:
            add(Image.new("RGB", (96, 64)), 0.0)
            assert path.read_text() == "an old one"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [one.name for one in tmp_path.iterdir()] == ["film.mp4"]
    assert path.read_text() == "an old one"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    film = whole_film(tmp_path / "file" / "film.mp4", rate=Fraction(10))
    with pytest.raises(StorageError, match="cannot be written"), film:
        pass
