"""Parts of a data set, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.formats.recognise import evaluated_part, read_annotated
from glip.errors import DataError
from tests.data.formats.trees import CAT, boxes_of, coco, grow


def test_parts_are_joined_by_the_names_of_their_classes(tmp_path: Path) -> None:
    val = coco("a.png")
    val["categories"] = [{"id": 1, "name": "dog"}, {"id": 5, "name": "cat"}]
    val["annotations"][0]["category_id"] = 5
    tree = {"train/_annotations.coco.json": coco("a.png"), "valid/_annotations.coco.json": val}
    grow(tmp_path, {**tree, "train/a.png": None, "valid/a.png": None})
    found = read_annotated(tmp_path)
    assert boxes_of(found) == {"train/a.png": CAT, "valid/a.png": CAT}
    assert found.data.names == ("cat", "dog") and found.pictures.root == tmp_path
    assert len({record.image_id for record in found.data.records}) == 2
    assert found.pictures.read("valid/a.png").size == (60, 40)
    assert boxes_of(read_annotated(tmp_path, split="val")) == {"a.png": CAT}
    with pytest.raises(DataError, match="has no part test, only train, val"):
        read_annotated(tmp_path, split="test")


def test_what_is_held_out_is_evaluated_on(tmp_path: Path) -> None:
    grow(tmp_path, {"train.json": coco("a.png"), "val.json": coco("b.png"), "a.png": None})
    assert evaluated_part(tmp_path).path == tmp_path / "val.json"
    assert evaluated_part(tmp_path, "train") == (tmp_path, "train")
    assert evaluated_part(tmp_path / "train.json") == (tmp_path / "train.json", None)


def test_classes_and_captions_are_not_joined(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40, "caption": "a cat"}]
    captions = {"images": images, "annotations": []}
    grow(tmp_path, {"train.json": coco("a.png"), "val.json": captions, "a.png": None})
    with pytest.raises(DataError, match="parts with classes and parts with captions"):
        read_annotated(tmp_path)


def test_a_class_in_two_unicode_forms_is_one(tmp_path: Path) -> None:
    """In the lines of a file, in the labels of a tool and in the parts of a folder."""
    two = coco("a.png")
    for part, name in (("train", "caf\u00e9"), ("valid", "cafe\u0301")):
        two["categories"][0]["name"] = name
        grow(tmp_path / "parts" / part, {"_annotations.coco.json": two, "a.png": None})
    lines = "a.png,1,2,31,22,caf\u00e9\nb.png,1,2,31,22,cafe\u0301\n"
    table = grow(tmp_path / "table", {"boxes.csv": lines, "a.png": None, "b.png": None})
    for place in (tmp_path / "parts", table / "boxes.csv"):
        found = boxes_of(read_annotated(place))
        assert [[name for name, _ in boxes] for boxes in found.values()] == [["caf\u00e9"]] * 2
    asked = read_annotated(table / "boxes.csv", classes=["bar", "cafe\u0301"]).data
    assert asked.names == ("bar", "caf\u00e9")
