"""GLIP (arXiv 2112.03857): pixels and tokens in, region-word alignment and boxes out.

The paper's Figure 2 in one file: a visual encoder, a language encoder, deep fusion, and dot
products where a detector has a classifier. Knows nothing about sentences, pictures on disk, scores
or pixels of the original picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from glip.errors import ConfigError
from glip.model.anchors import grid_anchors
from glip.model.backbone import Backbone
from glip.model.fpn import FPN, LEVEL_STRIDES
from glip.model.head import Head, HeadOutput, Tower
from glip.model.prompt_table import PromptTable
from glip.model.text_encoder import TextEncoder, Tokens, Words


class Pyramid(NamedTuple):
    """Visual features of a batch before they meet any word; one serves any number of prompts."""

    levels: tuple[Tensor, ...]
    """(B, C, H_l, W_l), finest first."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each level."""
        return tuple(cast(tuple[int, int], tuple(level.shape[-2:])) for level in self.levels)

    def of(self, pictures: Sequence[int]) -> Pyramid:
        """The features of n pictures of the batch, levels (n, C, H_l, W_l)."""
        # Not by a list of places, which would be uploaded, and a GPU waited for.
        return Pyramid(
            tuple(torch.stack([level[place] for place in pictures]) for level in self.levels)
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Pyramid:
        """The same features on another device."""
        return Pyramid(tuple(level.to(device, non_blocking=non_blocking) for level in self.levels))


class Fused(NamedTuple):
    """Pictures and words behind the tower: what the output layers read, and nothing else."""

    tower: Tower
    shapes: tuple[tuple[int, int], ...]
    """(height, width) of each level."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Fused:
        """The same features on another device."""
        regions = self.tower.regions.to(device, non_blocking=non_blocking)
        return Fused(Tower(regions, self.tower.words.to(device)), self.shapes)


class GLIP(nn.Module):
    """The model. One `forward` serves training and prediction, detection and grounding.

    Args:
        backbone: Three maps of a picture, strides 8, 16, 32.
        neck: Five levels of them.
        text: Token states of a prompt: an encoder, or a table of learned ones.
        head: Everything after the two encoders.
    """

    def __init__(
        self, backbone: Backbone, neck: FPN, text: TextEncoder | PromptTable, head: Head
    ) -> None:
        super().__init__()
        if head.outputs.project.in_features != text.width:
            raise ConfigError(
                f"the head takes words of width {head.outputs.project.in_features}, the text "
                f"encoder gives {text.width}"
            )
        self.backbone = backbone
        self.neck = neck
        self.text = text
        self.head = head

    def forward(self, pixels: Tensor, tokens: Tokens) -> HeadOutput:
        """Ground the tokens of each prompt in its picture.

        Args:
            pixels: (B, 3, H, W), normalised, padded with zeros to multiples of 32.
            tokens: (B, T) of B prompts, or (1, T) of one for all pictures.
        """
        pyramid, words = self.encode_image(pixels), self.encode_text(tokens)
        return self.predict_regions(self.fuse(pyramid, words))

    def encode_image(self, pixels: Tensor) -> Pyramid:
        """The visual half up to the first meeting with words: (B, 3, H, W) to (B, C, H_l, W_l)."""
        return Pyramid(tuple(self.neck(self.backbone(pixels))))

    def encode_text(self, tokens: Tokens) -> Words:
        """The language half up to the first meeting with regions: (B, T) ids to (B, T, D)."""
        return cast(Words, self.text(tokens))

    def fuse(self, pyramid: Pyramid, words: Words) -> Fused:
        """Everything between the encoders and the output layers (Eq. 4 to 6).

        Args:
            pyramid: (B, C, H_l, W_l).
            words: (B, T, D), or (1, T, D) for all pictures.
        """
        words = words.expand(pyramid.levels[0].shape[0])
        return Fused(self.head.tower(pyramid.levels, words), pyramid.shapes)

    def predict_regions(self, fused: Fused) -> HeadOutput:
        """The output layers: alignment with each word (Eq. 3), a box and a centerness a region.

        Args:
            fused: Regions (B, A, C) and words (B, T, D).
        Returns:
            Logits (B, A, T), deltas (B, A, 4), centerness (B, A) and anchors (A, 4).
        """
        regions, words = fused.tower
        sizes = tuple(height * width for height, width in fused.shapes)
        anchors = grid_anchors(fused.shapes, LEVEL_STRIDES, regions.device)
        deltas, centerness = self.head.outputs.locate(regions, sizes)
        logits = self.head.outputs.align(regions, words)
        return HeadOutput(logits, deltas, centerness, anchors, sizes)

    def predict_prompts(self, pyramid: Pyramid, prompts: Sequence[Words]) -> Iterator[HeadOutput]:
        """One output for each of several prompts over the same pictures, made as it is asked for.

        Args:
            pyramid: (B, C, H_l, W_l).
            prompts: (B, T, D) each, or (1, T, D) for all pictures; T may differ.
        """
        if self.head.fused:
            return (self.predict_regions(self.fuse(pyramid, words)) for words in prompts)
        return self._predict_unfused(pyramid, prompts)

    def _predict_unfused(self, pyramid: Pyramid, prompts: Sequence[Words]) -> Iterator[HeadOutput]:
        """Without fusion no word touches the tower, (B, A, C): it runs once for all prompts."""
        shared: HeadOutput | None = None
        for words in prompts:
            if shared is None:
                fused = self.fuse(pyramid, words)
                shared = self.predict_regions(fused)
                yield shared
                continue
            regions = fused.tower.regions
            logits = self.head.outputs.align(regions, words.expand(len(regions)))
            yield shared._replace(logits=logits)
