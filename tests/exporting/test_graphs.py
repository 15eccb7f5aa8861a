"""The textbook's form of the model gives the numbers of the fast one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from glip.exporting.graphs import HeadGraph, ImageGraph, TextGraph, _pad_evenly
from glip.model.glip import GLIP
from glip.model.text_encoder import TextEncoder, Tokens
from tests.toy import CONFIG, toy_model

TOKENS = Tokens.pad([(101, 2711, 1012, 4937, 1012, 3899, 102), (101, 4937, 3899, 102)])


@torch.inference_mode()
def compare(model: GLIP, pixels: torch.Tensor) -> None:
    """All outputs for two pictures, of which the second has the shorter prompt."""
    expected = model(pixels, TOKENS)
    assert isinstance(model.text, TextEncoder)
    states = TextGraph(model.text)(TOKENS.ids, TOKENS.mask)
    levels = ImageGraph(model)(pixels)
    logits, deltas, centerness = HeadGraph(model)(levels, states, TOKENS.mask)
    real = TOKENS.mask[:, None].expand_as(logits)
    torch.testing.assert_close(logits[real], expected.logits[real], atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(deltas, expected.deltas, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(centerness, expected.centerness, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("size", [(32, 32), (64, 160), (256, 96)])
def test_swin_with_fusion(make_tiny_model: Callable[[], GLIP], size: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    compare(make_tiny_model(), pixels)


def test_any_other_backbone_of_timm() -> None:
    compare(toy_model(), torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1)))


def test_without_fusion() -> None:
    model = toy_model(replace(CONFIG, head=replace(CONFIG.head, fusion=False)))
    compare(model, torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1)))


def test_same_padding_becomes_numbers() -> None:
    net = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False).eval()
    holder = nn.Module()
    holder.add_module("net", net)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = net(pixels)
        _pad_evenly(holder)
        after = net(pixels)
    assert not any(type(module).__name__ == "Conv2dSame" for module in net.modules())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other)
