"""A clip becomes tracks, in all formats; stopped, it goes on; what is no clip says so."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glip
from glip.cli.main import main
from glip.data.formats.mot import read_mot
from glip.data.formats.recognise import read_annotated
from glip.detector import Detector
from glip.errors import ConfigError, DataError
from glip.progress import Step
from glip.tracking.looking import Looker
from glip.video import reading
from glip.video.reading import Clip
from glip.video.writing import whole_film

pytest.importorskip("av")


@pytest.fixture
def clip(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """Ten frames of one picture that moves by 2 pixels a frame."""
    path = tmp_path / "clip.mp4"
    wide = make_picture(160, 90, seed=3)
    with whole_film(path, rate=Fraction(10)) as add:
        for number in range(10):
            add(wide.crop((2 * number, 0, 2 * number + 120, 90)), number / 10)
    return path


def run(clip: Path, out: Path, tiny_file: Path, **options: Any) -> Any:
    common = {"classes": ["cat", "dog"], "weights": tiny_file, "device": "cpu", "threshold": 0.3}
    return glip.track(clip, out, **{**common, **options})


def test_all_formats_tell_the_same(clip: Path, tmp_path: Path, tiny_file: Path) -> None:
    out = tmp_path / "out"
    formats = ["mp4", "jsonl", "mot", "cvat"]
    tracks = run(clip, out, tiny_file, format=formats, every=3)
    assert tracks.frames == 10 and sum(tracks.counts.values()) > 0 and tracks.broken is None
    lines = [json.loads(line) for line in tracks.files["jsonl"].read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(10))
    boxes = [(line["frame"], one["track"]) for line in lines for one in line["tracks"]]
    assert [(b.frame, b.track) for b in read_mot(tracks.files["mot"])] == boxes
    assert len({track for _, track in boxes}) == sum(tracks.counts.values())
    with Clip(tracks.files["mp4"]) as drawn:
        assert [frame.number for frame in drawn] == list(range(10))
    frames = tmp_path / "frames"
    frames.mkdir()
    with Clip(clip) as opened:
        for frame in opened:
            frame.picture().save(frames / f"frame_{frame.number:06d}.png")
    read = read_annotated(tracks.files["cvat"], frames).data
    assert len(read.file_names()) >= len({frame for frame, _ in boxes})
    assert not list(out.glob(".*.part"))


def test_a_stopped_job_goes_on_where_it_was(
    clip: Path, tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(clip, tmp_path / "whole", tiny_file, format=["jsonl"])

    def stop(step: Step) -> None:
        if step.what == "tracking" and step.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out", tiny_file, format=["jsonl"], progress=stop)
    assert not (tmp_path / "out" / "tracks.jsonl").exists()
    (tmp_path / "out" / ".0123.part").touch()  # as a kill leaves it
    looked: list[int] = []
    answer = Looker._answer
    monkeypatch.setattr(
        Looker, "_answer", lambda self, batch: looked.append(len(batch)) or answer(self, batch)
    )
    again = run(clip, tmp_path / "out", tiny_file, format=["jsonl"])
    assert 0 < sum(looked) <= 6
    assert again.files["jsonl"].read_text() == whole.files["jsonl"].read_text()
    assert not list((tmp_path / "out").glob(".*.part"))
    with pytest.raises(ConfigError, match=r"holds another job: .*every"):
        run(clip, tmp_path / "out", tiny_file, every=2)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Camera 0 is a test picture that never ends; and what was opened."""
    av: Any = pytest.importorskip("av")
    if "lavfi" not in av.formats_available:
        pytest.skip("PyAV was built without lavfi, which stands for a camera")
    monkeypatch.setitem(reading.CAMERAS, sys.platform, ("lavfi", "testsrc=size=96x64:rate=10"))
    names: list[str] = []
    clip = reading.Clip.__init__

    def counted(self: Clip, source: Any) -> None:
        names.append(str(source))
        clip(self, source)

    monkeypatch.setattr(reading.Clip, "__init__", counted)
    return names


def test_a_camera_is_opened_once(opened: list[str], tmp_path: Path, tiny_file: Path) -> None:
    tracks = run(0, tmp_path / "out", tiny_file, limit=6, every=2)
    assert tracks.frames == 6 and opened == ["0"] and not (tmp_path / "out" / "journal").exists()
    with Clip(tracks.files["mp4"]) as drawn:
        assert [frame.number for frame in drawn] == list(range(6))


