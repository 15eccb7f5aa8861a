"""Teachers on random weights, and which of their boxes are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from glip.detector import Detector
from glip.errors import ConfigError
from glip.jobs.batches import Pace
from glip.pseudo.teacher import BoxConfig, Teacher
from glip.pseudo.teachers import DetectorTeacher
from glip.pseudo.views import teach, views
from glip.structures import Detections
from glip.text.prompt import Prompt

MakePicture = Callable[..., Image.Image]
PROMPT = Prompt.from_caption("a cat and a dog on a red sofa")
LONG = Prompt.from_caption(". ".join(f"a cat and dog number {n}" for n in range(60)))


def detections(
    rows: list[tuple[float, float, float, float, float, int]], prompt: Prompt = PROMPT
) -> Detections:
    """Boxes (x1, y1, x2, y2, score, phrase) in a picture of 100 x 50 pixels."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long(), prompt, (50, 100))


# GLIP.


@pytest.fixture
def glip_teacher(tiny_detector: Detector) -> DetectorTeacher:
    return DetectorTeacher(tiny_detector, name="tiny.safetensors", sha256="0" * 64)


def test_glip_finds_what_predict_finds(
    glip_teacher: DetectorTeacher, tiny_detector: Detector, make_picture: MakePicture
) -> None:
    image, boxes = make_picture(), BoxConfig(min_score=0.4, max_boxes_per_phrase=100, min_size=0)
    [[found, long]] = teach(
        glip_teacher, [views(glip_teacher, image, [PROMPT, LONG], boxes)], boxes
    )
    [expected] = tiny_detector.predict(image, PROMPT, threshold=0.4)
    assert len(found) == len(expected) > 0
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    [expected] = tiny_detector.predict(image, LONG, threshold=0.4)
    assert len(LONG.passes(tiny_detector.tokenizer)) > 1
    assert len(long) == len(expected) > 0
    assert {int(row) for row in long.phrase_ids} <= set(range(len(LONG)))


# Which boxes are kept.


class Fixed:
    """A teacher that has its answers ready, one for each look."""

    pace = Pace()

    def __init__(self, *answers: Detections) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def prepare(self, image: Image.Image) -> Any:
        return image

    def ground(self, pictures: Any, prompts: Any, boxes: BoxConfig) -> list[list[Detections]]:
        self.asked += [prompts[0][0].text]
        return [[self.answers[len(self.asked) - 1]]]


def kept(boxes: BoxConfig, *answers: Detections) -> list[list[float]]:
    teacher: Teacher = Fixed(*answers)  # type: ignore[assignment]
    picture = views(teacher, Image.new("RGB", (100, 50)), [PROMPT], boxes)
    [[found]] = teach(teacher, [picture], boxes)
    return [
        [*box, round(score, 3), row]
        for box, score, row in zip(
            found.boxes.tolist(), found.scores.tolist(), found.phrase_ids.tolist(), strict=True
        )
    ]


def test_small_boxes_and_the_worst_of_a_phrase_go() -> None:
    found = detections(
        [
            (0, 0, 20, 20, 0.9, 0),
            (0, 0, 3, 20, 0.8, 0),
            (10, 0, 30, 20, 0.7, 1),
            (50, 0, 70, 20, 0.6, 0),
            (60, 0, 80, 20, 0.5, 0),
            (0, 0, 4, 4, 0.4, 1),
        ]
    )
    rows = kept(BoxConfig(max_boxes_per_phrase=2, min_size=4), found)
    assert [(row[4], row[5]) for row in rows] == [(0.9, 0), (0.7, 1), (0.6, 0), (0.4, 1)]
    assert len(kept(BoxConfig(max_boxes_per_phrase=2, max_boxes=3), found)) == 3
    assert kept(BoxConfig(), detections([])) == []


def test_two_looks_have_to_agree() -> None:
    found = detections(
        [
            (10, 10, 30, 30, 0.8, 0),  # mirrored: 70 to 90
            (40, 10, 60, 30, 0.7, 0),  # seen as another phrase there
            (60, 10, 80, 30, 0.6, 1),  # seen half as wide
            (0, 10, 10, 30, 0.5, 1),  # not seen
        ]
    )
    again = detections(
        [(70, 10, 90, 30, 0.4, 0), (40, 10, 60, 30, 0.9, 1), (30, 10, 40, 30, 0.9, 1)]
    )
    assert kept(BoxConfig(agreement=0.7), found, again) == [[10, 10, 30, 30, 0.6, 0]]
    rows = kept(BoxConfig(agreement=0.5), found, again)
    assert [(row[4], row[5]) for row in rows] == [(0.75, 1), (0.6, 0)]  # best first
    assert kept(BoxConfig(agreement=0.5), found, detections([])) == []
    assert kept(BoxConfig(agreement=0.5), detections([]), again) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, r"boxes.min_score must lie in \[0, 1\]"),
        ({"agreement": 0.0}, r"agreement must lie in \(0, 1\]"),
        ({"max_boxes_per_phrase": 0}, "must be at least 1, got 0"),
        ({"max_boxes": 0}, "boxes.max_boxes must be at least 1"),
        ({"min_size": -1.0}, "must be at least 0"),
        ({"aggregate": "median"}, "aggregate must be one of"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BoxConfig(**options)


# Transformers.
