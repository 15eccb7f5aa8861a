"""EfficientNet-Lite0 (arXiv 1905.11946, without squeeze and excitation) as a feature extractor.

The small model's backbone. Names and numbers of the weights are timm's `tf_efficientnet_lite0`;
written out here, as that one network is all that a first prediction would import timm for, which
takes longer than the prediction. Every other backbone is timm's (`glip/model/backbone.py`).

Letters: B images, C channels, H and W cells of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.model.initial import normal_
from glip.model.ops.depthwise import depthwise

NAME = "tf_efficientnet_lite0"
STEM = 32
STAGES = (  # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
READ_OUT = (2, 4, 6)  # the last stages of strides 8, 16 and 32
EPSILON = 1e-3  # of the norms, as in the TensorFlow weights


class SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: more on the right and below."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H / stride, W / stride), rounded up."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        convolve = depthwise if self.groups > 1 else _across_channels
        if stride == 1:
            return convolve(x, self.weight, 1, kernel // 2)
        down, right = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]
        )
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return convolve(x, self.weight, stride, 0)


def _across_channels(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding)


class Block(nn.Module):
    """Expand, convolve each channel, shrink; added to its input where shapes allow (timm's names).

    Args:
        into: C of the input.
        out: C of the output.
        kernel: Side of the middle convolution.
        stride: Of the middle convolution.
        expansion: Of the channels between; at 1 the block begins with the middle.
        drop_path: Probability that a picture skips the block, while training.
    """

    def __init__(
        self, into: int, out: int, kernel: int, stride: int, expansion: int, drop_path: float
    ) -> None:
        super().__init__()
        wide = into * expansion
        middle = SameConv(wide, wide, kernel, stride, groups=wide)
        if expansion == 1:
            convs = {"conv_dw": middle, "conv_pw": SameConv(wide, out, 1)}
        else:
            convs = {
                "conv_pw": SameConv(into, wide, 1),
                "conv_dw": middle,
                "conv_pwl": SameConv(wide, out, 1),
            }
        self.steps = []
        for number, (name, conv) in enumerate(convs.items(), 1):
            self.add_module(name, conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(conv.out_channels, eps=EPSILON))
            self.steps.append((name, f"bn{number}"))
        self.skips = stride == 1 and into == out
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, into, H, W) to (B, out, H / stride, W / stride)."""
        shortcut = x
        for number, (conv, norm) in enumerate(self.steps, 1):
            x = self.get_submodule(norm)(self.get_submodule(conv)(x))
            if number < len(self.steps):
                x = F.relu6(x)
        if not self.skips:
            return x
        if self.training and self.drop_path > 0:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_path
            x = x * kept / (1 - self.drop_path)
        return shortcut + x


class EfficientNetLite(nn.Module):
    """The stages, of which those of strides 8, 16 and 32 are read out.

    Args:
        drop_path: Largest stochastic depth rate; it grows linearly from 0 over the blocks.
    """

    channels: Sequence[int] = tuple(STAGES[stage][-1] for stage in READ_OUT)

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(STEM, eps=EPSILON)
        total = sum(repeats for repeats, *_ in STAGES)
        stages, into, number = [], STEM, 0
        for repeats, kernel, stride, expansion, out in STAGES:
            blocks = []
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                rate = drop_path * number / total
                blocks.append(Block(into, out, kernel, step, expansion, rate))
                into, number = out, number + 1
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                fan_out = conv.kernel_size[0] ** 2 * conv.out_channels // conv.groups
                normal_(conv.weight, std=math.sqrt(2 / fan_out))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Three of (B, C, H / s, W / s) for s = 8, 16, 32, of (B, 3, H, W) pixels."""
        x = F.relu6(self.bn1(self.conv_stem(pixels)))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in READ_OUT:
                maps.append(x)
        return maps
