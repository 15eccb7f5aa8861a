"""Feature pyramid, levels 3 to 7 (arXiv 1612.03144), with DropBlock (arXiv 1810.12890) in training.

Knows nothing about where the maps come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVEL_STRIDES = (8, 16, 32, 64, 128)


class DropBlock(nn.Module):
    """Blanks square patches of all channels together, while training only.

    Args:
        probability: Expected share of blanked positions, before neighbouring patches overlap.
        size: Side of a patch.
    """

    def __init__(self, probability: float, size: int = 3) -> None:
        super().__init__()
        self.probability = probability
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) of the same scale on average."""
        if not self.training or self.probability == 0:
            return x
        seeds = torch.rand(x.shape[0], 1, *x.shape[2:], device=x.device)
        seeds = (seeds < self.probability / self.size**2).to(x.dtype)
        keep = 1 - F.max_pool2d(seeds, self.size, stride=1, padding=self.size // 2)
        return x * keep * (keep.numel() / keep.sum().clamp(min=1))


class FPN(nn.Module):
    """Five maps of one width from three of the backbone.

    Args:
        in_channels: Widths of C3, C4 and C5.
        channels: Width of every output.
        drop_block: DropBlock probability before the smoothing of P4 and P3.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, drop_block: float = 0.0) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.smooth = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )
        self.p6 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.drop = DropBlock(drop_block)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """P3 to P7.

        Args:
            maps: (B, C_i, H / s, W / s) for s = 8, 16, 32.
        Returns:
            Five of (B, channels, H_l, W_l), finest first, strides 8 to 128.
        """
        top = self.lateral[-1](maps[-1])
        pyramid = [self.smooth[-1](top)]
        for index in range(len(maps) - 2, -1, -1):
            lateral = self.lateral[index](maps[index])
            # The running map goes down as it is; only what leaves it sideways is smoothed.
            top = lateral + F.interpolate(top, size=lateral.shape[-2:], mode="nearest")
            pyramid.insert(0, self.smooth[index](self.drop(top) if self.drop.training else top))
        p6 = self.p6(pyramid[-1])  # official: from the output P5, not from C5
        return [*pyramid, p6, self.p7(F.relu(p6))]
