from random import Random

import pytest
from asked_alone import Question, questions, ranking

from glip.data.formats.coco import parse_detection


def test_what_is_there_is_asked_for_and_some_of_what_is_known_to_be_absent(tmp_path):
    content = {
        "categories": [{"id": n, "name": name} for n, name in ((3, "cat"), (5, "dog"), (8, "cow"))],
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 90, "height": 90, "neg_category_ids": [5]},
            {"id": 2, "file_name": "b.jpg", "width": 90, "height": 90, "neg_category_ids": [3, 5]},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 20, 20]},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [30, 0, 20, 20]},
        ],
    }
    data = parse_detection(content, tmp_path / "d.json")
    asked = list(questions(data, 9, Random(0)))
    assert asked[:2] == [Question("a.jpg", "cat", True), Question("a.jpg", "dog", False)]
    # "cow": nobody looked for it.
    assert set(asked[2:]) == {Question("b.jpg", name, False) for name in ("cat", "dog")}
    assert len(list(questions(data, 1, Random(0)))) == 3


def test_ranking_is_the_area_under_the_roc_curve():
    assert ranking([0.9, 0.8, 0.3, 0.1], [True, True, False, False]) == 1
    assert ranking([0.9, 0.2, 0.5, 0.5], [True, False, True, False]) == pytest.approx(0.875)
    assert ranking([0.4, 0.4], [True, False]) == 0.5
