"""`glip label` from end to end, with the tiny model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from glip.checkpoint import Weights, save
from glip.cli.main import main
from glip.data.formats.recognise import read_annotated
from glip.jobs.journal import Journal

pytestmark = pytest.mark.whole

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        make_picture(seed=number).save(folder / "sub" / f"{number}.png")
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture
def label(tiny_file: Path, photos: Path, tmp_path: Path) -> Run:
    """`glip label` over the photos into the folder `out`."""

    def run(*argv: str, out: str = "out") -> int:
        given = ["--images", str(photos), "--out", str(tmp_path / out), "--device", "cpu"]
        return main(["label", *given, "--weights", str(tiny_file), *argv])

    return run


def test_photos_become_a_data_set_a_report_and_a_list(
    label: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label("--classes", "cat, red car", "--threshold", "0.6") == 1
    err = capsys.readouterr().err
    assert "3 pictures labelled, 1 rejected" in err
    assert (tmp_path / "out" / "rejected.txt").read_text().startswith("empty.jpg\t")
    names = [line.split("\t")[0] for line in (tmp_path / "out" / "next.txt").open()]
    assert f"look at these next ({tmp_path / 'out' / 'next.txt'}): {', '.join(names)}\n" in err
    assert "Labels by tiny.safetensors" in (tmp_path / "out" / "report.html").read_text()
    data = read_annotated(tmp_path / "out" / "coco" / "annotations.json", photos).data
    assert data.names == ("cat", "red car")
    assert data.file_names() == ["sub/0.png", "sub/1.png", "sub/2.png"]
    assert sum(len(record.boxes) for record in data.records) > 3


def test_labels_score_above_the_threshold_of_the_weights(
    tiny_weights: Weights, photos: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "sure.safetensors"
    config = replace(tiny_weights.config, threshold=0.6)
    save(weights, replace(tiny_weights, config=config))
    for out, given in (("own", ()), ("given", ("--threshold", "0.6"))):
        argv = ["--images", str(photos), "--out", str(tmp_path / out), "--classes", "cat, red car"]
        assert main(["label", *argv, "--weights", str(weights), *given]) == 1
    own, same = (
        json.loads((tmp_path / out / "coco" / "annotations.json").read_text())["annotations"]
        for out in ("own", "given")
    )
    assert own == same and min(label["score"] for label in own) > 0.6


def test_another_format_of_the_same_labels_needs_no_model(
    label: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert label("--classes", "cat") == 1
    monkeypatch.setattr("glip.detector.load", None)  # what would fail if it were called
    assert label("--classes", "cat", "--format", "yolo", "--val", "0.5") == 0
    assert (tmp_path / "out" / "yolo" / "data.yaml").is_file()
    assert (tmp_path / "out" / "coco" / "annotations.json").is_file()


def test_rejected_pictures_are_tried_again_when_asked(
    label: Run, photos: Path, make_picture: Callable[..., Image.Image]
) -> None:
    assert label("--classes", "cat") == 1
    make_picture().save(photos / "empty.jpg")
    (photos / "text.png").write_text("no picture")
    assert label("--classes", "cat", "--force") == 1  # one is mended, another is new
    assert label("--classes", "cat", "--force") == 0
    assert label("--classes", "cat", "--force", "--strict") == 1
    assert label("--classes", "cat", "--force", "--retry-rejected") == 1


def test_results_inside_the_picture_folder_are_no_pictures(label: Run, photos: Path) -> None:
    for _ in range(2):
        label("--classes", "cat", "--pictures", "copy", "--force", out="photos/out")
        data = json.loads((photos / "out" / "coco" / "annotations.json").read_text())
        assert len(data["images"]) == 3


def test_corrected_labels_come_back(
    label: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label("--classes", "cat", "--format", "labelstudio") == 1
    tasks = json.loads((tmp_path / "out" / "labelstudio" / "tasks.json").read_text())
    results = [task.pop("predictions")[0]["result"] for task in tasks]
    for task, result in zip(tasks, results, strict=True):
        task["annotations"] = [{"result": result[:1]}]  # the others were wrong
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks[:2]))
    capsys.readouterr()
    argv = ["label", "--corrected", str(export), "--images", str(photos)]
    assert main([*argv, "--out", str(tmp_path / "better")]) == 0
    said = capsys.readouterr().err
    assert "2 pictures labelled, 0 rejected" in said
    assert "name the folder of the model's labels with --proposed" in said
    argv += ["--proposed", str(tmp_path / "out"), "--force"]
    assert main([*argv, "--out", str(tmp_path / "better")]) == 0
    said = capsys.readouterr().err
    deleted = sum(len(result) - 1 for result in results[:2])
    assert "what people changed in 2 pictures" in said
    assert re.search(rf"\ncat +{2 + deleted} +2 +0 +0 +{deleted} +0\n", said)
    data = read_annotated(tmp_path / "better" / "coco" / "annotations.json", photos).data
    assert [len(record.boxes) for record in data.records] == [1, 1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "say what to label, with --classes NAMES or --ontology YAML"),
        (["--classes", "cat,,dog"], "--classes 'cat,,dog' has an empty name between commas"),
        (["--classes", "cat", "--val", "1"], "share for validation must lie in [0, 1), got 1.0"),
        (["--classes", "cat", "--threshold", "3"], "threshold must lie in [0, 1], got 3.0"),
        (["--classes", "cat", "--nms", "-1"], "nms must lie in [0, 1], got -1.0"),
        (["--classes", "cat", "--batch-size", "0"], "batch_size must be a whole number from 1"),
        (["--classes", "cat", "--workers", "0"], "workers must be a whole number from 1, got 0"),
        (["--classes", "cat", "--max-detections", "0"], "max_detections must be a whole number"),
        (["--classes", "cat", "--images", "none"], "picture folder none does not exist"),
        (["--ontology", "none.yaml"], "none.yaml cannot be opened: No such file or directory"),
        (["--corrected", "none.json"], "without a model; leave --weights out"),
    ],
)
def test_bad_input_is_one_line(
    argv: list[str], message: str, label: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label(*argv) == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert message in line


def test_a_folder_without_a_usable_picture(
    label: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in photos.glob("sub/*"):
        path.unlink()
    assert label("--classes", "cat") == 2
    assert "none of the 1 pictures in" in capsys.readouterr().err
    assert "empty.jpg" in (tmp_path / "out" / "rejected.txt").read_text()
    (photos / "empty.jpg").unlink()
    assert label("--classes", "cat", out="other") == 2
    assert "holds no picture" in capsys.readouterr().err


def test_a_change_of_the_job_or_a_data_set_that_is_there_stops_before_any_work(
    label: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label("--classes", "cat") == 1
    for argv, message in (
        (["--classes", "dog"], "ontology.cat is gone; ontology.dog is new"),
        (["--classes", "cat", "--threshold", "0.5"], "ontology.cat.threshold was 0.3, is 0.5"),
        (["--classes", "cat", "--nms", "0.5"], "nms was 0.6, is 0.5"),
    ):
        assert label(*argv, "--force") == 2
        assert message in capsys.readouterr().err
    assert label("--classes", "cat", "--val", "0.5") == 2
    assert "coco exists; move it away" in capsys.readouterr().err


def test_a_finished_job_is_a_success(label: Run, tmp_path: Path, capsys: Capture) -> None:
    assert label("--classes", "cat") == 1
    before = (tmp_path / "out" / "coco" / "annotations.json").stat().st_mtime_ns
    capsys.readouterr()
    assert label("--classes", "cat") == 0
    err = capsys.readouterr().err
    assert "3 pictures labelled, 1 rejected" in err and "all of it was done already" in err
    assert (tmp_path / "out" / "coco" / "annotations.json").stat().st_mtime_ns == before
    assert label("--classes", "cat", "--strict") == 1


def test_a_picture_that_was_replaced_is_labelled_again(
    label: Run, photos: Path, tmp_path: Path, make_picture: Callable[..., Image.Image]
) -> None:
    assert label("--classes", "cat") == 1
    make_picture(50, 70, seed=9).save(photos / "sub" / "1.png")
    assert label("--classes", "cat", "--force") == 0
    images = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())["images"]
    sizes = {one["file_name"]: (one["width"], one["height"]) for one in images}
    assert sizes["sub/1.png"] == (50, 70) and len(sizes) == 3


@pytest.mark.parametrize(
    "argv", [["--format", "coco,yolo"], ["--format", "yolo", "--format", "coco"]]
)
def test_several_formats_in_one_call(label: Run, tmp_path: Path, argv: list[str]) -> None:
    assert label("--classes", "cat", *argv) == 1
    assert (tmp_path / "out" / "yolo" / "data.yaml").is_file()
    assert (tmp_path / "out" / "coco" / "annotations.json").is_file()
    assert label("--classes", "cat", *argv) == 0


def test_the_first_pictures_are_a_preview_that_counts(label: Run, tmp_path: Path) -> None:
    annotations = tmp_path / "out" / "coco" / "annotations.json"
    assert label("--classes", "cat", "--limit", "2") == 1  # of which empty.jpg is the first
    assert [one["file_name"] for one in json.loads(annotations.read_text())["images"]] == [
        "sub/0.png"
    ]
    assert label("--classes", "cat", "--force") == 0
    assert len(json.loads(annotations.read_text())["images"]) == 3


def test_one_phrase_for_each_thing(label: Run, tmp_path: Path) -> None:
    counts = []
    for out, argv in (("all", ()), ("one", ("--exclusive",))):
        label("--classes", "cat,red car,dog", "--threshold", "0.3", *argv, out=out)
        path = tmp_path / out / "coco" / "annotations.json"
        counts.append(len(json.loads(path.read_text())["annotations"]))
    assert counts[1] < counts[0]


def test_counts_and_what_was_hardly_found_are_told(label: Run, capsys: Capture) -> None:
    assert label("--classes", "cat,dog", "--threshold", "0.6") == 1
    err = capsys.readouterr().err
    assert "\ncat " in err and "\ndog " in err
    assert label("--classes", "cat", "--threshold", "0.99", out="none") == 1
    assert (
        "warning: nothing was found in 3 pictures: lower the threshold" in capsys.readouterr().err
    )


def test_names_come_from_a_file(label: Run, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n\n# no class\nred  car\n")
    assert label("--classes", str(tmp_path / "names.txt")) == 1
    content = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())
    assert [one["name"] for one in content["categories"]] == ["cat", "red car"]


def test_a_threshold_that_does_not_hold_is_told(
    label: Run, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "things.yaml").write_text("classes:\n  cat: {threshold: 0.4}\n  dog: {}\n")
    assert label("--ontology", str(tmp_path / "things.yaml"), "--threshold", "0.6") == 1
    assert "warning: --threshold 0.6 does not hold where" in (err := capsys.readouterr().err)
    assert "things.yaml says otherwise: cat 0.4\n" in err


def test_two_runs_at_once_are_refused(
    label: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(tmp_path / "out" / "journal", {}):
        assert label("--classes", "cat") == 2
    assert "is in use by another run" in capsys.readouterr().err


def test_of_many_names_the_probable_few_are_labelled(
    label: Run, tmp_path: Path, capsys: Capture
) -> None:
    names = ("--classes", "cat,red car,dog,cup", "--threshold", "0.2")
    assert label(*names, "--shortlist", "1") == 1
    content = json.loads((tmp_path / "out" / "coco" / "annotations.json").read_text())
    classes: dict[int, set[int]] = {}
    for one in content["annotations"]:
        classes.setdefault(one["image_id"], set()).add(one["category_id"])
    assert len(classes) == 3 and {len(own) for own in classes.values()} == {1}
    assert label(*names) == 2, "other labels do not go into the same folder"
    assert "shortlist" in capsys.readouterr().err
    assert label(*names, "--shortlist", "0", out="other") == 2
    assert "shortlist must be a whole number from 1, got 0" in capsys.readouterr().err
