"""`glip predict` on films: an annotated film, an entry for each frame, stopped and gone on with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.cli.films import films_below, work_folder
from glip.detector import Detector
from glip.tracking.looking import Looker
from glip.video.reading import Clip
from glip.video.writing import whole_film

pytest.importorskip("av")
pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("in_an_empty_folder")]

Run = Callable[..., int]


@pytest.fixture
def predict(predict: Run) -> Run:
    """`glip predict` with few boxes in each frame."""

    def run(*argv: str | Path, **words: str) -> int:
        return predict(*argv, "--threshold", "0.3", **words)

    return run


def film(path: str | Path, pictures: list[Image.Image]) -> Path:
    with whole_film(path, rate=Fraction(10)) as add:
        for number, one in enumerate(pictures):
            add(one, number / 10)
    return Path(path)


@pytest.fixture
def clip(make_picture: Callable[..., Image.Image]) -> Path:
    """Eight different frames."""
    return film("clip.mp4", [make_picture(seed=number) for number in range(8)])


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The frames that went through the model."""
    answer, seen = Looker._answer, []

    def counted(self: Looker, batch: Any) -> Any:
        seen.extend(one.key for one in batch)
        return answer(self, batch)

    monkeypatch.setattr(Looker, "_answer", counted)
    return seen


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def files(folder: str = ".") -> list[str]:
    return sorted(os.listdir(folder))


def test_a_film_is_annotated_and_each_frame_has_a_line(
    predict: Run, clip: Path, capsys: pytest.CaptureFixture[str], tiny_detector: Detector
) -> None:
    assert predict("clip.mp4", "--json", "found.jsonl") == 0
    assert files() == ["clip.glip.mp4", "clip.mp4", "found.jsonl"]
    records = lines("found.jsonl")
    assert [(one["frame"], one["seconds"]) for one in records] == [
        (number, pytest.approx(number / 10, abs=1e-3)) for number in range(8)
    ]
    assert {one["image"] for one in records} == {"clip.mp4"}
    options = {"threshold": 0.3, "max_detections": 12}
    expected = tiny_detector.predict("clip.mp4", "cat. red car.", **options)
    for record, found in zip(records, expected, strict=True):
        boxes = [one["box"] for one in record["detections"]]
        assert np.allclose(np.array(boxes).reshape(-1, 4), found.boxes, atol=0.01)
        assert [one["phrase"] for one in record["detections"]] == found.phrases
    with Clip("clip.glip.mp4") as drawn, Clip(clip) as plain:
        for one, other in zip(drawn, plain, strict=True):
            assert one.seconds == pytest.approx(other.seconds, abs=1e-3)
            changed = np.asarray(one.picture()).astype(int) - np.asarray(other.picture())
            assert np.abs(changed).max() > 60  # there are boxes on it
    out, err = capsys.readouterr()
    first, header, *rows = out.splitlines()
    assert first == "clip.mp4: 8 frames looked at"
    assert header.split() == ["phrase", "frames", "most", "score", "from", "s", "to", "s"]
    assert {row[:7].strip() for row in rows} <= {"cat", "red car"} and rows
    assert "written: clip.glip.mp4, found.jsonl" in err and "clip.mp4:" in err


def test_some_of_the_frames(predict: Run, clip: Path) -> None:
    assert predict("clip.mp4", "--every", "3", "--output", "some.mp4", "--json", "found.json") == 0
    assert [one["frame"] for one in json.loads(Path("found.json").read_text())] == [0, 3, 6]
    with Clip("some.mp4") as drawn:
        assert [round(frame.seconds, 2) for frame in drawn] == [0.0, 0.3, 0.6]


