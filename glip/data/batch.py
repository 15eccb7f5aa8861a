"""What the model is trained on: a batch of pictures with prompts, and what is to be found in each.

Knows nothing about files, sentences or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from glip.data.transforms import RawPixels
from glip.model.glip import Fused, Pyramid
from glip.model.ops.transfer import uploaded
from glip.model.text_encoder import Tokens, Words


@dataclass
class Target:
    """What one training picture shows; nothing is legal, and makes all its regions negative."""

    boxes: Tensor
    """(N, 4) float32 xyxy, pixels of the resized picture; padding lies right of it and below."""
    phrases: Tensor
    """(N,) int64, row of the prompt's token map."""
    weights: Tensor | None = None
    """(N,) float32 in [0, 1], how far each box is trusted; None trusts all. For pseudo labels."""
    unsure: Tensor | None = None
    """(U,) int64, rows of phrases that may be anywhere or nowhere: their words teach nothing."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        assert self.boxes.shape == (count, 4), f"boxes are {tuple(self.boxes.shape)}, not (N, 4)"
        assert self.phrases.shape == (count,), f"{count} boxes, phrases {tuple(self.phrases.shape)}"
        assert self.weights is None or self.weights.shape == (count,)

    def __len__(self) -> int:
        return len(self.boxes)


class Targets(NamedTuple):
    """What B pictures show, each row filled up to N boxes by ones of no size, in four tensors.

    So it goes to a GPU in one go, and what is done with it there depends on no picture.
    """

    boxes: Tensor
    """(B, N, 4) float32 xyxy, pixels of the batch; N from 1."""
    words: Tensor
    """(B, N, T) bool, the tokens of each box's phrase. official: none for a phrase without any."""
    trust: Tensor
    """(B, N) float32 in [0, 1], how far each box is trusted."""
    judged: Tensor
    """(B, T) bool, the tokens whose alignment can be right or wrong: no padding, nothing unsure."""

    @classmethod
    def pad(
        cls, targets: Sequence[Target], token_maps: Sequence[Tensor], text_mask: Tensor
    ) -> Targets:
        """Of targets one by one.

        Args:
            targets: B.
            token_maps: B of (P, T') bool, the tokens of each phrase, T' at most T.
            text_mask: (B, T) or (1, T) bool, True on real tokens.
        """
        pictures, boxes, tokens = len(targets), max(1, *map(len, targets)), text_mask.shape[1]
        padded = cls(
            text_mask.new_zeros(pictures, boxes, 4, dtype=torch.float32),
            text_mask.new_zeros(pictures, boxes, tokens),
            text_mask.new_ones(pictures, boxes, dtype=torch.float32),
            text_mask.repeat(pictures // len(text_mask), 1),
        )
        for target, token_map, *rows in zip(targets, token_maps, *padded, strict=True):
            _fill(Targets(*rows), target, token_map)
        return padded

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device; no GPU is waited for."""
        return Targets(*(uploaded(part, device) for part in self))


def _fill(row: Targets, target: Target, token_map: Tensor) -> None:
    """Write a picture's target and its (P, T') token map into its row of a batch."""
    count, tokens = len(target), token_map.shape[1]
    row.boxes[:count] = target.boxes
    row.words[:count, :tokens] = token_map[target.phrases]
    if target.weights is not None:
        row.trust[:count] = target.weights
    if target.unsure is not None:
        unsure = token_map[target.unsure].any(0) & ~token_map[target.phrases].any(0)
        row.judged[:tokens] &= ~unsure


@dataclass
class Batch:
    """B pictures, each with its own prompt and target."""

    pixels: Tensor | RawPixels | Pyramid | Fused
    """(B, 3, H, W), normalised, padded with zeros to multiples of 32; or what becomes that on the
    device; or what parts of a model that are not trained have made of them, see
    `glip.training.features`."""
    tokens: Tokens | Words
    """B prompts, or their states."""
    targets: Targets
    image_ids: list[int | str]
    unreadable: tuple[str, ...] = ()
    """Why pictures that were drawn could not be read; others stand in their places."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def pin_memory(self) -> Batch:
        """The same batch with its pictures where a GPU can copy from while it works."""
        if not isinstance(self.pixels, (Tensor, RawPixels)):
            return self
        return replace(self, pixels=self.pixels.pin_memory())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; no GPU is waited for, if the pictures are pinned."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            tokens=self.tokens.to(device),
            targets=self.targets.to(device),
        )
