"""MDETR, ODVG and caption files."""

import json
import logging

import numpy as np
import pytest

from glip.data.formats.mdetr import parse_grounding
from glip.data.formats.odvg import read_odvg_detection, to_odvg, write_grounding
from glip.data.formats.recognise import read_annotated, read_grounding
from glip.data.formats.spans import checked_phrase
from glip.data.records import GroundingRecord
from glip.errors import DataError

CAPTION = "a red box left of a blue box"


@pytest.fixture
def mdetr():
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 60, "height": 40, "caption": CAPTION},
            {"id": 2, "file_name": "b.png", "width": 40, "height": 60, "caption": "two boxes"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [10, 5, 20, 10], "tokens_positive": [[0, 9]]},
            {"id": 2, "image_id": 1, "bbox": [30, 20, 10, 10], "tokens_positive": [[18, 28]]},
            {"id": 3, "image_id": 2, "bbox": [0, 0, 5, 5], "tokens_positive": [[0, 9]]},
            {"id": 4, "image_id": 2, "bbox": [5, 5, 5, 5], "tokens_positive": [[4, 9], [0, 3]]},
            {"id": 5, "image_id": 2, "bbox": [9, 9, 5, 5], "tokens_positive": [[0, 9]]},
        ],
        "categories": [{"id": 1, "name": "object"}],
    }


def test_boxes_of_equal_spans_share_a_phrase(mdetr, tmp_path):
    first, second = parse_grounding(mdetr, tmp_path).records
    assert first.phrases == (((0, 9),), ((18, 28),))
    assert [CAPTION[a:b] for ((a, b),) in first.phrases] == ["a red box", "a blue box"]
    assert first.boxes.tolist() == [[10, 5, 30, 15], [30, 20, 40, 30]]
    assert second.phrases == (((0, 9),), ((0, 3), (4, 9)))
    assert second.owners.tolist() == [0, 1, 0]
    assert second.scores is None


def test_boxes_without_words_are_left_out_and_counted(mdetr, tmp_path, caplog):
    mdetr["annotations"][0]["tokens_positive"] = []
    with caplog.at_level(logging.WARNING):
        data = parse_grounding(mdetr, tmp_path / "m.json")
    assert len(data.records[0].boxes) == 1
    assert "boxes belong to no word and are left out (1)" in caplog.text


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[0, 3]], ((0, 3),)),
        ([[4, 9], [0, 3]], ((0, 3), (4, 9))),
        ([[0, 5], [3, 9]], ((0, 9),)),
        ([[0, 3], [3, 9]], ((0, 9),)),
        ([[0, 29]], None),
        ([[3, 3]], None),
        ([[-1, 3]], None),
        ([[1, 2]], None),  # a blank
        ([0, 3], None),
        ("ab", None),
    ],
)
def test_spans_of_a_phrase(spans, expected):
    assert checked_phrase(spans, CAPTION) == expected


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda m: m["annotations"][0].update(tokens_positive=[[0, 99]]),
            r"has \[\[0, 99\]\] in 28 characters",
        ),
        (lambda m: m["annotations"][0].update(bbox="x"), r"annotation 1 \(image 1\) has bbox x"),
        (lambda m: m["annotations"][0].update(image_id=7), "belongs to image 7"),
        (lambda m: m["images"][0].pop("caption"), "image 1 has the caption None"),
        (lambda m: m["images"][0].pop("height"), "image 1 has no positive width and height"),
        (lambda m: m["images"].append(m["images"][0]), "id 1; 1 of 3 images cannot"),
        (lambda m: m.pop("images"), "no list 'images'"),
    ],
)
def test_broken_file_names_its_first_fault(mdetr, tmp_path, spoil, message):
    spoil(mdetr)
    with pytest.raises(DataError, match=message):
        parse_grounding(mdetr, tmp_path / "broken.json")


def test_coco_captions_are_records_without_boxes(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 6, "height": 4}],
        "annotations": [
            {"id": 1, "image_id": 1, "caption": "a box"},
            {"id": 2, "image_id": 1, "caption": "two boxes"},
        ],
    }
    records = list(parse_grounding(content, tmp_path).records)
    assert [record.caption for record in records] == ["a box", "two boxes"]
    assert all(len(record.boxes) == 0 and record.phrases == () for record in records)


def test_odvg_lines_come_back_as_written(tmp_path):
    record = GroundingRecord(
        image_id=7,
        file_name="ä.png",
        image_hw=(40, 60),
        caption=CAPTION,
        phrases=(((0, 9),), ((2, 5), (25, 28))),
        boxes=np.array([[1, 2, 3, 4], [5, 6, 7, 8.5], [0, 0, 1, 1]]),
        owners=np.array([0, 1, 0]),
        scores=np.array([0.5, 0.75, 1], dtype=np.float32),
    )
    [back] = read_grounding(write_grounding([record], tmp_path / "out.jsonl")).records
    assert to_odvg(back) == to_odvg(record)
    assert to_odvg(record)["grounding"]["regions"][1]["phrase"] == "red box"
    assert not list(tmp_path.glob(".*"))


def test_parts_of_an_odvg_folder_are_read_by_name(tmp_path, draw):
    def record(number):
        return GroundingRecord(
            number, "a.png", (40, 60), "a box", (((0, 5),),), np.ones((1, 4)), np.array([0])
        )

    write_grounding([record(3)], tmp_path / "part-2.jsonl")
    write_grounding([record(1), record(2)], tmp_path / "part-1.jsonl")
    draw(60, 40).save(tmp_path / "a.png")
    assert [record.image_id for record in read_grounding(tmp_path).records] == [1, 2, 3]
    annotated = read_annotated(tmp_path)
    assert len(annotated.data) == 3 and "a.png" in annotated.pictures
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no part of a grounding data set"):
        read_grounding(tmp_path / "empty")


def test_odvg_phrase_without_spans_is_looked_for(tmp_path):
    line = {
        "filename": "a.png",
        "height": 40,
        "width": 60,
        "grounding": {
            "caption": "A red box",
            "regions": [{"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "phrase": "red box"}],
        },
    }
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(line) + "\n\n")
    [record] = read_grounding(path).records
    assert record.phrases == (((2, 9),),)
    assert record.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    line["grounding"]["regions"][0]["phrase"] = "green box"
    path.write_text(json.dumps(line))
    with pytest.raises(DataError, match=r"x.jsonl:1: phrase 'green box' is not in the caption"):
        read_grounding(path)


def test_odvg_with_labels_needs_a_label_map(tmp_path):
    path, label_map = tmp_path / "x.jsonl", tmp_path / "labels.json"
    line = {
        "filename": "a.png",
        "height": 40,
        "width": 60,
        "detection": {"instances": [{"bbox": [1, 2, 3, 4], "label": 5, "category": "box"}]},
    }
    path.write_text(json.dumps(line))
    label_map.write_text(json.dumps({"5": "box", "2": "disc"}))
    data = read_odvg_detection(path, label_map)
    assert data.names == ("disc", "box")
    assert data.records[0].labels.tolist() == [1]
    with pytest.raises(DataError, match="has no 'grounding'"):
        read_grounding(path)
    label_map.write_text(json.dumps({"2": "disc"}))
    with pytest.raises(DataError, match="label 5 is not in"):
        read_odvg_detection(path, label_map)


def test_grounding_files_are_named_jsonl(tmp_path):
    with pytest.raises(DataError, match=r"name it .*x.jsonl"):
        write_grounding([], tmp_path / "x.json")
