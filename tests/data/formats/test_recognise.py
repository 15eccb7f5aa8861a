"""Formats that are recognised, and those that are folders."""

import json

import numpy as np
import pytest

from glip.data.formats.recognise import Part, read_annotated, recognise, train_and_val
from glip.data.records import DetectionData, GroundingData
from glip.errors import DataError
from tests.data.formats.trees import coco


@pytest.fixture
def yolo(tmp_path, draw):
    for split in ("train", "valid"):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labels").mkdir()
    draw(60, 40).save(tmp_path / "train" / "images" / "a.png")
    draw(50, 50).save(tmp_path / "train" / "images" / "empty.png")
    draw(40, 60).save(tmp_path / "valid" / "images" / "b.png")
    (tmp_path / "train" / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.5\n\n0 0.1 0.1 0.1 0.1\n")
    (tmp_path / "valid" / "labels" / "b.txt").write_text("0 0 0 1 0 1 1 0 0.5\n")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n"
    )
    return tmp_path


def test_yolo_boxes_are_pixels(yolo):
    annotated = read_annotated(yolo, split="train")
    data = annotated.data
    assert data.names == ("cat", "dog") and data.category_ids == (0, 1)
    first, empty = data.records
    assert first.file_name == "train/images/a.png" and first.image_hw == (40, 60)
    np.testing.assert_allclose(first.boxes, [[24, 10, 36, 30], [3, 2, 9, 6]])
    assert first.labels.tolist() == [1, 0]
    assert empty.boxes.shape == (0, 4)
    assert annotated.pictures.read(first.file_name).size == (60, 40)


def test_yolo_polygon_is_its_box_and_all_splits_are_read(yolo):
    data = read_annotated(yolo).data
    assert len(data) == 3
    assert data.records[2].boxes.tolist() == [[0, 0, 40, 60]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 0.5 0.5 0.1 0.1", r"a.txt:1: class 7 is not in .*data.yaml"),
        ("0 0.5 0.5 0.1", r"a.txt:1 is not 'class x y width height'"),
        ("cat 0.5 0.5 0.1 0.1", r"a.txt:1 is not numbers"),
    ],
)
def test_broken_yolo_line_is_named(yolo, line, message):
    (yolo / "train" / "labels" / "a.txt").write_text(line)
    with pytest.raises(DataError, match=message):
        read_annotated(yolo)


def test_yolo_without_names(yolo):
    (yolo / "data.yaml").write_text("train: x\n")
    with pytest.raises(DataError, match="needs 'names'"):
        read_annotated(yolo)


