"""Data that gives numbers without a meaning is said to, before it is evaluated on."""

import json
import logging

import pytest
from PIL import Image

from glip.data.formats.recognise import READERS
from glip.errors import DataError
from glip.evaluation.config import TaskOptions
from glip.evaluation.doubts import doubts_about, read_with_doubts
from glip.evaluation.tasks import run_task


def test_sound_data_leaves_no_doubt(toy, caplog):
    caplog.set_level(logging.WARNING)
    doubts = doubts_about(toy[0])
    assert not any("size" in doubt for doubt in doubts)
    assert [record.getMessage() for record in caplog.records] == [f"{toy[0]}: {d}" for d in doubts]


def test_data_with_its_doubts_is_read_once(toy, tmp_path, caplog, monkeypatch):
    read = []

    def reader(request, own=READERS["coco"]):
        read.append(request.path)
        return own(request)

    monkeypatch.setitem(READERS, "coco", reader)
    halved(toy[0].parent / "0.png")
    assert len(read_with_doubts(toy[0]).data) > 0
    assert read == [toy[0]] and "another size" in caplog.text
    with pytest.raises(DataError, match=r"none.json does not exist"):
        read_with_doubts(tmp_path / "none.json")


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
