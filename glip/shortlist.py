"""Many names in two looks: all at a picture of half the sides, then the probable few at the whole.

A pass over a picture of half the sides costs about a quarter. So where names fill many passes, a
glance with all of them and one pass with those that it found most cost less than all passes do. A
thing that only the whole picture shows is lost, and so are names beyond the list. Knows nothing
about models: what looks at pictures is handed in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from glip.config import PostprocessOptions
from glip.errors import PromptError
from glip.pixels import Prepared
from glip.structures import Detections
from glip.text.prompt import Prompt

Look = Callable[
    [Sequence[Prepared], Sequence[Sequence[Prompt]], PostprocessOptions], list[list[Detections]]
]
"""Pictures, the prompts of each, what becomes of the output -> one `Detections` for each prompt."""


def detect_probable(
    look: Look,
    pictures: Sequence[Prepared],
    prompts: Sequence[Sequence[Prompt]],
    options: PostprocessOptions,
    names: int,
) -> list[list[Detections]]:
    """What `look` finds of the most probable names of each picture.

    Args:
        look: Such as `glip.engine.Engine.detect`.
        pictures: As it takes them.
        prompts: Class names; of one with no more than `names` all are asked at once.
        options: Of the second look.
        names: Most names of the second look.
    Raises:
        PromptError: A long prompt that is no list of names.
    """
    for prompt in {prompt for own in prompts for prompt in own if len(prompt) > names}:
        if not prompt.is_list:
            raise PromptError("a shortlist is drawn of class names, and this is a caption")
    long = [[prompt for prompt in own if len(prompt) > names] for own in prompts]
    if not any(long):
        return look(pictures, prompts, options)
    loose = replace(options, score=0.0, max_detections=sys.maxsize, exclusive=False)
    seen = look([glance(picture) for picture in pictures], long, loose)
    rows = [
        {prompt: probable(found, names) for prompt, found in zip(own, founds, strict=True)}
        for own, founds in zip(long, seen, strict=True)
    ]
    asked = [[shortened(p, of.get(p)) for p in own] for own, of in zip(prompts, rows, strict=True)]
    found = look(pictures, asked, options)
    return [
        [named(one, p, of.get(p)) for one, p in zip(founds, own, strict=True)]
        for founds, own, of in zip(found, prompts, rows, strict=True)
    ]


def glance(picture: Prepared) -> Prepared:
    """A picture of half the height and width: pixels (3, h, w) to (3, h / 2, w / 2), same dtype."""
    size = [max(1, side // 2) for side in picture.resized_hw]
    whole = picture.pixels.float()[None]
    half = F.interpolate(whole, size, mode="bilinear", antialias=True, align_corners=False)[0]
    if picture.pixels.dtype == torch.uint8:
        half = half.round_().clamp_(0, 255)
    return picture._replace(pixels=half.to(picture.pixels.dtype))


def probable(found: Detections, names: int) -> list[int]:
    """Rows of the prompt in their order: those of the best boxes, or the first one if none is."""
    best = np.zeros(len(found.prompt), np.float32)
    np.maximum.at(best, found.phrase_ids, found.scores)
    rows = np.argsort(-best, kind="stable")[:names]
    return sorted(rows[best[rows] > 0].tolist()) or [0]


def shortened(prompt: Prompt, rows: Sequence[int] | None) -> Prompt:
    """A prompt of some of the names; of all of them for None."""
    return prompt if rows is None else Prompt.from_classes([prompt.names[row] for row in rows])


def named(found: Detections, prompt: Prompt, rows: Sequence[int] | None) -> Detections:
    """What was found of some names, as found of the prompt that they are from."""
    if rows is None:
        return found
    return replace(found, phrase_ids=np.array(rows, np.int64)[found.phrase_ids], prompt=prompt)
