"""Why nothing was right."""

import re
from pathlib import Path

import numpy as np
import pytest

from glip.data.formats.coco import parse_detection
from glip.evaluation.causes import likely_causes
from glip.evaluation.predictions import prediction

RNG = np.random.default_rng(0)
BOXES = {
    image: [
        [int(v) for v in (x, y, 30, 15)]
        for x, y in zip(RNG.uniform(0, 60, 3), RNG.uniform(0, 150, 3), strict=True)
    ]
    for image in range(1, 6)
}


def truth(change=lambda box: box, first_id=1):
    return parse_detection(
        {
            "images": [
                {"id": image, "file_name": f"{image}", "width": 100, "height": 200}
                for image in BOXES
            ],
            "annotations": [
                {"id": 10 * i + n, "image_id": i, "category_id": first_id + n, "bbox": change(box)}
                for i, boxes in BOXES.items()
                for n, box in enumerate(boxes)
            ],
            "categories": [{"id": first_id + n, "name": f"class {n}"} for n in range(3)],
        },
        Path("truth.json"),
    )


def found(change=lambda x, y, w, h: [x, y, x + w, y + h], label=lambda n: n + 1, score=0.8, ids=0):
    return [
        prediction(
            image + ids,
            [change(*box) for box in boxes],
            [score] * len(boxes),
            [label(n) for n in range(len(boxes))],
        )
        for image, boxes in BOXES.items()
    ]


@pytest.mark.parametrize(
    ("data", "predictions", "message"),
    [
        (truth(), found(ids=100), r"no picture id .* \(such as 101\) is in truth.json"),
        (truth(), [prediction(i, [], [], []) for i in BOXES], "nothing was found in any picture"),
        (truth(), [prediction(i, [], [], [], "gone") for i in BOXES], "5 of 5 .* one: gone"),
        (truth(), found(score=0.06), "no score is above 0.06"),
        (truth(first_id=10), found(), r"have categories \[1, 2, 3\], the file \[10, 11, 12\]"),
        (truth(lambda b: [v / 200 for v in b]), found(), "true boxes are fractions"),
        (truth(lambda b: [b[0], b[1], 3 * b[2], 9 * b[1] + 90]), found(), "two corners"),
        (truth(), found(label=lambda n: n % 3 + 2), r"other classes .* mostly shifted by \+1"),
        (truth(), found(lambda x, y, w, h: [y, x, y + h, x + w]), "fit as x and y exchanged"),
        (truth(), found(lambda x, y, w, h: [x, y, w, h]), "x, y, width, height read as two"),
        (truth(), found(lambda x, y, w, h: [100 - x - w, y, 100 - x, y + h]), "mirrored"),
        (
            truth(),
            found(lambda x, y, w, h: [x / 100, y / 200, (x + w) / 100, (y + h) / 200]),
            "fractions of the picture",
        ),
        (truth(), found(lambda x, y, w, h: [x, y, x + 1, y + 1]), "not where the true ones are"),
    ],
)
def test_each_cause_is_named(data, predictions, message):
    causes = likely_causes(data, predictions)
    assert any(re.search(message, cause) for cause in causes), causes


def test_truth_without_boxes():
    data = parse_detection(
        {
            "images": [{"id": 1, "file_name": "a", "width": 9, "height": 9}],
            "annotations": [],
            "categories": [{"id": 1, "name": "x"}],
        },
        Path("empty.json"),
    )
    assert "empty.json has no box" in likely_causes(data, found())[0]
