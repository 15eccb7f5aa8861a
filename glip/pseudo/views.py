"""A picture looked at, and looked at again in a mirror: which boxes of a teacher are kept.

Letters: N and M boxes, P phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.ops import box_iou

from glip.pixels import Prepared
from glip.pseudo.teacher import BoxConfig, Teacher
from glip.structures import Detections
from glip.text.mirror import mirror
from glip.text.prompt import Prompt


class View(NamedTuple):
    """A picture with what is asked of it."""

    picture: Prepared
    prompts: tuple[Prompt, ...]


def mirrored_prompt(prompt: Prompt) -> Prompt:
    """What is asked of the mirrored picture, its phrases in the same order.

    Left and right are exchanged; a caption that has no sure mirror stays as it is.
    """
    other = mirror(prompt.text)
    if other is None or not other.edits:
        return prompt
    phrases = tuple(tuple(map(other.span, spans)) for spans in prompt.phrases)
    return Prompt(other.text, phrases)


def views(
    teacher: Teacher, image: Image.Image, prompts: Sequence[Prompt], boxes: BoxConfig
) -> list[View]:
    """A picture, and its mirror image if the two have to agree."""
    seen = [View(teacher.prepare(image), tuple(prompts))]
    if boxes.agreement is not None:
        mirrored = tuple(map(mirrored_prompt, prompts))
        seen.append(View(teacher.prepare(ImageOps.mirror(image)), mirrored))
    return seen


def teach(
    teacher: Teacher, pictures: Sequence[Sequence[View]], boxes: BoxConfig
) -> list[list[Detections]]:
    """The boxes of the phrases of each caption that are to be kept.

    Args:
        teacher: Who finds them.
        pictures: The views of each, as `views` gives them, all as many.
        boxes: What is kept.
    Returns:
        For each picture one `Detections` for each of its prompts, best first.
    """
    rounds = [
        teacher.ground([view.picture for view in row], [view.prompts for view in row], boxes)
        for row in zip(*pictures, strict=True)
    ]
    results = rounds[0]
    if boxes.agreement is not None:
        limit = boxes.agreement
        results = [
            [agreed(found, again, limit) for found, again in zip(*pair, strict=True)]
            for pair in zip(*rounds, strict=True)
        ]
    return [[_kept(found, boxes) for found in own] for own in results]


def agreed(found: Detections, mirrored: Detections, iou: float) -> Detections:
    """What is found in a picture and, by another look, in its mirror image.

    Args:
        found: In the picture.
        mirrored: In its mirror image, for the same phrases in the same order.
        iou: Least overlap of a box with one of the same phrase.
    Returns:
        The boxes of the first look, best first; scores are the mean of the two looks.
    """
    if not len(found) or not len(mirrored):
        return found[:0]
    width = found.image_hw[1]
    x1, y1, x2, y2 = mirrored.boxes.T
    back = np.stack([width - x2, y1, width - x1, y2], -1)
    overlap = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(back)).numpy()  # (N, M)
    overlap[found.phrase_ids[:, None] != mirrored.phrase_ids[None]] = -1
    best, partner = overlap.max(-1), overlap.argmax(-1)
    scores = (found.scores + mirrored.scores[partner]) / 2
    kept = replace(found, scores=scores)[best >= iou]
    return kept.top(len(kept))


def _kept(found: Detections, boxes: BoxConfig) -> Detections:
    """Those that are large enough, and the best of each phrase."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    found = found[np.asarray((sides >= boxes.min_size).all(-1))]
    # Rank of each among those of its phrase: how many of them stand before it.
    same = found.phrase_ids[:, None] == found.phrase_ids[None]
    rank = np.tril(same, -1).sum(-1)
    return found[rank < boxes.max_boxes_per_phrase][: boxes.max_boxes]