def test_so_is_a_film(opened: list[str], clip: Path, tmp_path: Path, tiny_file: Path) -> None:
    run(clip, tmp_path / "out", tiny_file, every=4)
    assert opened == [str(clip)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_is_the_end_of_a_camera(
    opened: list[str],
    tmp_path: Path,
    tiny_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
) -> None:
    answer, looks = Looker._answer, []

    def hit(self: Looker, batch: Any) -> Any:
        looks.append(len(batch))
        if len(looks) == 4:
            signal.raise_signal(number)
        return answer(self, batch)

    monkeypatch.setattr(Looker, "_answer", hit)
    words = ["track", "0", "--classes", "cat,dog", "--out", str(tmp_path / "out"), "--device"]
    assert main([*words, "cpu", "--weights", str(tiny_file)]) == code
    lines = (tmp_path / "out" / "tracks.jsonl").read_text().splitlines()
    assert 4 <= len(lines) < 20
    with Clip(tmp_path / "out" / "annotated.mp4") as drawn:
        assert len(list(drawn)) == len(lines)


def test_a_camera_that_is_taken(
    tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av: Any = pytest.importorskip("av")

    def busy(*args: Any, **options: Any) -> Any:
        raise av.OSError(16, "Device or resource busy", "/dev/video0")

    monkeypatch.setattr(av, "open", busy)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DataError, match=r"camera 0 \(/dev/video0\) .*busy; is it plugged"):
        run(0, tmp_path / "out", tiny_file)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_ended_by_a_signal_and_called_again_it_is_as_if_nothing_had_been(
    tmp_path: Path,
    tiny_file: Path,
    make_picture: Callable[..., Image.Image],
    number: int,
    code: int,
) -> None:
    film = tmp_path / "long.mp4"
    wide = make_picture(240, 90, seed=3)
    with whole_film(film, rate=Fraction(10)) as add:
        for moment in range(40):
            add(wide.crop((2 * moment, 0, 2 * moment + 120, 90)), moment / 10)
    command = [sys.executable, "-m", "glip", "track", str(film), "--classes", "cat,dog"]
    command += ["--weights", str(tiny_file), "--device", "cpu", "--format", "jsonl,mp4,mot"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")])
    journal = tmp_path / "out" / "journal" / "journal-00000.sqlite"
    while _rows(journal) < 8:
        assert process.poll() is None, "it ended before anything was looked at"
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == code
    left = _rows(journal)
    assert 8 <= left < 40, "too late to be in the middle"
    assert not [one.name for one in (tmp_path / "out").glob("*.*") if one.name[0] != "."]
    for place in ("out", "whole"):
        subprocess.run([*command, "--out", str(tmp_path / place)], check=True)
    for name in ("tracks.jsonl", "mot.txt", "annotated.mp4"):
        done, whole = (tmp_path / place / name for place in ("out", "whole"))
        assert done.read_bytes() == whole.read_bytes(), name
    assert not list((tmp_path / "out").glob(".*.part"))


def _rows(journal: Path) -> int:
    """How many looks a journal has."""
    with contextlib.suppress(sqlite3.Error):
        database = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
        with contextlib.closing(database):
            return int(database.execute("SELECT count(*) FROM records").fetchone()[0])
    return 0


def test_the_command_and_a_clip_that_breaks(
    clip: Path, tmp_path: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 90, 120, 3), dtype=np.uint8)
    with whole_film(clip, rate=Fraction(10)) as add:
        for number, one in enumerate(noise):
            add(Image.fromarray(one), number / 10)
    content = clip.read_bytes()
    place = len(content) * 3 // 4
    clip.write_bytes(content[:place] + b"\xff" * (len(content) - place))
    words = ["track", str(clip), "--prompt", "cat. dog.", "--out", str(tmp_path / "out")]
    words += ["--weights", str(tiny_file), "--device", "cpu", "--format", "jsonl,mot"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "cannot be decoded after" in err and "the frames before are tracked" in err
    assert (tmp_path / "out" / "mot.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, r"every must .*got 0"),
        ({"limit": 0}, r"limit must .*got 0"),
        ({"threshold": 2.0}, "threshold must lie in"),
        ({"patience": -1}, r"patience must .*got -1"),
        ({"format": ["avi"]}, "format must be among mp4, jsonl, mot, cvat, got 'avi'"),
        ({"classes": None}, "say what to look for"),
        ({"prompt": "cat"}, "with one of --prompt, --classes and --task"),
    ],
)
def test_options_that_cannot_be(
    clip: Path, tmp_path: Path, tiny_file: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(clip, tmp_path / "out", tiny_file, **options)
    assert not (tmp_path / "out").exists()


def test_clips_that_cannot_be(
    tmp_path: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(DataError, match="cannot be read as a video"):
        run(tmp_path / "text.mp4", tmp_path / "out", tiny_file)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(DataError, match="camera 99"):
        glip.track(99, tmp_path / "out", prompt="cat", weights=tiny_file)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'glip\[video\]'"):
        run(tmp_path / "text.mp4", tmp_path / "out", tiny_file)
    assert not (tmp_path / "out").exists()


def test_a_detector_tracks_files_and_pictures_alike(clip: Path, tiny_detector: Detector) -> None:
    with Clip(clip) as opened:
        pictures = [frame.picture() for frame in opened]
    of_file = list(tiny_detector.track(clip, ["cat", "dog"], every=4, threshold=0.3))
    of_pictures = list(tiny_detector.track(pictures, ["cat", "dog"], every=4, threshold=0.3))
    assert len(of_file) == len(of_pictures) == 10
    for one, other in zip(of_file, of_pictures, strict=True):
        assert one.track_ids is not None and other.track_ids is not None
        assert one.track_ids.tolist() == other.track_ids.tolist()
        assert np.allclose(one.boxes, other.boxes)
    assert any(len(one) for one in of_file)
    with pytest.raises(ConfigError, match="every must"):
        tiny_detector.track(clip, "cat", every=0)
