"""Words that are moved a little while training, so that their neighbours are learned with them.

A frozen text encoder gives a name the same states in every step, and a model that has seen a few
hundred names reads just these: a synonym whose states lie beside them is answered worse than it
need be. Here each token of a prompt is moved towards a mixture of other words, in the directions in
which words differ, with a strength that is drawn anew for each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from glip.model.glip import GLIP
from glip.model.text_encoder import Words

MIXED = 4
"""Words that are mixed for each token: with random signs, nearly a normal distribution."""


def add_word_noise(model: GLIP, most: float) -> None:
    """Move the words of a model whenever it is in training mode; in evaluation mode nothing moves.

    Args:
        model: Changed in place.
        most: Largest strength, see `moved`.
    """

    def move(_text: nn.Module, _inputs: Any, words: Words) -> Words:
        return moved(words, most) if model.training else words

    model.text.register_forward_hook(move)


def moved(words: Words, most: float) -> Words:
    """Words with noise.

    Args:
        words: (B, T, D) states of a batch of prompts.
        most: The strength of a token is drawn evenly between 0 and this; at 1 the noise is as large
            as what words have apart from what is common to all of them.
    Returns:
        Such that the padding stays zero. No gradient goes through the noise.
    """
    states = words.states.detach()
    real = words.mask[..., None].to(states.dtype)  # (B, T, 1)
    count = real.sum()
    apart = ((states - (states * real).sum((0, 1)) / count) * real).flatten(0, 1)  # (N, D)
    device, size = states.device, len(apart)
    drawn = torch.randint(size, (MIXED, size), device=device)
    signs = torch.randint(2, (MIXED, size, 1), device=device, dtype=states.dtype) * 2 - 1
    # Some of those drawn are padding, zeros: a share of them, known without a wait for the device.
    noise = (apart[drawn] * signs).sum(0) * (size / (MIXED * count)).sqrt()
    noise = noise.view_as(states) * torch.rand_like(real) * most * real
    return Words(words.states + noise, words.mask)
