"""Swin Transformer (arXiv 2103.14030) in the form that detectors use, on timm's modules.

timm holds the layers and their weights; the road through them is ours, because timm classifies pictures
of one size and differs where maps do not divide into windows: it shifts first and pads afterwards, so
the border of a shifted window holds other pixels. Released GLIP weights expect padding first.

Knows nothing about pyramids or pictures: pixels in, four maps out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MASKED = -100.0  # official: a finite number, so a hidden position keeps e^-100 of its weight


@lru_cache(maxsize=8)
def relative_position_index(window: int) -> Tensor:
    """(window² · window²,) int64 row of the bias table for each pair of positions in a window."""
    with torch.inference_mode(False):  # cached tensors outlive the mode they were first asked in
        axis = torch.arange(window)
        y, x = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
        down = y[:, None] - y[None, :] + window - 1
        right = x[:, None] - x[None, :] + window - 1
        return (down * (2 * window - 1) + right).flatten()


@lru_cache(maxsize=64)
def shift_mask(
    height: int, width: int, window: int, shift: int, device: str, dtype: torch.dtype
) -> Tensor:
    """(windows, 1, window², window²): 0 between neighbours, `MASKED` between torn pieces.

    After a cyclic shift a window at the border holds pieces from opposite sides of the map, which must
    not see one another. Sizes are those of the padded map.
    """

    def piece(size: int) -> Tensor:
        index = torch.arange(size)
        return (index >= size - window).long() + (index >= size - shift).long()

    with torch.inference_mode(False):  # cached tensors outlive the mode they were first asked in
        pieces = piece(height)[:, None] * 3 + piece(width)[None, :]  # (height, width), 0..8
        rows = pieces.view(height // window, window, width // window, window)
        flat = rows.transpose(1, 2).reshape(-1, window * window)
        torn = flat[:, :, None] != flat[:, None, :]
        return (torn * MASKED)[:, None].to(device, dtype)


def _to_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B · windows, window², C); H and W are multiples of the window."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def _from_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `_to_windows`: (B · windows, window², C) -> (B, H, W, C)."""
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, x.shape[-1])


def window_attention(attention: Any, x: Tensor, window: int, shift: int) -> Tensor:
    """Attention inside (shifted) windows of a map, with the weights of one of timm's attention layers.

    Args:
        attention: One of timm's `WindowAttention`; its `qkv`, `proj`, `num_heads` and
            `relative_position_bias_table` are used.
        x: (B, H, W, C), normalised; any H and W.
        window: Side of a window. official: it does not shrink on maps smaller than itself.
        shift: Cells by which the windows are moved down and right; 0 for none.
    Returns:
        (B, H, W, C).
    """
    batch, height, width, channels = x.shape
    pad_h, pad_w = -height % window, -width % window
    # official: the zeros that fill the last windows are keys and values like any other position.
    x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    if shift:
        x = torch.roll(x, (-shift, -shift), (1, 2))
    windows = _to_windows(x, window)
    heads: int = attention.num_heads
    area = window * window
    qkv = attention.qkv(windows).view(-1, area, 3, heads, channels // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B · windows, heads, area, C / heads)
    table: Tensor = attention.relative_position_bias_table
    index = relative_position_index(window).to(table.device)
    bias = table[index].view(1, area, area, heads).permute(0, 3, 1, 2)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
    if shift:
        mask = shift_mask(height + pad_h, width + pad_w, window, shift, str(x.device), scores.dtype)
        scores = (scores.view(batch, -1, heads, area, area) + mask).view(-1, heads, area, area)
    mixed = scores.softmax(-1) @ value
    windows = attention.proj(mixed.transpose(1, 2).reshape(-1, area, channels))
    x = _from_windows(windows, window, height + pad_h, width + pad_w)
    if shift:
        x = torch.roll(x, (shift, shift), (1, 2))
    return x[:, :height, :width]


def run_blocks(blocks: Any, x: Tensor, window: int) -> Tensor:
    """The blocks of one stage, every second one with shifted windows.

    Args:
        blocks: timm's `SwinTransformerBlock`s.
        x: (B, H, W, C).
        window: Side of a window.
    """
    for number, block in enumerate(blocks):
        shift = window // 2 if number % 2 else 0
        mixed = window_attention(block.attn, block.norm1(x), window, shift)
        x = x + block.drop_path1(mixed)
        x = x + block.drop_path2(block.mlp(block.norm2(x)))
    return x


class SwinStages(nn.Module):
    """The four stages of a Swin Transformer, each read out before the next one downsamples.

    Args:
        name: A Swin model of timm, such as `swin_tiny_patch4_window7_224`.
        drop_path: Largest stochastic depth rate; it grows linearly from 0 over the blocks.
        options: Further arguments of the timm model.
    """

    def __init__(self, name: str, drop_path: float = 0.0, **options: Any) -> None:
        super().__init__()
        net: Any = timm.create_model(
            name, pretrained=False, num_classes=0, drop_path_rate=drop_path, **options
        )
        self.patch_embed: Any = net.patch_embed
        self.layers: Any = net.layers
        for stage in net.layers:
            for block in stage.blocks:
                block.register_buffer("attn_mask", None, persistent=False)  # for one size only
        self.window = int(net.layers[0].blocks[0].attn.window_size[0])
        self.channels = tuple(int(info["num_chs"]) for info in net.feature_info)
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
            x = stage.downsample(x)  # an identity in the first stage
            x = run_blocks(stage.blocks, x, self.window)
            out = self.norms[index - 1](x) if index else x
            maps.append(out.permute(0, 3, 1, 2))
        return maps
