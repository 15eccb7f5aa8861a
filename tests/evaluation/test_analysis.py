"""What each detection met, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from glip.data.formats.coco import parse_detection
from glip.evaluation.analysis import (
    IGNORED,
    KINDS,
    RIGHT,
    at,
    average_precision,
    best_threshold,
    confusions,
    cost_of_errors,
    curve_of,
    judge,
    missed,
    of_photo,
    overlap,
    worst_photos,
)
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.predictions import prediction

CATS, DOGS = 5, 6
CONTENT = {
    "images": [
        {"id": number, "file_name": f"{number}.png", "width": 200, "height": 100}
        for number in (1, 2)
    ],
    "categories": [{"id": CATS, "name": "cat"}, {"id": DOGS, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": CATS, "bbox": [0, 0, 20, 20]},
        {"id": 2, "image_id": 1, "category_id": DOGS, "bbox": [50, 0, 20, 20]},
        {"id": 3, "image_id": 1, "category_id": CATS, "bbox": [100, 0, 50, 50], "iscrowd": 1},
        {"id": 4, "image_id": 2, "category_id": CATS, "bbox": [0, 0, 20, 20]},
    ],
}
FOUND = [  # box, score, class, what it is
    ([0, 0, 20, 20], 0.9, CATS, "right"),
    ([1, 0, 21, 20], 0.8, CATS, "twice"),
    ([50, 0, 70, 20], 0.7, CATS, "class"),
    ([50, 0, 70, 10], 0.6, DOGS, "right"),  # exactly half of it
    ([50, 0, 60, 9], 0.5, DOGS, "place"),
    ([60, 0, 80, 20], 0.4, CATS, "both"),
    ([180, 80, 199, 99], 0.3, CATS, "background"),
    ([110, 10, 120, 20], 0.2, CATS, "ignored"),  # in the crowd
]


@pytest.fixture
def judged():
    data = parse_detection(CONTENT, Path("toy.json"))
    boxes, scores, labels, _ = zip(*FOUND, strict=True)
    return judge(data, {1: prediction(1, boxes, scores, labels)})


def test_every_detection_has_its_kind(judged):
    names = {RIGHT: "right", IGNORED: "ignored", **dict(enumerate(KINDS))}
    assert [names[kind] for kind in judged.kind.tolist()] == [row[3] for row in FOUND]
    assert judged.found.tolist() == [True, True, False]
    assert judged.met.tolist() == [0, 0, 1, 1, 1, 1, -1, -1]


@pytest.mark.parametrize(
    "known",
    [
        {"neg_category_ids": []},  # nobody has looked for dogs
        {"neg_category_ids": [DOGS], "not_exhaustive_category_ids": [DOGS]},
    ],
)
def test_what_may_be_there_without_a_box_is_no_error(known):
    images = [CONTENT["images"][0], {**CONTENT["images"][1], **known}]
    data = parse_detection({**CONTENT, "images": images}, Path("toy.json"))
    boxes = [[150, 0, 170, 20], [150, 0, 170, 20]]
    judged = judge(data, {2: prediction(2, boxes, [0.9, 0.8], [DOGS, CATS])})
    assert judged.kind.tolist() == [IGNORED, KINDS.index("background")]


def test_curves_and_thresholds(judged):
    cats = curve_of(*judged.of_class(0))
    assert cats.recall.tolist() == [0.5] * 5
    assert cats.precision.tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert best_threshold(cats) == pytest.approx(0.85)  # between the first and the second
    assert at(cats, 0.85) == pytest.approx((1, 0.5, 2 / 3))
    assert at(cats, 0.95) == (0, 0, 0)
    assert len(curve_of(np.zeros(0), np.zeros(0, dtype=bool), 0).f1) == 0
    assert best_threshold(curve_of(np.array([0.4]), np.array([False]), 3)) == 0.3


def test_what_is_taken_for_what(judged):
    # A cat found, one missed; the dog was found, and called a cat; cats are found where nothing is
    # (background), where something else is (both), and twice.
    assert confusions(judged, [0.1, 0.1]).tolist() == [[1, 0, 1], [1, 1, 0], [3, 1, 0]]
    assert confusions(judged, [0.75, 0.1]).tolist() == [[1, 0, 1], [0, 1, 0], [1, 1, 0]]


def test_photos_with_most_errors(judged):
    # Above 0.1: twice, class, place, both and background in the first, a missed cat in the second.
    first, second = worst_photos(judged, [0.1, 0.1], 2)
    assert first == (0, {"class": 1, "place": 1, "both": 1, "twice": 1, "background": 1})
    assert second == (1, {"missed": 1}) and (first.total, second.total) == (5, 1)
    # Above 0.65 the dog is missed.
    assert [one.total for one in worst_photos(judged, [0.65, 0.65], 2)] == [3, 1]


def test_a_photo_by_itself(judged):
    kinds, found = of_photo(judged, [0.65, 0.65], 0)
    assert kinds.tolist() == [RIGHT, KINDS.index("twice"), KINDS.index("class"), *[IGNORED] * 5]
    assert found.tolist() == [True, False]
    assert of_photo(judged, [0.65, 0.65], 1)[1].tolist() == [False]


def test_what_nothing_was_found_for(judged):
    assert missed(judged).tolist() == [False, False, True]


def test_cost_of_each_kind(judged):
    costs = cost_of_errors(judged)
    # Cats: one of two found at once, AP 51/101. Dogs: found at once, AP 1.
    assert costs["background"] == costs["twice"] == costs["both"] == pytest.approx(0)
    assert costs["class"] == costs["place"] == pytest.approx(0)  # the dog is found anyway
    assert costs["missed"] == pytest.approx((1 - 51 / 101) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_precision_is_that_of_coco(random_case, seed):
    data, predictions, _ = random_case(seed)
    evaluator = CocoEvaluator(data)
    for one in predictions:
        evaluator.update(one)
    judged = judge(data, {one.image_id: one for one in predictions})
    own = [average_precision(*judged.of_class(row)) for row in range(judged.classes)]
    assert np.nanmean(own) == pytest.approx(evaluator.compute()["AP50"], abs=0.01)
    assert all(cost >= -1e-9 for cost in cost_of_errors(judged).values())


def test_nothing_predicted_is_all_missed():
    judged = judge(parse_detection(CONTENT, Path("toy.json")), {})
    assert not judged.found.any()
    assert cost_of_errors(judged)["missed"] >= 0
    assert missed(judged).all()
    assert worst_photos(judged, [0.5, 0.5], 2) == [(0, {"missed": 2}), (1, {"missed": 1})]


def test_share_of_the_first():
    boxes, others = np.array([[0, 0, 10, 10.0]]), np.array([[5, 0, 25, 10.0], [20, 0, 30, 10]])
    assert overlap(boxes, others).tolist() == [[0.2, 0.0]]
    assert overlap(boxes, others, of_first=True).tolist() == [[0.5, 0.0]]
