"""Random truth and detections, and a detector that answers from a list."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glip.data.formats.coco import parse_detection
from glip.data.records import DetectionData
from glip.evaluation.predictions import Prediction, prediction
from glip.jobs.batches import Pace
from glip.pixels import Prepared
from glip.structures import Detections

Json = dict[str, Any]


def random_content(seed: int, images: int = 20, classes: int = 5) -> Json:
    """A COCO file of random boxes of all sizes, some of them crowds."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(rng.integers(0, 8)):
            x, y, w, h = rng.uniform([0, 0, 5, 5], [300, 300, 200, 200]).round(2).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + image,
                    "category_id": 2 * int(rng.integers(1, classes + 1)),
                    "bbox": [x, y, w, h],
                    "area": w * h * float(rng.uniform(0.5, 1)),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    return {
        "images": [
            {"id": 100 + i, "file_name": f"{i}.png", "width": 500, "height": 500}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": 2 * c, "name": f"class {c}"} for c in range(1, classes + 1)],
    }


def random_predictions(content: Json, seed: int) -> list[Prediction]:
    """Detections near most boxes, often of the right class, and some elsewhere; some scores tie."""
    rng = np.random.default_rng(seed)
    ids = [category["id"] for category in content["categories"]]
    result = []
    for image in content["images"]:
        boxes, scores, labels = [], [], []
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"] and rng.random() < 0.9:
                x, y, w, h = annotation["bbox"]
                for _ in range(rng.integers(1, 3)):
                    noise = rng.normal(0, 0.08, 4) * [w, h, w, h]
                    boxes.append(np.array([x, y, x + w, y + h]) + noise)
                    right = rng.random() < 0.8
                    labels.append(annotation["category_id"] if right else int(rng.choice(ids)))
                    scores.append(round(float(rng.uniform(0.05, 1)), 1))
        for _ in range(rng.integers(0, 4)):
            x, y = rng.uniform(0, 300, 2)
            boxes.append([x, y, x + 60, y + 60])
            labels.append(int(rng.choice(ids)))
            scores.append(float(rng.uniform(0.05, 0.5)))
        result.append(prediction(image["id"], boxes, scores, labels))
    return result


@pytest.fixture
def random_case() -> Callable[..., tuple[DetectionData, list[Prediction], Json]]:
    def make(seed: int, **changes: int) -> tuple[DetectionData, list[Prediction], Json]:
        content = random_content(seed, **changes)
        data = parse_detection(content, Path("random.json"))
        return data, random_predictions(content, seed + 1), content

    return make


class ListedDetector:
    """Answers with given boxes: picture colour -> (box, score, phrase row)."""

    pace = Pace()

    def __init__(self, answers: dict[int, list[tuple[list[float], float, int]]]) -> None:
        self.answers = answers
        self.asked: list[tuple[int, str]] = []
        self.stop_after: int | None = None
        self.deaf_to: str | None = None

    def prepare(self, source, number=0):
        pixels = torch.full((3, source.height, source.width), float(source.getpixel((0, 0))[0]))
        return Prepared(number, pixels, (source.height, source.width))

    def detect(self, pictures, prompts, *, options=None):
        return [
            [self._answer(picture, prompt) for prompt in own]
            for picture, own in zip(pictures, prompts, strict=True)
        ]

    def _answer(self, picture, prompt):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        number = int(picture.pixels[0, 0, 0])
        self.asked.append((number, prompt.text))
        answers = [] if self.deaf_to in prompt.names else self.answers.get(number, [])
        found = [answer for answer in answers if answer[2] < len(prompt)]
        boxes = torch.tensor([box for box, _, _ in found], dtype=torch.float32).reshape(-1, 4)
        scores = torch.tensor([score for _, score, _ in found], dtype=torch.float32)
        rows = torch.tensor([row for _, _, row in found], dtype=torch.int64)
        return Detections(boxes, scores, rows, prompt, picture.original_hw)


@pytest.fixture
def toy(tmp_path: Path) -> tuple[Path, ListedDetector]:
    """Six pictures, two classes; the detector knows all boxes."""
    images, annotations, answers = [], [], {}
    for number in range(6):
        Image.new("RGB", (100, 80), (number, 0, 0)).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 80})
        box = [10 + number, 10, 30, 20]
        annotations.append(
            {"id": number + 1, "image_id": number, "category_id": 5 + number % 2, "bbox": box}
        )
        x, y, w, h = box
        answers[number] = [([x, y, x + w, y + h], 0.9 - number / 10, number % 2)]
    path = tmp_path / "toy.json"
    categories = [{"id": 6, "name": "dog"}, {"id": 5, "name": "cat"}]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path, ListedDetector(answers)
