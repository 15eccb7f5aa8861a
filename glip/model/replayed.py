"""The model with its launches recorded: for a GPU, and predictions of sizes that come again.

Same calls and results as `GLIP`; what happens inside stands in `glip/model/ops/replay.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from glip.model.anchors import grid_anchors
from glip.model.fpn import LEVEL_STRIDES
from glip.model.glip import GLIP, Pyramid
from glip.model.head import HeadOutput
from glip.model.ops.replay import Memory, Replay
from glip.model.text_encoder import Words

TOKENS = 16  # prompts are padded to multiples of so many tokens, so that sizes come again


class ReplayedGLIP:
    """The halves of a model that a prediction runs for each picture.

    Args:
        model: On a GPU, in evaluation mode; its weights must stay where they are.
        recorded: Makes a function of tensors one that is replayed.
    """

    def __init__(self, model: GLIP, recorded: type[Replay] = Replay) -> None:
        self._model = model
        memory = Memory()
        # Of the model, not of this object: what is in a circle keeps its memory until somebody
        # collects such circles, and an evaluation while training leaves a few gigabytes.
        self._image = recorded(partial(_encode_image, model), memory)
        self._head = recorded(partial(_predict, model), memory)

    def encode_image(self, pixels: Tensor) -> Pyramid:
        """See `GLIP.encode_image`: (B, 3, H, W) to levels (B, C, H_l, W_l)."""
        return Pyramid(self._image(pixels))

    def predict_prompts(self, pyramid: Pyramid, prompts: Sequence[Words]) -> Iterator[HeadOutput]:
        """See `GLIP.predict_prompts`: logits (B, A, T) for each prompt's words (B, T, D)."""
        if not self._model.head.fused:  # the tower runs once for all prompts
            yield from self._model.predict_prompts(pyramid, prompts)
            return
        sizes = tuple(height * width for height, width in pyramid.shapes)
        anchors = grid_anchors(pyramid.shapes, LEVEL_STRIDES, pyramid.levels[0].device)
        for words in prompts:
            tokens = words.mask.shape[1]
            filling = -tokens % TOKENS
            states = F.pad(words.states, (0, 0, 0, filling))
            mask = F.pad(words.mask, (0, filling))
            logits, deltas, centerness = self._head(states, mask, *pyramid.levels)
            yield HeadOutput(logits[..., :tokens], deltas, centerness, anchors, sizes)


def _encode_image(model: GLIP, pixels: Tensor) -> tuple[Tensor, ...]:
    """(B, 3, H, W) to (B, C, H_l, W_l) of each level."""
    return model.encode_image(pixels).levels


def _predict(model: GLIP, states: Tensor, mask: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
    """(B, A, T) logits, (B, A, 4) deltas and (B, A) centerness, of words (B, T, D)."""
    fused = model.fuse(Pyramid(levels), Words(states, mask))
    return model.predict_regions(fused)[:3]
