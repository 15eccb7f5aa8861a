"""`glip predict`, called as a function; one test goes through a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.cli.main import main
from glip.detector import Detector, Outcome
from glip.errors import ImageError

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("in_an_empty_folder")]

Run = Callable[..., int]


@pytest.fixture
def folder(make_picture: Callable[..., Image.Image], tmp_path: Path) -> Path:
    """Three good pictures and two bad ones, one of the former in a folder below."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    make_picture(seed=1).save(folder / "a.png")
    make_picture(90, 90, seed=2).save(folder / "b.jpg")
    make_picture(60, 80, seed=3).save(folder / "more" / "a.png")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture
def picture(make_picture: Callable[..., Image.Image], tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    make_picture().save(path)
    return path


def files(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_one_picture_gives_a_table_and_an_annotated_copy(
    predict: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = picture.read_bytes()
    assert predict(picture, "--threshold", "0.4", "--max-detections", "100") == 0
    out, err = capsys.readouterr()
    header, *rows = out.splitlines()
    assert header.split() == ["phrase", "score", "x1", "y1", "x2", "y2"]
    assert len(rows) > 5 and {row.split("  ")[0] for row in rows} == {"cat", "red car"}
    assert len({len(row) for row in [header, *rows]}) == 1
    assert err == "written: street.glip.jpg\n"
    assert Image.open("street.glip.jpg").size == (120, 90)
    assert picture.read_bytes() == before


def test_json_of_one_picture_is_one_object(
    predict: Run, picture: Path, tiny_detector: Detector
) -> None:
    assert predict("street.png", "--json", "out.json", "--max-detections", "7") == 0
    record = json.loads(Path("out.json").read_text())
    [expected] = tiny_detector.predict(picture, "cat. red car.", max_detections=7)
    assert list(record) == ["image", "width", "height", "prompt", "detections", "annotated"]
    assert record["annotated"] == "street.glip.jpg"
    assert record["image"] == "street.png"
    assert (record["width"], record["height"]) == (120, 90)
    assert record["prompt"] == "cat. red car."
    assert len(record["detections"]) == len(expected) == 7
    for row, found in enumerate(record["detections"]):
        assert set(found) == {"box", "score", "phrase", "span"}
        assert found["box"] == pytest.approx(expected.boxes[row].tolist(), abs=1e-3)
        assert found["score"] == pytest.approx(expected.scores[row].item(), abs=1e-5)
        assert record["prompt"][slice(*found["span"])] == found["phrase"]


def test_json_on_stdout_stands_alone(
    predict: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(picture, "--json", "-", "--no-output") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["width"] == 120
    assert err == ""
    assert files() == ["street.png"]


def test_folder_with_bad_files_is_done_but_for_them(
    predict: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("photos", "--json", "out.json", "--batch-size", "2") == 1
    out, err = capsys.readouterr()
    records = json.loads(Path("out.json").read_text())
    done = [os.path.join("photos", name) for name in ("a.png", "b.jpg")]
    done.append(os.path.join("photos", "more", "a.png"))
    assert [record["image"] for record in records] == done
    assert files(Path("glip_output")) == [".glip.json", "a.glip.jpg", "b.glip.jpg"]
    assert Image.open("glip_output/more/a.glip.jpg").size == (60, 80)
    assert records[2]["annotated"] == os.path.join("glip_output", "more", "a.glip.jpg")
    assert "empty.jpg is empty" in err and "text.png is not a picture" in err
    assert "3 pictures done, 2 failed" in err and "5/5" in err  # the bar's last line
    assert out.splitlines()[0].split()[0] == "picture"
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(done)


def test_second_run_over_the_same_folder_leaves_its_results_out(predict: Run, folder: Path) -> None:
    for _ in range(2):
        assert predict(".", "--json", "out.json") == 1
        assert len(json.loads(Path("out.json").read_text())) == 3


def test_files_and_folders_mix_and_names_differ(predict: Run, folder: Path, picture: Path) -> None:
    argv = [picture, folder / "a.png", folder / "more", "--image", str(folder / "b.jpg")]
    assert predict(*argv, "--output", "made/here", "--json", "out.json") == 0
    assert len(json.loads(Path("out.json").read_text())) == 4
    names = [".glip.json", "a-2.glip.jpg", "a.glip.jpg", "b.glip.jpg", "street.glip.jpg"]
    assert files(Path("made/here")) == names


def test_an_annotated_picture_that_is_looked_at_again_is_not_replaced(
    predict: Run, picture: Path
) -> None:
    picture.rename("street.glip.jpg")
    before = Path("street.glip.jpg").read_bytes()
    assert predict("street.glip.jpg", "street.glip.jpg", "--output", ".") == 0
    assert Path("street.glip.jpg").read_bytes() == before
    written = ["street.glip-2.glip.jpg", "street.glip.glip.jpg", "street.glip.jpg"]
    assert files() == [".glip.json", *written]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("result.png", "result.png"),
        ("new/folder/result.jpg", "new/folder/result.jpg"),
        ("somewhere", "somewhere/street.glip.jpg"),
        ("some.where/", "some.where/street.glip.jpg"),
        ("there", "there/street.glip.jpg"),
    ],
)
def test_output_of_one_picture_is_a_file_or_a_folder(
    predict: Run, picture: Path, output: str, expected: str
) -> None:
    Path("there").mkdir()
    assert predict(picture, "--output", output) == 0
    assert Image.open(expected).size == (120, 90)


@pytest.mark.parametrize(
    "name", ["日本 語.png", "-dash.png", "two\nlines.png", "a'b\"c;$(x).png", "100%.png", "ë.PNG"]
)
def test_odd_file_names_work(
    predict: Run,
    make_picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    make_picture().save(f"./{name}", "PNG")
    assert predict(f"./{name}", "./missing.png", "--json", "out.json") == 1
    [record] = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert record["image"] == f"./{name}"
    assert (Path("glip_output") / f"{Path(name).stem}.glip.jpg").exists()
    assert all(line.startswith(("./", "picture")) for line in capsys.readouterr().out.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow Unicode names only")
def test_file_name_that_is_not_unicode_works(
    predict: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    picture.rename(name)
    assert predict(name, name, "--json", "out.json") == 0
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))[0]["image"] == name
    assert "caf\\udce9.png" in capsys.readouterr().out


def test_picture_without_detections_has_a_row_that_says_so(
    predict: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(picture, "--threshold", "0.99", "--json", "out.json") == 0
    assert "nothing above 0.99" in capsys.readouterr().out
    assert json.loads(Path("out.json").read_text())["detections"] == []


def test_classes_are_exact_names(
    predict: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "man on the moon, no. 5, cat, Cat,cat"  # the last ones are one
    argv = ["predict", "--image", str(picture), "--classes", names, "--json", "-"]
    assert main(argv) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["prompt"] == "man on the moon. no. 5. cat"


def test_options_reach_the_model(
    monkeypatch: pytest.MonkeyPatch, tiny_detector: Detector, picture: Path
) -> None:
    seen: dict[str, Any] = {}

    def load(source: str, **options: str) -> Detector:
        seen.update(source=source, **options)
        return tiny_detector

    def stream(*args: Any, **options: Any) -> Iterator[Outcome]:
        seen.update(options)
        return iter([])

    monkeypatch.setattr("glip.detector.load", load)
    monkeypatch.setattr(tiny_detector, "stream", stream)
    argv = ["predict", "--image", str(picture), "--prompt", "cat", "--weights", "glip_large"]
    argv += ["--device", "cuda:3", "--dtype", "bfloat16", "--threshold", "0.4", "--nms", "0.7"]
    argv += ["--max-detections", "9", "--aggregate", "max", "--batch-size", "8"]
    main(argv)
    options = seen["options"]
    assert (seen["source"], seen["device"], seen["dtype"]) == ("glip_large", "cuda:3", "bfloat16")
    assert (options.score, options.nms, options.max_detections) == (0.4, 0.7, 9)
    assert (options.aggregate, seen["batch_size"]) == ("max", 8)


def test_interrupted_run_keeps_what_is_done(
    predict: Run,
    folder: Path,
    tiny_detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = tiny_detector.stream

    def interrupted(*args: Any, **options: Any) -> Iterator[Outcome]:
        yield from (outcome for outcome, _ in zip(stream(*args, **options), "12", strict=False))
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny_detector, "stream", interrupted)
    assert predict(folder, "--json", "out.json") == 130
    assert len(json.loads(Path("out.json").read_text())) == 2
    assert files(Path("glip_output")) == [".glip.json", "a.glip.jpg", "b.glip.jpg"]
    assert "interrupted: 2 of 5 pictures are done" in capsys.readouterr().err
    assert files() == ["out.json"]


def test_what_is_done_is_on_disk_while_the_run_goes_on(
    predict: Run, folder: Path, tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, seen = tiny_detector.stream, []

    def watched(*args: Any, **options: Any) -> Iterator[Outcome]:
        for outcome in stream(*args, **options):
            yield outcome
            seen.append(Path("out.json.part").read_text().count('"image"'))

    monkeypatch.setattr(tiny_detector, "stream", watched)
    predict(folder, "--json", "out.json")
    assert seen == [1, 2, 2, 3, 3] or seen == [1, 2, 2, 2, 3]
    assert files() == ["out.json"]


def test_pictures_and_prompt_need_no_flags(
    predict: Run, picture: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", "street.png", "cat. red car.", "--device", "cpu", "--json", "out.json"]
    assert main(argv) == 0
    assert json.loads(Path("out.json").read_text())["prompt"] == "cat. red car."
    assert main(["predict", "street.png", "photos/b.jpg", "--classes", "cat", "--no-output"]) == 0
    assert main(["predict", "street.png", "photos/b.jpg"]) == 2
    assert "photos/b.jpg is a file, and the last word is the prompt" in capsys.readouterr().err
    assert main(["predict", "street.png", "red", "car"]) == 2
    assert 'stands in quotes: "red car"' in capsys.readouterr().err
    Path("names.txt").write_text("cat\n")
    assert main(["predict", "street.png", "--prompt", "names.txt"]) == 2
    assert "names of a file come with --classes names.txt" in capsys.readouterr().err
    for argv in (["predict"], ["predict", "a.png"], ["predict", "--image", "a.png"]):
        assert main(argv) == 2
        assert "error: say what to look for: glip predict photo.jpg" in capsys.readouterr().err
    assert main(["predict", "--prompt", "cat"]) == 2
    assert "error: say where to look" in capsys.readouterr().err


def test_patterns_are_filled_in_and_keep_their_folders(predict: Run, folder: Path) -> None:
    assert predict("photos/**/a.png", "--output", "found", "--json", "out.json") == 0
    records = json.loads(Path("out.json").read_text())
    assert [record["annotated"] for record in records] == [
        os.path.join("found", "a.glip.jpg"),
        os.path.join("found", "more", "a.glip.jpg"),
    ]
    assert predict("photos/?.jpg") == 0  # one picture, as if it were named
    assert "b.glip.jpg" in files()


def test_folders_hold_the_results_of_one_prompt(
    predict: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [folder / "a.png", folder / "b.jpg"]
    assert predict(*pictures) == 0
    assert predict(*pictures, prompt="dog") == 0
    assert predict(*pictures) == 0
    assert sorted(path.name for path in Path().iterdir()) == [
        "glip_output",
        "glip_output-2",
        "photos",
    ]
    assert predict(*pictures, "--output", "mine") == 0
    assert predict(*pictures, "--output", "mine", prompt="dog") == 2
    err = capsys.readouterr().err
    assert 'mine holds another job: prompt was "cat. red car.", is "dog"' in err


def test_names_come_from_a_file(
    picture: Path, predict: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("names.txt").write_text("man on the moon\n# a remark\n\ncat\n", encoding="utf-8")
    argv = ["predict", "--image", str(picture), "--json", "-", "--no-output", "--classes"]
    assert main([*argv, "names.txt"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "man on the moon. cat"
    assert main([*argv, "cat. red car."]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "cat. red car"
    Path("empty.txt").touch()
    for name, message in (("empty.txt", "holds no name"), ("none.txt", "cannot be read")):
        assert main([*argv, name]) == 2
        assert f"--classes {name} {message}" in capsys.readouterr().err


def test_picture_that_cannot_be_saved_is_a_failure_of_that_picture(
    predict: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any) -> None:
        raise ImageError("cannot save it: disk full")

    monkeypatch.setattr("glip.structures.Detections.save", fail)
    assert predict(folder / "a.png", folder / "b.jpg") == 2
    assert capsys.readouterr().err.count("disk full") == 2


ERRORS: list[tuple[list[str], str]] = [
    (["--image", "missing.png", "--prompt", "cat"], "missing.png does not exist"),
    (["--image", "none", "--prompt", "cat"], "folder none holds no picture"),
    (["--image", "street.png", "--prompt", " "], "no words"),
    (["--image", "street.png", "--prompt", "?!"], "no words"),
    (["--image", "street.png", "--classes", "cat,,dog"], "has an empty name between commas"),
    (["--image", "street.png", "--prompt", "very " * 300 + "long"], "256"),
    (["--image", "street.png", "--prompt", "cat", "--threshold", "2"], "threshold"),
    (["--image", "street.png", "--prompt", "cat", "--nms", "nan"], "nms"),
    (["--image", "street.png", "--prompt", "cat", "--max-detections", "0"], "max_detections"),
    (["--image", "street.png", "--prompt", "cat", "--batch-size", "0"], "batch_size"),
    (["--image", "street.png", "--prompt", "cat", "--output", "street.png"], "would replace"),
    (["--image", "street.png", "--prompt", "cat", "--json", "./street.png"], "would replace"),
    (["--image", "street.png", "--prompt", "cat", "--output", "a.txt"], "use one of"),
    (["--image", "street.png", "--prompt", "cat", "--json", "no/o.json"], "cannot be written"),
    (["--image", "street.png", "--prompt", "cat", "--json", "."], "--json . is no file"),
    (["--image", "street.png", "--prompt", "cat", "--json", ""], "--json '' is no file"),
    (["--image", "street.png", "--prompt", "cat", "--output", "x.pdf"], "suffix '.pdf'; use one"),
    (
        ["--image", "street.png", "street.png", "--prompt", "cat", "--output", "street.png"],
        "is a file",
    ),
]


@pytest.mark.parametrize(("argv", "message"), ERRORS, ids=[row[1] for row in ERRORS])
@pytest.mark.usefixtures("predict", "picture")
def test_error_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    Path("none").mkdir()
    before = Path("street.png").read_bytes()
    assert main(["predict", *argv]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert Path("street.png").read_bytes() == before
    assert files() == ["street.png"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--weights", "gone.pth"], "no weights file 'gone.pth'"),
        (["--weights", "glip_tiny"], "glip_tiny_model_o365_goldg_cc_sbu.pth"),
        (["--weights", "street.png"], "street.png is neither a safetensors file"),
        (["--device", "banana"], "device 'banana' cannot be used"),
    ],
)
@pytest.mark.usefixtures("picture")
def test_weights_and_devices_that_are_not_there(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert main(["predict", "--image", "street.png", "--prompt", "cat", *argv]) == 2
    _, err = capsys.readouterr()
    assert message in err and "Traceback" not in err


@pytest.mark.usefixtures("picture")
def test_no_weights_at_all_are_said_plainly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("glip.released._PACKAGED", tmp_path / "nothing")
    assert main(["predict", "--image", "street.png", "--prompt", "cat"]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("error: this installation has no weights")
    assert "glip_nano.safetensors" in err and os.environ["GLIP_HOME"] in err
    assert files() == ["street.png"]


@pytest.mark.whole
def test_process_ends_quietly_when_its_reader_leaves(tiny_file: Path, picture: Path) -> None:
    command = [sys.executable, "-m", "glip.cli.main", "predict", "--image", str(picture)]
    command += ["--prompt", "cat", "--weights", str(tiny_file), "--json", "-", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (141, b"")


def test_of_many_names_the_probable_few_are_looked_for(
    predict: Run, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, set[str]] = {}
    for short in ((), ("--shortlist", "1")):
        argv = ("--threshold", "0.1", "--no-output", "--json", "-", *short)
        assert predict(picture, *argv, prompt="cat. red car. dog. cup.") == 0
        found = json.loads(capsys.readouterr().out)["detections"]
        names[argv[-1]] = {one["phrase"] for one in found}
    assert len(names["1"]) == 1 and names["1"] < names["-"]
    assert predict(picture, "--shortlist", "0") == 2
    assert "shortlist must be a whole number from 1, got 0" in capsys.readouterr().err


def test_results_of_the_longest_names_are_kept(
    tmp_path: Path, tiny_file: Path, make_picture: Callable[..., Image.Image]
) -> None:
    for end in "ab":
        make_picture().save(tmp_path / ("n" * 250 + end + ".png"))
    words = [str(tmp_path), "cat.", "--weights", str(tiny_file), "--output", str(tmp_path / "out")]
    assert main(["predict", *words]) == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.jpg"))
    assert len(names) == 2 and all(name.startswith("n" * 200) for name in names)
