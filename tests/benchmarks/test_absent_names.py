import pytest
from absent_names import count

from glip.data.formats.coco import parse_detection
from glip.evaluation.predictions import prediction


def test_boxes_of_absent_names_are_counted_and_unknown_ones_are_not(tmp_path):
    content = {
        "categories": [{"id": n, "name": name} for n, name in ((3, "cat"), (5, "dog"), (8, "cow"))],
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 90, "height": 90, "neg_category_ids": [5]},
            {"id": 2, "file_name": "b.jpg", "width": 90, "height": 90, "neg_category_ids": [3, 5]},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 20, 20]}],
    }
    boxes = [[0, 0, 20, 20], [0, 0, 20, 20], [0, 0, 20, 20], [50, 50, 60, 60]]
    found = [
        prediction(1, boxes, [0.9, 0.8, 0.6, 0.55], [3, 5, 3, 8]),
        prediction(2, boxes[:1], [0.7], [3]),
    ]
    low, high = count(parse_detection(content, tmp_path / "d.json"), found, [0.5, 0.75])
    assert (low.absent, high.absent) == (1.0, 0.5)  # "cow": nobody looked for it
    assert (low.precision, low.recall) == (pytest.approx(1 / 5), 1)  # the same thing counts once
    assert (high.precision, high.recall) == (pytest.approx(1 / 2), 1)
