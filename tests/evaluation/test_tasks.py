"""The evaluations by name."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glip.api import read_other_words
from glip.config import PostprocessOptions
from glip.errors import ConfigError, DataError, GlipError
from glip.evaluation.config import METRICS, EvaluationConfig, TaskOptions
from glip.evaluation.predictions import read_predictions
from glip.evaluation.table import results_table
from glip.evaluation.tasks import evaluate_on, run_task
from glip.text.prompt import Prompt

pytestmark = pytest.mark.whole


def test_custom_data(toy, tmp_path):
    path, detector = toy
    seen = []

    out = tmp_path / "out"
    results = run_task(TaskOptions("custom"), detector, [path], out, progress=seen.append)
    assert results["metrics"]["AP"] == pytest.approx(1.0)
    assert tuple(results["metrics"]) == METRICS["custom"]
    assert results["settings"]["task"] == "custom"
    assert {(step.what, step.total) for step in seen} == {("toy.json", 6)}
    assert seen[-1].done == 6
    assert run_task(TaskOptions("custom"), None, [path], out)["metrics"] == results["metrics"]


def test_predictions_are_of_the_pictures_that_were_said(toy, tmp_path):
    path, detector = toy
    shutil.copytree(path.parent, tmp_path / "others")
    run_task(TaskOptions("coco", images=path.parent), detector, [path], tmp_path / "out")
    others = TaskOptions("coco", images=tmp_path / "others")
    with pytest.raises(ConfigError, match="holds another job: images was"):
        run_task(others, detector, [path], tmp_path / "out")


def test_limit_takes_the_first_pictures(toy, tmp_path):
    path, detector = toy
    run_task(TaskOptions("coco", limit=2), detector, [path], tmp_path / "out")
    assert len(detector.asked) == 2


@pytest.mark.parametrize("name", ["limit", "chunk", "max_detections", "batch_size"])
@pytest.mark.parametrize("count", [0, -1])
def test_counts_below_one_are_refused(toy, tmp_path, name, count):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got {count}"):
        run_task(TaskOptions("coco", **{name: count}), toy[1], [toy[0]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_without_pictures_are_refused(toy, tmp_path):
    content = json.loads(toy[0].read_text())
    toy[0].write_text(json.dumps({**content, "images": [], "annotations": []}))
    with pytest.raises(DataError, match=r"toy\.json has no pictures to evaluate on"):
        run_task(TaskOptions("coco"), toy[1], [toy[0]], tmp_path / "out")


@pytest.mark.parametrize("option", ["images", "split", "chunk", "max_detections", "wordings"])
def test_odinw_refuses_what_it_would_ignore(toy, tmp_path, option):
    with pytest.raises(ConfigError, match=f"task odinw takes no {option}"):
        run_task(TaskOptions("odinw", **{option: 1}), toy[1], [toy[0]], tmp_path / "out")


def test_all_evaluations_leave_out_as_much_as_they_are_told(toy, tmp_path):
    path, detector = toy
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "gone.png"
    path.write_text(json.dumps(content))
    for task in ("coco", "odinw"):
        with pytest.raises(DataError, match="of 6"):
            run_task(TaskOptions(task), detector, [path], tmp_path / task)
        run_task(TaskOptions(task, max_bad=0.5), detector, [path], tmp_path / task)
    config = EvaluationConfig(str(path), max_bad=0.5)
    assert evaluate_on(config, detector, tmp_path / "while training")["metrics"]["AP"] > 0


def test_lvis_asks_in_chunks_and_says_frequencies(toy, tmp_path):
    path, detector = toy
    content = json.loads(path.read_text())
    for category, letter in zip(content["categories"], "rf", strict=True):
        category["frequency"] = letter
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    path.write_text(json.dumps(content))
    results = run_task(TaskOptions("lvis"), detector, [path], tmp_path / "out")
    # Without plus one the boxes are 29 x 19 of 30 x 20, an IoU of 0.92: right at all but 0.95.
    assert results["metrics"]["APr"] == pytest.approx(0.9)
    assert tuple(results["metrics"]) == METRICS["lvis"]
    assert results["metrics"]["APc"] is None
    assert results["settings"]["options"]["max_detections"] == 300


def test_odinw_is_the_mean_of_its_data_sets(toy, tmp_path):
    path, detector = toy
    for name in ("pothole", "second"):
        folder = tmp_path / "odinw" / name / "valid"
        folder.mkdir(parents=True)
        content = json.loads(path.read_text())
        if name == "pothole":
            content["categories"][1]["name"] = "pothole"
        else:
            content["annotations"] = content["annotations"][:3]
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
        for picture in path.parent.glob("*.png"):
            (folder / picture.name).write_bytes(picture.read_bytes())
    results = run_task(TaskOptions("odinw"), detector, [tmp_path / "odinw"], tmp_path / "out")
    assert list(results["metrics"]) == ["AP", "pothole", "second"]
    assert results["metrics"]["AP"] == pytest.approx(
        (results["metrics"]["pothole"] + results["metrics"]["second"]) / 2
    )
    assert detector.asked[0][1] == "there are some holes on the road. dog"
    assert (tmp_path / "out" / "pothole" / "predictions.jsonl").exists()
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def write_flickr(root, sentences, picture):
    """Flickr30k Entities of one picture, whose entity 1 has a box."""
    for name in ("Sentences", "Annotations", "images"):
        (root / name).mkdir(parents=True)
    (root / "Sentences" / "2.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
    (root / "Annotations" / "2.xml").write_text(
        "<annotation><size><width>100</width><height>80</height></size><object><name>1</name>"
        "<bndbox><xmin>12</xmin><ymin>10</ymin><xmax>41</xmax><ymax>29</ymax></bndbox></object>"
        "</annotation>"
    )
    (root / "test.txt").write_text("2")
    picture.rename(root / "images" / "2.jpg")
    return root


def test_flickr_asks_for_boxed_phrases(toy, tmp_path):
    path, detector = toy
    sentences = ["[/EN#1/people A man] in [/EN#2/scene a park]", "[/EN#2/scene A park]"]
    root = write_flickr(tmp_path / "entities", sentences, path.parent / "2.png")
    detector.answers[2] = [([12, 10, 41, 29], 0.9, 0)]
    results = run_task(TaskOptions("flickr", split="test"), detector, [root], tmp_path / "out")
    assert results["metrics"]["R@1"] == 1.0
    assert {name.rpartition("/")[2] for name in results["metrics"]} == {*METRICS["flickr"]}
    assert detector.asked == [(2, "A man in a park")]
    again = run_task(TaskOptions("flickr", limit=1), detector, [root], tmp_path / "few")
    assert again["metrics"] == results["metrics"]


def test_backbone_sees_a_picture_once_for_all_sentences(toy, tmp_path, tiny_detector, monkeypatch):
    sentences = ["[/EN#1/people A man] stands", "Trees and [/EN#1/people a tall man]"]
    root = write_flickr(tmp_path / "entities", sentences, toy[0].parent / "2.png")
    seen = []
    encode = tiny_detector.model.encode_image
    monkeypatch.setattr(
        tiny_detector.model, "encode_image", lambda x: seen.append(len(x)) or encode(x)
    )
    run_task(TaskOptions("flickr"), tiny_detector, [root], tmp_path / "out")
    assert seen == [1]
    file = list(read_predictions(tmp_path / "out" / "predictions.jsonl"))
    assert [one.image_id for one in file] == ["2#0", "2#1"]
    prompts = Prompt("A man stands", (((0, 5),),)), Prompt("Trees and a tall man", (((10, 20),),))
    for one, prompt in zip(file, prompts, strict=True):
        [alone] = tiny_detector.stream(
            root / "images" / "2.jpg", prompt, options=PostprocessOptions()
        )
        assert len(one.scores) > 0
        np.testing.assert_array_equal(one.boxes, alone.detections.boxes)
        np.testing.assert_array_equal(one.scores, alone.detections.scores)


def test_unreadable_picture_is_said_for_each_of_its_sentences(toy, tmp_path, tiny_detector):
    sentences = ["[/EN#1/people A man] stands", "[/EN#1/people He] walks"]
    root = write_flickr(tmp_path / "entities", sentences, toy[0].parent / "2.png")
    (root / "images" / "2.jpg").write_bytes(b"no picture")
    results = run_task(TaskOptions("flickr"), tiny_detector, [root], tmp_path / "out")
    assert list(results["unreadable"]) == ["2#0", "2#1"]


@pytest.mark.parametrize(
    ("task", "count", "message"),
    [("voc", 1, "task 'voc' is not one of"), ("coco", 2, "takes one data set, got 2")],
)
def test_options_that_do_not_fit(toy, tmp_path, task, count, message):
    with pytest.raises(ConfigError, match=message):
        run_task(TaskOptions(task), toy[1], [toy[0]] * count, tmp_path)


def test_captions_have_no_average_precision(tmp_path, toy):
    path = tmp_path / "captions.json"
    path.write_text(
        '{"images": [{"id": 1, "file_name": "0.png", "width": 100, "height": 80}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "x"}]}'
    )
    with pytest.raises(ConfigError, match="holds captions"):
        run_task(TaskOptions("coco", images=toy[0].parent), toy[1], [path], tmp_path / "out")


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


def test_script_rescores_nothing_new_and_tells_of_pictures_it_could_not_read(
    toy, tmp_path, capsys, monkeypatch, main, tiny_file
):
    words = ["evaluate.py", "--task", "custom", "--data", str(toy[0]), "--device", "cpu"]
    words += ["--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, "--weights", str(tiny_file), "--rescore"])
    assert main() == 2
    assert "leave --weights out, or --rescore" in capsys.readouterr().err
    (toy[0].parent / "2.png").write_bytes(b"no picture")
    monkeypatch.setattr(sys, "argv", [*words, "--weights", str(tiny_file)])
    assert main() == 1


def test_script_measures_again(toy, tmp_path, capsys, monkeypatch, main):
    path, detector = toy
    output = str(tmp_path / "out")
    run_task(TaskOptions("custom"), detector, [path], output)
    arguments = ["--task", "custom", "--data", str(path), "--output", output, "--rescore"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    assert main() == 0
    assert capsys.readouterr().out.startswith("AP ")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments[:-2], "nowhere", "--rescore"])
    assert main() == 2
    assert "error: nowhere/predictions.jsonl cannot be opened" in capsys.readouterr().err


@pytest.fixture
def federated(toy):
    """Half of the pictures know cats only, the other half dogs and birds."""
    path, detector = toy
    content = json.loads(path.read_text())
    content["categories"].append({"id": 9, "name": "bird"})
    content["vocabularies"] = {"a": [5], "b": [6, 9]}
    for image in content["images"]:
        image["vocabulary"] = "ab"[image["id"] % 2]
    for number, answers in detector.answers.items():
        detector.answers[number] = [(box, score, 0) for box, score, _ in answers]
    path.write_text(json.dumps(content))
    return path, detector


def test_each_vocabulary_has_its_row(federated, tmp_path):
    path, detector = federated
    detector.answers[1] = []
    results = run_task(TaskOptions("custom"), detector, [path], tmp_path / "out")
    assert {text for _, text in detector.asked} == {"cat", "dog. bird"}
    assert results["metrics"]["a/AP50"] == pytest.approx(1.0)
    found = results["metrics"]["b/AP50"]
    assert found == pytest.approx(2 / 3, abs=0.01)
    assert results["metrics"]["AP50"] == pytest.approx((1 + found) / 2)
    header, a, b, mean = results_table(results).splitlines()
    assert header.split()[:3] == ["AP", "AP50", "AP75"]
    assert a.split()[:3] == ["a", "100.0", "100.0"] and b.split()[2] == f"{100 * found:.1f}"
    assert mean.split()[2] == f"{100 * results['metrics']['AP50']:.1f}"
    assert (
        run_task(TaskOptions("custom"), None, [path], tmp_path / "out")["metrics"]
        == results["metrics"]
    )


def test_detection_of_another_vocabulary_counts_nowhere(federated, tmp_path):
    path, detector = federated
    expected = run_task(TaskOptions("custom"), detector, [path], tmp_path / "out")["metrics"]
    file = tmp_path / "out" / "predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines[1:]:  # a dog in each picture of cats, a cat in each picture of dogs
        line["boxes"].append([0, 0, 50, 50])
        line["scores"].append(0.99)
        line["labels"].append(6 if line["labels"] == [5] else 5)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_task(TaskOptions("custom"), None, [path], tmp_path / "out")["metrics"] == expected


def test_classes_are_measured_by_other_words_as_well(federated, tmp_path):
    path, detector = federated
    detector.deaf_to = "puppy"
    words = {"dog": "puppy"}
    results = run_task(TaskOptions("custom", wordings=words), detector, [path], tmp_path / "out")
    assert [text for _, text in detector.asked] == ["cat", "dog. bird"] * 3 + ["puppy. bird"] * 3
    reworded = results["reworded"]
    assert reworded["wordings"] == words
    assert reworded["by_name"] == pytest.approx({"AP": 1.0, "AP50": 1.0})
    assert reworded["by_wording"] == {"AP": 0.0, "AP50": 0.0}
    assert results["metrics"]["AP50"] == pytest.approx(1.0)  # by the names, as without wordings
    assert [line.split() for line in results_table(results).splitlines()[-4:]] == [
        ["other", "words", "for", "1", "class(es)", "AP", "AP50"],
        ["by", "their", "names", "100.0", "100.0"],
        ["by", "the", "other", "words", "0.0", "0.0"],
        ["kept", "0.0", "0.0"],
    ]
    detector.asked.clear()
    again = run_task(TaskOptions("custom", wordings=words), detector, [path], tmp_path / "out")
    assert again == results and not detector.asked  # finished runs are not run again
    assert (
        run_task(TaskOptions("custom", wordings=words), None, [path], tmp_path / "out") == results
    )


def test_interrupted_second_wording_goes_on(federated, tmp_path):
    path, detector = federated
    detector.stop_after = 8
    with pytest.raises(KeyboardInterrupt):
        run_task(TaskOptions("custom", wordings={"cat": "feline"}), detector, [path], tmp_path)
    detector.stop_after = None
    results = run_task(
        TaskOptions("custom", wordings={"cat": "feline"}), detector, [path], tmp_path
    )
    assert len(detector.asked) == 9
    assert results["reworded"]["by_wording"] == results["reworded"]["by_name"]


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("custom", {"dgo": "puppy"}, "'dgo' is no class of .*did you mean 'dog'"),
        ("lvis", {"dog": "puppy"}, "not for lvis"),
    ],
)
def test_wordings_that_do_not_fit(toy, tmp_path, task, words, message):
    with pytest.raises(ConfigError, match=message):
        run_task(TaskOptions(task, wordings=words), toy[1], [toy[0]], tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must hold"),
        ("{}", "must hold"),
        ('{"cat": 3}', "for 'cat' must be text, got 3"),
        ("{", "not valid JSON"),
    ],
)
def test_damaged_wordings(tmp_path, content, message):
    path = tmp_path / "words.json"
    path.write_text(content)
    with pytest.raises(GlipError, match=message):
        read_other_words(path)


def test_chunks_share_the_limit_of_a_picture(toy, tmp_path):
    path, detector = toy
    detector.answers = {
        number: [([0, 0, 9, 9], 0.5 + number / 100, 0), ([20, 20, 30, 30], 0.3, 0)]
        for number in range(6)
    }
    run_task(TaskOptions("custom", chunk=1, max_detections=3), detector, [path], tmp_path / "out")
    for one in read_predictions(tmp_path / "out" / "predictions.jsonl"):
        # The third best has an equal, which stays (official).
        assert len(one.scores) == 4 and one.labels.tolist() == [5, 6, 5, 6]
    run_task(TaskOptions("custom", chunk=1, max_detections=2), detector, [path], tmp_path / "two")
    for one in read_predictions(tmp_path / "two" / "predictions.jsonl"):
        assert one.labels.tolist() == [5, 6]


def test_backbone_sees_a_picture_once_for_all_chunks(toy, tmp_path, tiny_detector, monkeypatch):
    path, _ = toy
    seen = []
    encode = tiny_detector.model.encode_image
    monkeypatch.setattr(
        tiny_detector.model, "encode_image", lambda x: seen.append(len(x)) or encode(x)
    )
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["frequency"] = "f"
    path.write_text(json.dumps(content))
    run_task(TaskOptions("lvis", chunk=1, limit=2), tiny_detector, [path], tmp_path / "out")
    assert seen == [1, 1]
    options = PostprocessOptions(max_detections=300)
    file = read_predictions(tmp_path / "out" / "predictions.jsonl")
    for number, one in enumerate(file):
        apart = [
            next(tiny_detector.stream(path.parent / f"{number}.png", [name], options=options))
            for name in ("cat", "dog")
        ]
        boxes = np.concatenate([part.detections.boxes for part in apart])
        scores = np.concatenate([part.detections.scores for part in apart])
        assert len(scores) > 0
        np.testing.assert_array_equal(one.boxes, boxes)
        np.testing.assert_array_equal(one.scores, scores)


def test_batches_give_what_single_pictures_give(toy, tmp_path, tiny_detector):
    path, _ = toy
    Image.new("RGB", (60, 120), (200, 30, 9)).save(path.parent / "1.png")  # another padded size
    content = json.loads(path.read_text())
    content["images"][1] |= {"width": 60, "height": 120}
    path.write_text(json.dumps(content))
    files = []
    for size in (1, 4):
        run_task(
            TaskOptions("custom", batch_size=size), tiny_detector, [path], tmp_path / str(size)
        )
        files.append(list(read_predictions(tmp_path / str(size) / "predictions.jsonl")))
    for one, other in zip(*files, strict=True):
        assert one.image_id == other.image_id and len(one.scores)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
