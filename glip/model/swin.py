"""Swin Transformer (arXiv 2103.14030) in the form that detectors use, on timm's modules.

timm holds the layers and their weights; the road through them is ours, because timm classifies
pictures of one size and differs where maps do not divide into windows: it shifts first and pads
afterwards, so the border of a shifted window holds other pixels. Released GLIP weights expect
padding first.

Letters: B images, H and W cells of a map, C channels. Knows nothing about pyramids or pictures, and
leaves what happens in windows to `glip/model/ops/windows.py`.
"""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from glip.errors import ConfigError
from glip.model.ops.windows import run_blocks


class SwinStages(nn.Module):
    """The four stages of a Swin Transformer, each read out before the next one downsamples.

    Args:
        name: A Swin model of timm, such as `swin_tiny_patch4_window7_224`.
        drop_path: Largest stochastic depth rate; it grows linearly from 0 over the blocks.
        options: Further arguments of the timm model.
    Raises:
        ConfigError: timm refuses the arguments.
    """

    def __init__(self, name: str, drop_path: float = 0.0, **options: Any) -> None:
        super().__init__()
        # Windows do not shrink with the maps of the picture size that timm builds a model for.
        options = {"always_partition": True, **options}
        try:
            net: Any = timm.create_model(
                name, pretrained=False, num_classes=0, drop_path_rate=drop_path, **options
            )
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise ConfigError(f"backbone '{name}': {error}") from error
        self.patch_embed: Any = net.patch_embed
        self.layers: Any = net.layers
        for stage in net.layers:
            for block in stage.blocks:
                block.register_buffer("attn_mask", None, persistent=False)  # for one size only
        self.windows = tuple(int(stage.blocks[0].attn.window_size[0]) for stage in net.layers)
        self.channels = tuple(int(info["num_chs"]) for info in net.feature_info)
        for width, stage in zip(self.channels, net.layers, strict=True):
            heads = stage.blocks[0].attn.num_heads
            if width % heads:
                raise ConfigError(
                    f"backbone '{name}': {heads} heads do not divide {width} channels"
                )
        # official: the three maps that are used are normalised, each with weights of its own.
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in self.channels[1:])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of the four stages.

        Args:
            pixels: (B, 3, H, W), normalised.
        Returns:
            Four of (B, C, H / s, W / s), s = 4, 8, 16, 32; the last three are layer-normalised.
        """
        patches = F.pad(pixels, (0, -pixels.shape[3] % 4, 0, -pixels.shape[2] % 4))
        x = self.patch_embed.proj(patches).permute(0, 2, 3, 1)  # (B, H / 4, W / 4, C)
        x = self.patch_embed.norm(x)
        maps = []
        for index, stage in enumerate(self.layers):
            x = stage.downsample(x)  # an identity in the first stage, a new map in the others
            x = run_blocks(stage.blocks, x, self.windows[index])
            out = self.norms[index - 1](x) if index else x
            maps.append(out.permute(0, 3, 1, 2))
        return maps
