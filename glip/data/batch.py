"""What the model is trained on: a batch of pictures with prompts, and what is to be found in each.

Knows nothing about files, sentences or losses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glip.data.transforms import RawPixels
from glip.model.glip import Fused, Pyramid
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

    def to(self, device: torch.device | str) -> Target:
        """The same target on another device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return Target(
            self.boxes.to(device, non_blocking=True),
            self.phrases.to(device, non_blocking=True),
            moved(self.weights),
            moved(self.unsure),
        )


@dataclass
class Batch:
    """B pictures, each with its own prompt and target."""

    pixels: Tensor | RawPixels | Pyramid | Fused
    """(B, 3, H, W), normalised, padded with zeros to multiples of 32; or what becomes that on the
    device; or what parts of a model that are not trained have made of them, see
    `glip.training.features`."""
    tokens: Tokens | Words
    """B prompts, or their states."""
    token_maps: list[Tensor]
    """Of each prompt, (P, T') bool: the tokens of each phrase; T' at most the width of `tokens`."""
    targets: list[Target]
    image_ids: list[int | str]
    unreadable: tuple[str, ...] = ()
    """Why pictures that were drawn could not be read; others stand in their places."""

    def __len__(self) -> int:
        return len(self.targets)

    def pin_memory(self) -> Batch:
        """The same batch with its pictures where a GPU can copy from while it works."""
        if not isinstance(self.pixels, (Tensor, RawPixels)):
            return self
        return replace(self, pixels=self.pixels.pin_memory())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            pixels=self.pixels.to(device, non_blocking=True),
            tokens=self.tokens.to(device),
            token_maps=[token_map.to(device, non_blocking=True) for token_map in self.token_maps],
            targets=[target.to(device) for target in self.targets],
        )