def test_stopped_it_goes_on_where_it_was(
    predict: Run,
    clip: Path,
    looked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict("clip.mp4", "--json", "whole.jsonl", "--output", "whole.mp4") == 0
    counted = Looker._answer

    def stopped(self: Looker, batch: Any) -> Any:
        if len(looked) == 8 + 5:
            raise KeyboardInterrupt
        return counted(self, batch)

    monkeypatch.setattr(Looker, "_answer", stopped)
    assert predict("clip.mp4", "--json", "found.jsonl") == 130
    assert "0 of 1 pictures are done; the same command goes on" in capsys.readouterr().err
    assert not Path("clip.glip.mp4").exists() and Path(".clip.glip.mp4.work").is_dir()
    assert 0 < len(lines("found.jsonl")) <= 5
    (Path(".clip.glip.mp4.work") / ".0123.part").touch()  # as a kill leaves it
    monkeypatch.setattr(Looker, "_answer", counted)
    assert predict("clip.mp4", "--json", "found.jsonl") == 0
    assert sorted(looked[8:]) == sorted(looked[:8])  # each once
    assert Path("clip.glip.mp4").read_bytes() == Path("whole.mp4").read_bytes()
    done, whole = lines("found.jsonl"), lines("whole.jsonl")
    assert [one["detections"] for one in done] == [one["detections"] for one in whole]
    assert not Path(".clip.glip.mp4.work").exists()


def test_what_was_begun_with_another_prompt_is_dropped(
    predict: Run, clip: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Looker._answer

    def stopped(self: Looker, batch: Any) -> Any:
        if len(looked) == 4:
            raise KeyboardInterrupt
        return counted(self, batch)

    monkeypatch.setattr(Looker, "_answer", stopped)
    assert predict("clip.mp4", "--no-output", "--json", "found.jsonl") == 130
    monkeypatch.setattr(Looker, "_answer", counted)
    looked.clear()
    argv = ["clip.mp4", "--no-output", "--json", "found.jsonl"]
    assert predict(*argv, prompt="dog") == 0
    assert len(looked) == 8 and files() == ["clip.mp4", "found.jsonl"]


def test_pictures_and_films_together(
    predict: Run, clip: Path, make_picture: Callable[..., Image.Image]
) -> None:
    os.mkdir("both")
    for name in ("a.png", "z.png"):
        make_picture(seed=4).save(f"both/{name}")
    clip.rename("both/clip.mp4")
    argv = ["both/a.png", "both/clip.mp4", "both/z.png", "--every", "4", "--json", "found.json"]
    assert predict(*argv) == 0
    records = json.loads(Path("found.json").read_text())
    assert [(Path(one["image"]).name, one.get("frame")) for one in records] == [
        ("a.png", None),
        ("clip.mp4", 0),
        ("clip.mp4", 4),
        ("z.png", None),
    ]
    names = [".glip.json", "a.glip.jpg", "clip.glip.mp4", "z.glip.jpg"]
    assert files("glip_output") == names
    # A pattern means what it says, our own results aside.
    assert predict("both/*.mp4", "glip_output/*", "--output", "again", "--every", "8") == 1
    assert files("again") == [".glip.json", "clip.glip.mp4"]


def test_films_in_a_folder_are_named(
    predict: Run,
    clip: Path,
    make_picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.mkdir("photos")
    clip.rename("photos/clip.mp4")
    assert films_below("photos") == 1
    assert predict("photos") == 2
    assert "folder photos holds no picture, but 1 films; name them" in capsys.readouterr().err
    make_picture().save("photos/a.png")
    assert predict("photos", "--json", "found.json") == 0
    assert "warning: photos: 1 films are left out; name them, or 'photos/*.mp4'" in (
        capsys.readouterr().err
    )
    assert len(json.loads(Path("found.json").read_text())) == 1


def cut(path: Path) -> None:
    content = path.read_bytes()
    place = len(content) * 3 // 4
    path.write_bytes(content[:place] + b"\xff" * (len(content) - place))


def test_a_film_that_breaks_is_done_up_to_there(
    predict: Run, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(clip)
    assert predict("clip.mp4", "--json", "found.jsonl") == 1
    err = capsys.readouterr().err
    assert "cannot be decoded after" in err and "the frames before are done" in err
    assert 0 < len(lines("found.jsonl")) < 8 and Path("clip.glip.mp4").exists()


BAD: list[tuple[Callable[[Path], object], list[str], str]] = [
    (lambda path: path.write_text("no film"), [], "clip.mp4 cannot be read as a video: Invalid"),
    (lambda path: path.write_bytes(b""), [], "it is empty (0 bytes)"),
    (lambda path: film(path, []), [], "clip.mp4"),
    (lambda path: path.unlink(), [], "clip.mp4 does not exist"),
    (lambda path: None, ["--every", "0"], "every must be a whole number from 1, got 0"),
    (lambda path: None, ["--output", "x.jpg"], "an annotated film is written as .mp4, and x.jpg"),
    (lambda path: None, ["--output", "clip.mp4"], "would replace one of the pictures"),
]


@pytest.mark.parametrize(("spoil", "argv", "message"), BAD, ids=[row[2] for row in BAD])
def test_error_is_one_line_and_code_2(
    predict: Run,
    clip: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    argv: list[str],
    message: str,
) -> None:
    spoil(clip)
    assert predict("clip.mp4", *argv) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("error: ") == 1 and "Traceback" not in err
    assert set(files()) <= {"clip.mp4"}


def test_without_pyav_it_says_so_in_one_line(
    predict: Run, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict("clip.mp4") == 2
    assert capsys.readouterr().err == (
        "error: clip.mp4 is a video, which needs PyAV: pip install 'glip[video]'\n"
    )


def test_where_half_a_film_lies() -> None:
    assert work_folder("a/b.mp4", 0, Path("c/b.glip.mp4"), "x.json") == Path("c/.b.glip.mp4.work")
    assert work_folder("a/b.mp4", 3, None, "d/x.json") == Path("d/.x.json.3.b.mp4.work")
    assert work_folder("a/b.mp4", 0, None, "-") is work_folder("a/b.mp4", 0, None, None) is None
