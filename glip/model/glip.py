"""GLIP (arXiv 2112.03857): pixels and tokens in, region-word alignment and boxes out.

The paper's Figure 2 in one file: a visual encoder, a language encoder, deep fusion, and dot
products where a detector has a classifier. Knows nothing about sentences, pictures on disk, scores
or pixels of the original picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
        """The features of some pictures of the batch."""
        return Pyramid(tuple(level[list(pictures)] for level in self.levels))

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

    def forward(self, pixels: Tensor | Pyramid | Fused, tokens: Tokens | Words) -> HeadOutput:
        """Ground the tokens of each prompt in its picture.

        Args:
            pixels: (B, 3, H, W), normalised, padded with zeros to multiples of 32. Or what was made
                of them before: by `see`, or by `fuse`, which has seen the tokens already.
            tokens: B prompts; a single one is used for all pictures. Or what `read` made of them.
        """
        if isinstance(pixels, Fused):
            return self.conclude(pixels)
        pyramid = pixels if isinstance(pixels, Pyramid) else self.see(pixels)
        words = tokens if isinstance(tokens, Words) else self.read(tokens)
        (output,) = self.ground(pyramid, [words])
        return output

    def see(self, pixels: Tensor) -> Pyramid:
        """The visual half up to the first meeting with words."""
        return Pyramid(tuple(self.neck(self.backbone(pixels))))

    def read(self, tokens: Tokens) -> Words:
        """The language half up to the first meeting with regions."""
        return cast(Words, self.text(tokens))

    def fuse(self, pyramid: Pyramid, words: Words) -> Fused:
        """Everything up to the output layers."""
        return Fused(self.head.tower(pyramid.levels, words), pyramid.shapes)

    def conclude(self, fused: Fused) -> HeadOutput:
        """The output layers; `conclude(fuse(pyramid, words))` is `ground` for one prompt."""
        sizes = tuple(height * width for height, width in fused.shapes)
        regions, words = fused.tower
        anchors = grid_anchors(fused.shapes, LEVEL_STRIDES, regions.device)
        deltas, centerness = self.head.outputs.locate(regions, sizes)
        return HeadOutput(
            self.head.outputs.align(regions, words), deltas, centerness, anchors, sizes
        )

    def ground(self, pyramid: Pyramid, prompts: Iterable[Words]) -> Iterator[HeadOutput]:
        """One output for each of several prompts over the same pictures, as they are asked for.

        Without fusion the words do not touch the tower, so it runs once for all prompts.
        """
        sizes = tuple(height * width for height, width in pyramid.shapes)
        anchors = grid_anchors(pyramid.shapes, LEVEL_STRIDES, pyramid.levels[0].device)
        batch = pyramid.levels[0].shape[0]
        outputs = self.head.outputs
        shared: Tower | None = None
        for words in prompts:
            if words.mask.shape[0] != batch:
                words = Words(words.states.expand(batch, -1, -1), words.mask.expand(batch, -1))
            if shared is None or self.head.fused:
                shared = self.head.tower(pyramid.levels, words)
                deltas, centerness = outputs.locate(shared.regions, sizes)
            final = shared.words if self.head.fused else words
            logits = outputs.align(shared.regions, final)
            yield HeadOutput(logits, deltas, centerness, anchors, sizes)
