"""Data that gives numbers without a meaning is said to, before it is evaluated on."""

import json
import logging

import pytest
from PIL import Image

from glip.data.formats.recognise import READERS
from glip.errors import DataError
from glip.evaluation.config import EvaluationConfig, TaskOptions
from glip.evaluation.doubts import read_with_doubts
from glip.evaluation.tasks import evaluate_on, read_evaluation, run_task


def test_sound_data_leaves_no_doubt(toy, caplog):
    caplog.set_level(logging.WARNING)
    _, doubts = read_with_doubts(toy[0])
    assert not any("size" in doubt for doubt in doubts)
    assert [record.getMessage() for record in caplog.records] == [f"{toy[0]}: {d}" for d in doubts]


@pytest.fixture
def read(monkeypatch):
    """Paths of the COCO files that are read from now on."""
    paths = []

    def reader(request, own=READERS["coco"]):
        paths.append(request.path)
        return own(request)

    monkeypatch.setitem(READERS, "coco", reader)
    return paths


def test_data_with_its_doubts_is_read_once(toy, tmp_path, caplog, read):
    halved(toy[0].parent / "0.png")
    annotated, doubts = read_with_doubts(toy[0])
    assert len(annotated.data) > 0 and len(doubts) > 0
    assert read == [toy[0]] and "another size" in caplog.text
    with pytest.raises(DataError, match=r"none.json does not exist"):
        read_with_doubts(tmp_path / "none.json")


@pytest.mark.parametrize("task", ["custom", "lvis", "odinw"])
def test_an_evaluation_reads_its_data_once(toy, tmp_path, read, task):
    path, detector = toy
    content = json.loads(path.read_text())
    content["categories"] = [one | {"frequency": "f"} for one in content["categories"]]
    path.write_text(json.dumps(content))
    run_task(TaskOptions(task, examine=True), detector, [path], tmp_path / "out")
    assert read == [path]


def test_evaluations_of_a_run_share_what_is_read(toy, tmp_path, read):
    path, detector = toy
    config = EvaluationConfig(str(path), task="custom")
    annotated = read_evaluation(config, examine=True)
    for step in range(2):
        evaluate_on(config, detector, tmp_path / str(step), annotated=annotated)
    assert read == [path]


def test_a_folder_is_read_as_it_is_evaluated(toy):
    path, _ = toy
    folder = path.parent
    content = json.loads(path.read_text())
    (folder / "train.json").write_text(json.dumps(content))
    few = content | {"images": content["images"][:1]}
    few["annotations"] = [a for a in few["annotations"] if a["image_id"] == few["images"][0]["id"]]
    (folder / "val.json").write_text(json.dumps(few))
    path.unlink()
    assert len(read_evaluation(EvaluationConfig(str(folder), task="custom")).data) == 1


def test_what_the_reader_says_is_not_said_twice(toy, tmp_path, caplog):
    path, detector = toy
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"export/{image['file_name']}"
    path.write_text(json.dumps(content))
    results = run_task(TaskOptions(), detector, [path], tmp_path / "out")
    said = [record.getMessage() for record in caplog.records]
    for places in (results["doubts"], said):
        assert sum("what they end in" in message for message in places) == 1


def halved(path):
    Image.open(path).resize((50, 40)).save(path)


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side, which whoever labelled it did not see
    Image.open(path).copy().save(path, exif=exif)


@pytest.mark.parametrize("spoil", [halved, turned])
def test_photos_that_were_changed_after_labelling(toy, tmp_path, caplog, spoil):
    path, detector = toy
    for picture in path.parent.glob("*.png"):
        spoil(picture)
    results = run_task(TaskOptions(), detector, [path], tmp_path / "out")
    assert any("100" in doubt and "80" in doubt for doubt in results["doubts"])
    assert any("toy.json" in record.getMessage() for record in caplog.records)
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["doubts"] == results["doubts"]


def test_nobody_asked(toy, tmp_path):
    path, detector = toy
    halved(path.parent / "0.png")
    results = run_task(TaskOptions(examine=False), detector, [path], tmp_path / "out")
    assert "doubts" not in results
