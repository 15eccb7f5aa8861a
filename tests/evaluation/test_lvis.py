"""Fixed AP against a plain, slow re-implementation of LVIS."""

from pathlib import Path

import numpy as np
import pytest

from glip.data.formats.coco import parse_detection
from glip.errors import DataError
from glip.evaluation.lvis import LvisEvaluator, best_of_each_class
from glip.evaluation.predictions import prediction


def federated(content, seed):
    """Random lists of absent and not exhaustively labelled classes."""
    rng = np.random.default_rng(seed)
    ids = [category["id"] for category in content["categories"]]
    for category, letter in zip(content["categories"], "rcfrc", strict=True):
        category["frequency"] = letter
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 0
    for image in content["images"]:
        own = {a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]}
        image["neg_category_ids"] = [c for c in ids if c not in own and rng.random() < 0.5]
        image["not_exhaustive_category_ids"] = [c for c in own if rng.random() < 0.4]
    return content


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return inner / (area - inner)


def slow_average_precision(content, predictions, category, bounds, kept=10_000):
    """AP of one class, word for word as LVIS defines it; None if there is nothing to find."""
    images = {image["id"]: image for image in content["images"]}
    found = [
        (float(score), one.image_id, box.astype(float) - [0, 0, 1, 1])
        for one in sorted(predictions, key=lambda p: p.image_id)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
        if label == category
    ]
    truths = {
        key: [
            (a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3])
            for a in content["annotations"]
            if a["image_id"] == key and a["category_id"] == category
        ]
        for key in images
    }
    ignored = {
        key: [
            not bounds[0] <= a["area"] <= bounds[1]
            for a in content["annotations"]
            if a["image_id"] == key and a["category_id"] == category
        ]
        for key in images
    }
    total = sum(not skip for flags in ignored.values() for skip in flags)
    if total == 0:
        return None
    found = sorted(found, key=lambda one: -one[0])[:kept]
    found = [
        one for one in found if truths[one[1]] or category in images[one[1]]["neg_category_ids"]
    ]
    values = []
    for threshold in np.linspace(0.5, 0.95, 10):
        taken = {key: [False] * len(boxes) for key, boxes in truths.items()}
        right, wrong = [], []
        for _, key, box in found:
            best, at = min(threshold, 1 - 1e-10), None
            order = sorted(range(len(truths[key])), key=lambda row: ignored[key][row])
            for row in order:
                if taken[key][row]:
                    continue
                if at is not None and not ignored[key][at] and ignored[key][row]:
                    break
                overlap = iou(box, truths[key][row])
                if overlap >= best:
                    best, at = overlap, row
            if at is not None:
                taken[key][at] = True
                if not ignored[key][at]:
                    right.append(1), wrong.append(0)
                continue
            area = (box[2] - box[0]) * (box[3] - box[1])
            outside = not bounds[0] <= area <= bounds[1]
            if outside or category in images[key]["not_exhaustive_category_ids"]:
                continue
            right.append(0), wrong.append(1)
        hits, misses = np.cumsum(right), np.cumsum(wrong)
        recall, precision = hits / total, hits / (hits + misses + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        for point in np.linspace(0, 1, 101):
            place = np.searchsorted(recall, point, side="left")
            values.append(precision[place] if place < len(precision) else 0.0)
    return float(np.mean(values))


@pytest.mark.parametrize("seed", range(4))
def test_fixed_ap_is_that_of_the_slow_implementation(random_case, seed):
    _, predictions, content = random_case(seed)
    data = parse_detection(federated(content, seed), Path("lvis.json"))
    evaluator = LvisEvaluator(data)
    for one in predictions:
        evaluator.update(one)
    result = evaluator.compute()
    sizes = {
        "AP": (0, 1e10),
        "APs": (0, 32**2),
        "APm": (32**2, 96**2),
        "APl": (96**2, 1e10),
    }
    for name, bounds in sizes.items():
        each = [
            slow_average_precision(content, predictions, category["id"], bounds)
            for category in content["categories"]
        ]
        assert result[name] == pytest.approx(np.mean([v for v in each if v is not None]), abs=1e-9)
        if name == "AP":
            for letter in "rcf":
                own = [
                    value
                    for value, category in zip(each, content["categories"], strict=True)
                    if category["frequency"] == letter and value is not None
                ]
                assert result[f"AP{letter}"] == pytest.approx(np.mean(own), abs=1e-9)
            expected = {c["name"]: v for c, v in zip(content["categories"], each, strict=True)}
            assert evaluator.per_class() == pytest.approx(expected, abs=1e-9)


def test_each_class_keeps_its_best_over_all_pictures(monkeypatch, random_case):
    _, predictions, content = random_case(5)
    data = parse_detection(federated(content, 5), Path("lvis.json"))
    monkeypatch.setattr("glip.evaluation.lvis.KEPT_PER_CLASS", 10)
    evaluator = LvisEvaluator(data)
    for one in predictions:
        evaluator.update(one)
    each = [
        slow_average_precision(content, predictions, category["id"], (0, 1e10), kept=10)
        for category in content["categories"]
    ]
    assert evaluator.compute()["AP"] == pytest.approx(np.mean(each), abs=1e-9)


def test_best_of_each_class_by_hand():
    found = {
        7: prediction(7, np.zeros((3, 4)), [0.2, 0.1, 0.9], [1, 0, 1]),
        8: prediction(8, np.zeros((0, 4)), [], []),
        9: prediction(9, np.zeros((3, 4)), [0.5, 0.3, 0.4], [1, 0, 1]),
    }
    best = best_of_each_class(found, 2)
    assert {key: one.labels.tolist() for key, one in best.items()} == {7: [0, 1], 8: [], 9: [1, 0]}
    assert best[9].scores.tolist() == pytest.approx([0.5, 0.3])
    assert best_of_each_class({}, 2) == {}


def test_what_is_not_judged_counts_among_the_best_of_its_class(monkeypatch):
    nothing_known = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 20, "height": 20, **nothing_known}
            for number in (1, 2, 3)
        ],
        "categories": [{"id": 5, "name": "cup", "frequency": "f"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 2, 8, 8]}],
    }
    evaluator = LvisEvaluator(parse_detection(content, Path("lvis.json")))
    for number, score in ((1, 0.2), (2, 0.9), (3, 0.8)):
        evaluator.update(prediction(number, [[2, 2, 11, 11]], [score], [5]))
    assert evaluator.compute()["AP"] == pytest.approx(1.0)
    monkeypatch.setattr("glip.evaluation.lvis.KEPT_PER_CLASS", 2)
    evaluator.update(prediction(1, [[2, 2, 11, 11]], [0.2], [5]))
    assert evaluator.compute()["AP"] == 0.0


def test_standard_ap_keeps_the_best_of_each_picture(monkeypatch, random_case):
    _, predictions, content = random_case(1)
    data = parse_detection(federated(content, 1), Path("lvis.json"))
    monkeypatch.setattr("glip.evaluation.lvis.PER_PICTURE", 1)
    standard, expected = LvisEvaluator(data, fixed=False), LvisEvaluator(data)
    for one in predictions:
        standard.update(one)
        first = np.argmax(one.scores) if len(one.scores) else slice(0)
        rows = np.atleast_1d(np.arange(len(one.scores))[first])
        expected.update(
            one._replace(boxes=one.boxes[rows], scores=one.scores[rows], labels=one.labels[rows])
        )
    assert standard.compute()["AR"] > 0
    assert standard.compute() == expected.compute()


def test_file_without_frequencies_is_no_lvis_file(random_case):
    with pytest.raises(DataError, match="have no 'frequency'"):
        LvisEvaluator(random_case(0)[0])
