"""`glip.engine` for the zero-shot detectors of transformers: prompts in, detections out.

    prepare -> the family's answers (`glip/zero_shot/families.py`) -> best candidates -> suppression

Knows nothing about how a kind of model is asked. Letters: N regions, P phrases.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glip.boxes import clip_boxes, to_edges
from glip.config import ModelConfig, PixelConfig, PostprocessOptions, TextConfig
from glip.errors import NotFiniteError
from glip.passes import keep
from glip.pixels import Prepared
from glip.postprocess import Found, cap, merge, one_phrase_each, suppress
from glip.structures import Detections
from glip.task_prompt import TaskPrompt
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.zero_shot.families import KINDS, Answer, Family
from glip.zero_shot.folder import folder_sha256, load_parts


class CheckedPrompts:
    """In the place of `glip.passes.Passes`: says once of each prompt whether it can be read.

    Args:
        family: Who reads it.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._known: dict[Prompt, bool] = {}

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if a phrase cannot be read."""
        self._family.check(prompt)

    def of(self, prompt: Prompt) -> None:
        """The same, remembered."""
        if prompt not in self._known:
            self.check(prompt)
            keep(self._known, prompt, True)


class ZeroShotEngine:
    """A zero-shot detector of transformers on its device; any number of threads may use one.

    Args:
        folder: As `save_pretrained` writes it, model and processor.
        name: What it is called; by default like its folder.
        device: Where it runs.
        dtype: Number format of the model.
    Raises:
        CheckpointError: The folder cannot be read, or holds a model of another kind.
    """

    task: TaskPrompt | None = None
    at_once = 1
    """How many threads should ask it at the same time: each of them needs memory of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        parts = load_parts(folder)
        self.folder = folder
        self.kind = parts.kind
        self.dtype = dtype
        self.model: Any = parts.model.to(device, dtype).eval()
        self.device: torch.device = next(self.model.parameters()).device  # with its number
        kind = KINDS[parts.kind]
        self._on_square = kind.on_square
        self._images = parts.image_processor
        length = kind.max_tokens(self.model.config)
        self.family = kind.family(self.model, parts.tokenizer, length)
        self.tokenizer: Tokenizer = self.family.tokenizer
        self.passes = CheckedPrompts(self.family)
        self.config = ModelConfig(
            name=name or folder.resolve().name,
            pixels=_pixels(self._images),
            text=TextConfig(model_type=parts.kind, max_tokens=length),
            threshold=kind.threshold,
        )

    @cached_property
    def fingerprint(self) -> str:
        """What tells this model from others: 16 hexadecimal digits of all its files."""
        return folder_sha256(self.folder)[:16]

    def prepare(self, image: Image.Image, number: int = 0) -> Prepared:
        """An upright RGB picture as the model's own image processor makes it."""
        pixels = self._images(images=image, return_tensors="pt")["pixel_values"][0]
        return Prepared(number, pixels, (image.height, image.width))

    @torch.inference_mode()
    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        options: PostprocessOptions,
        *,
        batch_size: int | None = None,
    ) -> list[list[Detections]]:
        """Several prompts over each picture.

        Arguments and results are those of `glip.engine.Engine.detect`, but that pictures go through
        the model one by one, whatever `batch_size` says: these models tell padding from picture
        each in its own way. `options.probability` is GLIP's and counts for nothing here.

        Raises:
            PromptError: A phrase that the model cannot read.
            NotFiniteError: The model gives no numbers.
        """
        return [
            list(self._detect(picture, asked, options)) if asked else []
            for picture, asked in zip(pictures, prompts, strict=True)
        ]

    def _detect(
        self, picture: Prepared, prompts: Sequence[Prompt], options: PostprocessOptions
    ) -> Iterator[Detections]:
        for prompt in prompts:
            self.passes.of(prompt)
        pixels = picture.pixels.to(self.device, self.dtype)[None]
        answers = self.family.answers(pixels, prompts, options.aggregate)
        # What goes because of other phrases goes before boxes are counted.
        each = replace(options, max_detections=sys.maxsize) if options.exclusive else options
        for prompt, own in zip(prompts, answers, strict=True):
            found = merge([self._found(answer, picture, each) for answer in own], sys.maxsize)
            if options.exclusive:
                found = one_phrase_each(found, options)
            found = cap(found, options.max_detections)
            boxes = to_edges(found.boxes, picture.original_hw)
            columns = (boxes.numpy(), found.scores.numpy(), found.labels.numpy())
            yield Detections(*columns, prompt, picture.original_hw)

    def _found(self, answer: Answer, picture: Prepared, options: PostprocessOptions) -> Found:
        """An answer as detections in pixels of the original picture."""
        if not (answer.scores.isfinite().all() and answer.shares.isfinite().all()):
            raise NotFiniteError(
                f"{self.config.name} gives NaN or infinity in "
                f"{str(self.dtype).removeprefix('torch.')}; load it with dtype='float32', or fetch "
                "its weights again"
            )
        region, column = (answer.scores > options.score).nonzero(as_tuple=True)
        best, order = answer.scores[region, column].topk(
            min(len(region), options.candidates_per_level)
        )
        boxes = answer.shares[region[order]] * self._scale(picture.original_hw)
        boxes[:, 2:] -= 1  # ours count the last pixel in
        labels = torch.tensor(answer.rows)[column[order]]
        return suppress(Found(clip_boxes(boxes, picture.original_hw), best, labels), options)

    def _scale(self, image_hw: tuple[int, int]) -> Tensor:
        """(4,) pixels of the original for each share of what the model saw."""
        height, width = (max(image_hw),) * 2 if self._on_square else image_hw
        return torch.tensor([width, height, width, height], dtype=torch.float32)


def _pixels(image_processor: Any) -> PixelConfig:
    """The sizes that an image processor makes, as far as it says them."""
    size = dict(image_processor.size)
    short = int(size.get("shortest_edge") or size.get("height") or PixelConfig.short_side)
    long = int(size.get("longest_edge") or size.get("width") or short)
    return PixelConfig(short_side=short, long_side=max(short, long), order="rgb")
