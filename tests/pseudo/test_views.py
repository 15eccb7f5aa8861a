"""Looks at a picture that have to agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageOps

from glip.detector import Detector
from glip.pseudo.teacher import BoxConfig
from glip.pseudo.teachers import DetectorTeacher
from glip.pseudo.views import agreed, mirrored_prompt, teach, views
from glip.text.prompt import Prompt

MakePicture = Callable[..., Image.Image]


PROMPT = Prompt.from_caption("a cat and a dog on a red sofa")


@pytest.fixture
def glip_teacher(tiny_detector: Detector) -> DetectorTeacher:
    return DetectorTeacher(tiny_detector, name="tiny.safetensors", sha256="0" * 64)


def test_the_mirrored_picture_is_asked_for_mirrored_words() -> None:
    prompt = Prompt.from_caption("the man on the left has a very long beard")
    other = mirrored_prompt(prompt)
    assert other.text == "the man on the right has a very long beard"
    assert other.names == ("the man", "the right", "a very long beard")
    unsure = Prompt.from_caption("he left the room")
    assert mirrored_prompt(unsure) is unsure and mirrored_prompt(PROMPT) is PROMPT


def test_agreement_with_a_real_mirror_image(
    glip_teacher: DetectorTeacher, make_picture: MakePicture
) -> None:
    image = make_picture()
    boxes = BoxConfig(min_score=0.45, min_size=0, max_boxes_per_phrase=100)
    [[found]] = teach(glip_teacher, [views(glip_teacher, image, [PROMPT], boxes)], boxes)
    [[mirrored]] = teach(
        glip_teacher, [views(glip_teacher, ImageOps.mirror(image), [PROMPT], boxes)], boxes
    )
    both = agreed(found, mirrored, 0.5)
    again = replace(boxes, agreement=0.5)
    [[whole]] = teach(glip_teacher, [views(glip_teacher, image, [PROMPT], again)], again)
    assert 0 < len(both) == len(whole) <= len(found)
    torch.testing.assert_close(whole.scores, both.scores)
