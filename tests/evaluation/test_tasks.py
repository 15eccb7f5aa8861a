"""The evaluations by name."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from glip.errors import ConfigError, DataError
from glip.evaluation.tasks import odinw_sets, run_task


def test_custom_data(toy, tmp_path):
    path, detector = toy
    seen = []

    def progress(name, total):
        seen.append((name, total))
        return lambda count: None

    results = run_task("custom", detector, [path], tmp_path / "out", progress=progress)
    assert results["metrics"]["AP"] == pytest.approx(1.0)
    assert results["settings"]["task"] == "custom"
    assert seen == [("toy.json", 6)]
    assert run_task("custom", None, [path], tmp_path / "out")["metrics"] == results["metrics"]


def test_limit_takes_the_first_pictures(toy, tmp_path):
    path, detector = toy
    run_task("coco", detector, [path], tmp_path / "out", limit=2)
    assert len(detector.asked) == 2


def test_lvis_asks_in_chunks_and_says_frequencies(toy, tmp_path):
    path, detector = toy
    content = json.loads(path.read_text())
    for category, letter in zip(content["categories"], "rf", strict=True):
        category["frequency"] = letter
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    path.write_text(json.dumps(content))
    results = run_task("lvis", detector, [path], tmp_path / "out")
    # Without plus one the boxes are 29 x 19 of 30 x 20, an IoU of 0.92: right at all but 0.95.
    assert results["metrics"]["APr"] == pytest.approx(0.9)
    assert results["metrics"]["APc"] is None
    assert results["settings"]["options"]["max_detections"] == 300


def test_odinw_is_the_mean_of_its_data_sets(toy, tmp_path):
    path, detector = toy
    for name in ("pothole", "second"):
        folder = tmp_path / "odinw" / name / "valid"
        folder.mkdir(parents=True)
        content = json.loads(path.read_text())
        if name == "pothole":
            content["categories"][1]["name"] = "holes"
        else:
            content["annotations"] = content["annotations"][:3]
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
        for picture in path.parent.glob("*.png"):
            (folder / picture.name).write_bytes(picture.read_bytes())
    results = run_task("odinw", detector, [tmp_path / "odinw"], tmp_path / "out")
    assert list(results["metrics"]) == ["AP", "pothole", "second"]
    assert results["metrics"]["AP"] == pytest.approx(
        (results["metrics"]["pothole"] + results["metrics"]["second"]) / 2
    )
    assert detector.asked[0][1] == "there are some holes on the road. dog"
    assert (tmp_path / "out" / "pothole" / "predictions.jsonl").exists()
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def test_flickr_asks_for_boxed_phrases(toy, tmp_path):
    path, detector = toy
    root = tmp_path / "entities"
    for name in ("Sentences", "Annotations", "images"):
        (root / name).mkdir(parents=True)
    (root / "Sentences" / "2.txt").write_text(
        "[/EN#1/people A man] in [/EN#2/scene a park]\n[/EN#2/scene A park]\n"
    )
    (root / "Annotations" / "2.xml").write_text(
        "<annotation><size><width>100</width><height>80</height></size><object><name>1</name>"
        "<bndbox><xmin>12</xmin><ymin>10</ymin><xmax>41</xmax><ymax>29</ymax></bndbox></object>"
        "</annotation>"
    )
    (root / "test.txt").write_text("2")
    (path.parent / "2.png").rename(root / "images" / "2.jpg")
    detector.answers[2] = [([12, 10, 41, 29], 0.9, 0)]
    results = run_task("flickr", detector, [root], tmp_path / "out", split="test")
    assert results["metrics"]["R@1"] == 1.0
    assert detector.asked == [(2, "A man in a park")]
    again = run_task("flickr", detector, [root], tmp_path / "few", limit=1)
    assert again["metrics"] == results["metrics"]


@pytest.mark.parametrize(
    ("task", "count", "message"),
    [("voc", 1, "task 'voc' is not one of"), ("coco", 2, "takes one data set, got 2")],
)
def test_options_that_do_not_fit(toy, tmp_path, task, count, message):
    with pytest.raises(ConfigError, match=message):
        run_task(task, toy[1], [toy[0]] * count, tmp_path)


def test_captions_have_no_average_precision(tmp_path, toy):
    path = tmp_path / "captions.json"
    path.write_text(
        '{"images": [{"id": 1, "file_name": "0.png", "width": 100, "height": 80}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "x"}]}'
    )
    with pytest.raises(ConfigError, match="holds captions"):
        run_task("coco", toy[1], [path], tmp_path / "out", images=toy[0].parent)


def test_folder_without_data_sets(tmp_path):
    with pytest.raises(DataError, match="holds no ODinW data set"):
        odinw_sets([tmp_path])


@pytest.fixture
def main(monkeypatch):
    """What the script runs."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    return importlib.import_module("evaluate").main


def test_script_evaluates_weights(toy, tmp_path, capsys, monkeypatch, main, tiny_file):
    output = tmp_path / "out"
    data = ["--task", "custom", "--data", str(toy[0]), "--output", str(output)]
    arguments = ["--weights", str(tiny_file), "--device", "cpu", *data]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    assert main() == 0
    assert capsys.readouterr().out.startswith("AP ")
    settings = json.loads((output / "results.json").read_text())["settings"]
    assert settings["weights"] == tiny_file.name and len(settings["weights_sha256"]) == 64


def test_script_measures_again(toy, tmp_path, capsys, monkeypatch, main):
    path, detector = toy
    output = str(tmp_path / "out")
    run_task("custom", detector, [path], output)
    arguments = ["--task", "custom", "--data", str(path), "--output", output, "--rescore"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    assert main() == 0
    assert capsys.readouterr().out.startswith("AP ")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments[:-2], "nowhere", "--rescore"])
    assert main() == 2
    assert "error: nowhere/predictions.jsonl cannot be opened" in capsys.readouterr().err
