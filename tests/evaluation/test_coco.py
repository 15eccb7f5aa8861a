"""COCO average precision, plain and federated."""

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from glip.data.formats.coco import parse_detection
from glip.errors import DataError
from glip.evaluation.average_precision import MODULES
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.predictions import prediction

INSTALLED = [name for name, module in MODULES.items() if find_spec(module)]


def measured(data, predictions, **options):
    evaluator = CocoEvaluator(data, **options)
    for one in predictions:
        evaluator.update(one)
    return evaluator.compute()


def pycocotools_stats(content, predictions):
    """The twelve numbers as anybody computes them from a results file."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = [
        {
            "image_id": one.image_id,
            "category_id": int(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for one in predictions
        for (x1, y1, x2, y2), score, label in zip(
            one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("seed", range(5))
def test_plain_coco_gives_the_numbers_of_pycocotools(random_case, backend, seed):
    data, predictions, content = random_case(seed)
    got = measured(data, predictions, backend=backend)
    sizes = ["APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert list(got) == ["AP", "AP50", "AP75", *sizes]
    np.testing.assert_allclose(
        list(got.values()), pycocotools_stats(content, predictions), atol=1e-12
    )


def test_order_of_predictions_does_not_matter(random_case):
    data, predictions, _ = random_case(7)
    assert measured(data, predictions) == measured(data, predictions[::-1])


def test_ids_may_be_words(random_case):
    data, predictions, content = random_case(3)
    for image in content["images"]:
        image["id"] = f"picture {image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"picture {annotation['image_id']}"
    named = parse_detection(content, Path("named.json"))
    renamed = [p._replace(image_id=f"picture {p.image_id}") for p in predictions]
    assert measured(named, renamed) == measured(data, predictions)


def toy(**image):
    """Two pictures of two classes; the second one has a box of class 1 only."""
    return {
        "images": [
            {"id": 1, "file_name": "a", "width": 100, "height": 100},
            {"id": 2, "file_name": "b", "width": 100, "height": 100} | image,
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [50, 50, 40, 40]},
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [0, 0, 50, 50]},
        ],
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
    }


FOUND = [
    prediction(1, [[0, 0, 49, 49], [50, 50, 89, 89]], [0.9, 0.5], [1, 2]),
    # In the second picture a box of class 2 with a better score than the right one above.
    prediction(2, [[0, 0, 49, 49], [20, 20, 60, 60]], [0.9, 0.8], [1, 2]),
]


def test_detection_of_an_absent_class_is_a_mistake():
    for image in ({}, {"neg_category_ids": [2]}):
        data = parse_detection(toy(**image), Path("x.json"))
        assert measured(data, FOUND)["AP"] == pytest.approx(0.75)  # (1 + 1/2) / 2


def test_detection_of_an_unknown_class_is_dropped():
    data = parse_detection(toy(neg_category_ids=[]), Path("x.json"))
    assert measured(data, FOUND)["AP"] == pytest.approx(1.0)


def test_unmatched_detection_of_a_not_exhaustive_class_is_ignored():
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": [1, 2]}
    data = parse_detection(toy(**lists), Path("x.json"))
    found = [FOUND[0], prediction(2, [[0, 0, 49, 49], [60, 0, 90, 40]], [0.9, 0.95], [1, 1])]
    assert measured(data, found)["AP"] == pytest.approx(1.0)
    plain = parse_detection(toy(neg_category_ids=[]), Path("x.json"))
    assert measured(plain, found)["AP"] < 1


def test_vocabularies_are_measured_one_by_one():
    content = toy(neg_category_ids=[])
    content["categories"].append({"id": 3, "name": "three"})
    content["vocabularies"] = {"a": [1, 2], "b": [1, 3]}
    content["images"][0] |= {"vocabulary": "a", "neg_category_ids": []}
    content["images"][1] |= {"vocabulary": "b", "neg_category_ids": [3]}
    data = parse_detection(content, Path("x.json"))
    missed = prediction(2, [[60, 60, 90, 90]], [0.5], [1])
    result = measured(data, [FOUND[0], missed])
    assert result["a/AP"] == pytest.approx(1.0)
    assert result["b/AP"] == 0.0
    assert result["AP"] == pytest.approx(0.5)
    evaluator = CocoEvaluator(data)
    for one in FOUND:
        evaluator.update(one)
    assert evaluator.per_class() == pytest.approx({"a/one": 1.0, "a/two": 1.0, "b/one": 1.0})


def test_category_that_is_not_in_the_file_is_refused():
    data = parse_detection(toy(), Path("x.json"))
    with pytest.raises(DataError, match=r"image 1 has category 7, which is not in x.json"):
        measured(data, [prediction(1, [[0, 0, 9, 9]], [0.5], [7])])


def test_nothing_to_find_is_not_a_number():
    content = toy()
    content["annotations"] = []
    assert np.isnan(measured(parse_detection(content, Path("x.json")), FOUND)["AP"])


def test_two_classes_of_one_name_keep_their_own_numbers():
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 50, "height": 50}],
        "categories": [
            {"id": 3, "name": "cup"},
            {"id": 8, "name": "cup"},
            {"id": 9, "name": "fork"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 2, 8, 8]},
            {"id": 2, "image_id": 1, "category_id": 8, "bbox": [20, 20, 9, 9]},
            {"id": 3, "image_id": 1, "category_id": 9, "bbox": [30, 2, 9, 9]},
        ],
    }
    evaluator = CocoEvaluator(parse_detection(content, Path("cups.json")))
    evaluator.update(prediction(1, [[2, 2, 10, 10]], [0.9], [3]))
    found = evaluator.per_class()
    assert found == pytest.approx({"cup (3)": 1.0, "cup (8)": 0.0, "fork": 0.0})
