"""The model behind recordings gives what the model gives."""

from __future__ import annotations

import gc
import weakref
from typing import ClassVar

import torch

from glip.config import ModelConfig
from glip.model.glip import GLIP
from glip.model.ops.replay import Replay
from glip.model.presets import build
from glip.model.replayed import TOKENS, ReplayedGLIP
from glip.model.text_encoder import Tokens


class Counted(Replay):
    """Counts its calls by the sizes of the first input, and records nothing."""

    sizes: ClassVar[list[tuple[int, ...]]] = []

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        Counted.sizes.append(tuple(inputs[0].shape))
        return self._function(*inputs)


def some_words(model: GLIP, *lengths: int) -> list:
    return [model.encode_text(Tokens.pad([tuple(range(5, 5 + length))], 0)) for length in lengths]


@torch.no_grad()
def test_prompts_of_any_length_give_what_the_model_gives(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build(tiny_config)
    pixels, words = torch.randn(2, 3, 64, 96), some_words(model, 3, 17, 5)
    Counted.sizes = []
    replayed = ReplayedGLIP(model, Counted)
    pyramid = replayed.encode_image(pixels)
    found = list(replayed.predict_prompts(pyramid, words))
    expected = list(model.predict_prompts(model.encode_image(pixels), words))
    for one, other in zip(found, expected, strict=True):
        assert one.level_sizes == other.level_sizes and one.anchors.equal(other.anchors)
        for a, b in zip(one[:3], other[:3], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    width = words[0].states.shape[-1]
    assert Counted.sizes == [(2, 3, 64, 96)] + [(1, n * TOKENS, width) for n in (1, 2, 1)]


def test_recordings_go_with_the_last_who_asks_for_them(tiny_config: ModelConfig) -> None:
    """Not when somebody collects circles: each evaluation of a training leaves gigabytes."""
    replayed = ReplayedGLIP(build(tiny_config))
    parts = [weakref.ref(replayed._image), weakref.ref(replayed._head)]
    gc.disable()
    try:
        del replayed
        assert [part() for part in parts] == [None, None]
    finally:
        gc.enable()
