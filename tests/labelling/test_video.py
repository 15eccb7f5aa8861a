"""Frames of a video as pictures."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glip.cli.main import main
from glip.data.formats.recognise import read_annotated
from glip.errors import ConfigError, DataError
from glip.images import load_image
from glip.labelling.video import extract_frames


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten frames of 96 x 64 pixels, each of one grey, brighter from frame to frame."""
    av: Any = pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(10):
            grey = np.full((64, 96, 3), 20 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_every_nth_frame_once(film: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    assert extract_frames(film, frames, every=4) == 3
    names = sorted(path.name for path in frames.iterdir())
    assert names == ["000000000.jpg", "000000004.jpg", "000000008.jpg"]
    for name in names:
        picture = load_image(frames / name)
        assert picture.size == (96, 64)
        assert abs(np.asarray(picture).mean() - 20 * int(name[:9])) < 6
    (frames / names[1]).unlink()  # as if the run had been stopped
    before = (frames / names[0]).stat().st_mtime_ns
    assert extract_frames(film, frames, every=4) == 3
    assert (frames / names[0]).stat().st_mtime_ns == before
    assert (frames / names[1]).is_file()


def test_a_video_is_labelled_as_a_folder_is(film: Path, tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ["label", "--images", str(film), "--classes", "cat", "--every", "5", "--out", str(out)]
    assert main([*argv, "--weights", str(tiny_file), "--device", "cpu"]) == 0
    data = read_annotated(out / "coco" / "annotations.json", out / "frames").data
    assert data.file_names() == ["000000000.jpg", "000000005.jpg"]
    argv[argv.index("5")] = "2"
    assert main([*argv, "--weights", str(tiny_file), "--device", "cpu", "--force"]) == 2


def test_frames_are_those_of_the_film_as_it_is(
    film: Path, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["label", "--images", str(film), "--classes", "cat", "--every", "5"]
    argv += ["--out", str(tmp_path / "out"), "--weights", str(tiny_file), "--device", "cpu"]
    assert main(argv) == 0
    film.write_bytes(film.read_bytes() + b"\0\0\0\x08free")  # another one by its name
    assert main([*argv, "--force"]) == 2  # whose frames would not be those that are there
    assert "holds another job: film was" in capsys.readouterr().err


def test_files_that_are_no_video(film: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text.mp4 cannot be read as a video"):
        extract_frames(tmp_path / "text.mp4", tmp_path / "frames", every=1)
    with pytest.raises(ConfigError, match="every must be a whole number from 1, got 0"):
        extract_frames(film, tmp_path / "frames", every=0)


def test_pyav_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"needs PyAV: pip install 'glip\[video\]'"):
        extract_frames(tmp_path / "a.mp4", tmp_path / "frames", every=1)
