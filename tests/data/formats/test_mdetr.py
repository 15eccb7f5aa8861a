"""MDETR and caption files."""

import logging

import pytest

from glip.data.formats.mdetr import parse_grounding
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