def test_yolo_split_that_is_not_named_is_no_other(yolo):
    (yolo / "data.yaml").write_text("train: train/images\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match=r"data.yaml names no pictures for test, only for train"):
        read_annotated(yolo, split="test")


def test_yolo_pictures_may_lie_elsewhere(yolo, tmp_path_factory):
    far = tmp_path_factory.mktemp("far") / "data.yaml"
    far.write_text(f"path: {yolo}\ntrain: train/images\nnames: [cat, dog]\n")
    annotated = read_annotated(far.parent)
    first = annotated.data.records[0]
    assert first.file_name == "train/images/a.png" and first.labels.tolist() == [1, 0]
    assert annotated.pictures.read(first.file_name).size == (60, 40)


VOC = """<annotation><filename>a.png</filename>
<size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
  <bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
  <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>60</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def voc(tmp_path, draw):
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    draw(60, 40).save(tmp_path / "JPEGImages" / "a.png")
    (tmp_path / "Annotations" / "a.xml").write_text(VOC)
    (tmp_path / "Annotations" / "z.xml").write_text("<annotation>")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    return tmp_path


def test_voc_counts_from_one(voc):
    annotated = read_annotated(voc, split="val")
    assert annotated.data.names == ("cat", "dog")
    [record] = annotated.data.records
    assert record.boxes.tolist() == [[10, 5, 30, 15], [0, 0, 60, 40]]
    assert record.labels.tolist() == [1, 0] and record.crowd.tolist() == [False, True]
    assert "a.png" in annotated.pictures


def test_voc_lists_name_pictures_whose_names_have_blanks(voc):
    for name, line in (("a b", "a b"), ("b 1", "b 1  1"), ("c", "c -1")):
        (voc / "Annotations" / f"{name}.xml").write_text(VOC)
        (voc / "ImageSets" / "Main" / "val.txt").write_text(f"{line}\n\n")
        assert len(read_annotated(voc, split="val").data) == 1, line


def test_broken_voc_file_is_named(voc):
    with pytest.raises(DataError, match=r"z.xml is not valid XML"):
        read_annotated(voc)
    with pytest.raises(DataError, match=r"train.txt does not exist"):
        read_annotated(voc, split="train")


def test_every_format_is_recognised(coco, tmp_path, yolo, voc):
    (coco.parent / "coco2").mkdir()
    exported = coco.parent / "coco2" / "_annotations.coco.json"
    exported.write_text(coco.read_text())
    for name in "abc":
        (coco.parent / f"{name}.png").rename(coco.parent / "coco2" / f"{name}.png")
    odinw = read_annotated(coco.parent / "coco2")
    assert isinstance(odinw.data, DetectionData) and "c.png" in odinw.pictures
    assert recognise(yolo)[0] == "yolo"
    captions = tmp_path / "captions.json"
    captions.write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "width": 6, "height": 4}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "x"}]}'
    )
    read = read_annotated(captions, coco.parent / "coco2")
    assert isinstance(read.data, GroundingData)


def test_what_is_no_data_set_says_what_would_be(tmp_path):
    with pytest.raises(DataError, match=r"no data set that is known.*glip label makes one"):
        read_annotated(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_annotated(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("x.parquet", "a Parquet table; write its rows as COCO"),
        ("x.tfrecord-00000-of-00010", "a TensorFlow record; export the data set as COCO"),
        ("wider_face_train_bbx_gt.txt", "convert KITTI, WIDER FACE and others to COCO"),
    ],
)
def test_formats_that_are_not_read_are_named_with_the_way_out(tmp_path, name, way_out):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=way_out):
        read_annotated(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "train", "val"),
    [
        (["train/_annotations.coco.json", "valid/_annotations.coco.json"], 0, 1),
        (["train.json", "val.json", "images.tar"], 0, 1),
        (["annotations/train.json", "annotations/val.json"], 0, 1),
        (["_annotations.coco.json"], None, None),
        (["train.json", "notes.txt"], 0, None),
        (["all.json"], None, None),
    ],
)
def test_files_of_a_folder_that_say_what_to_train_on(tmp_path, files, train, val):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    expected = (
        Part(tmp_path if train is None else tmp_path / files[train]),
        None if val is None else Part(tmp_path / files[val]),
    )
    assert train_and_val(tmp_path) == expected
    assert train_and_val(tmp_path / files[0]) == (Part(tmp_path / files[0]), None)


def test_splits_of_a_folder_that_say_what_to_train_on(yolo, tmp_path):
    assert train_and_val(yolo) == (Part(yolo, "train"), Part(yolo, "val"))
    (yolo / "data.yaml").write_text("train: train/images\nnames: [cat, dog]\n")
    assert train_and_val(yolo) == (Part(yolo), None)
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").touch()
    assert train_and_val(tmp_path / "voc") == (
        Part(tmp_path / "voc", "train"),
        Part(tmp_path / "voc", "val"),
    )
    with pytest.raises(DataError, match="does not exist"):
        train_and_val(tmp_path / "nowhere")


FOREIGN = {
    "FiftyOne's own format": {"classes": ["cat"], "labels": {"a": []}},
    "in FiftyOne": {"samples": []},
    "Supervisely": {"classes": [{"title": "cat"}], "tags": []},
    "VoTT": {"assets": {}, "tags": []},
    "datumaro": {"items": [], "categories": {}},
}


@pytest.mark.parametrize("program", FOREIGN)
def test_what_other_programs_keep_for_themselves_is_named(tmp_path, program):
    (tmp_path / "labels.json").write_text(json.dumps(FOREIGN[program]))
    with pytest.raises(DataError, match=rf"labels\.json is .*{program}.*; export it as"):
        read_annotated(tmp_path / "labels.json")


@pytest.mark.parametrize("name", ["train.json", "_annotations.coco.json", "all.jsonl"])
def test_part_of_what_has_none_is_refused(tmp_path, draw, name):
    """A file, and a folder that is one file."""
    draw(60, 40).save(tmp_path / "a.png")
    if name.endswith("l"):
        line = {"filename": "a.png", "height": 40, "width": 60}
        box = {"bbox": [1, 2, 3, 4], "phrase": "cat"}
        content = line | {"grounding": {"caption": "a cat", "regions": [box]}}
    else:
        content = coco("a.png")
    (tmp_path / name).write_text(json.dumps(content))
    assert len(read_annotated(tmp_path / name).data) == 1
    places = [tmp_path / name, tmp_path] if name.startswith("_") else [tmp_path / name]
    for place in places:
        with pytest.raises(
            DataError, match=rf"{name} has no part val, .*: leave the split out, or"
        ):
            read_annotated(place, split="val")
