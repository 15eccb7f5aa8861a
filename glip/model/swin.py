"""Swin Transformer (arXiv 2103.14030) in the form that detectors use, on timm's modules.

timm holds the layers and their weights; the road through them is ours, because timm classifies
pictures of one size and differs where maps do not divide into windows: it shifts first and pads
afterwards, so the border of a shifted window holds other pixels. Released GLIP weights expect
padding first.

All that a block does stays inside a window, so windows go through the whole block a tile at a time
and no map of queries or hidden units is ever written out. Which cells make up which window is
worked out once for each size.

Letters: B images, H and W cells of a map, C channels. Knows nothing about pyramids or pictures.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.errors import ConfigError
from glip.model.ops.linear import linear

MASKED = -100.0  # official: a finite number, so a hidden position keeps e^-100 of its weight

# Hidden units of the cells in a tile: on a CPU they should stay in its cache.
CPU_TILE = 2**22
GPU_TILE = 2**28


@lru_cache(maxsize=8)
def relative_position_index(window: int) -> Tensor:
    """(window² · window²,) int64 row of the bias table for each pair of positions in a window."""
    with torch.inference_mode(False):  # cached tensors outlive the mode they were first asked in
        axis = torch.arange(window)
        y, x = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
        down = y[:, None] - y[None, :] + window - 1
        right = x[:, None] - x[None, :] + window - 1
        return (down * (2 * window - 1) + right).flatten()


class _Tile(NamedTuple):
    """Some windows of a map, n cells in all, padding included."""

    cells: Tensor  # (n,) row of the map; any row where the cell is padding
    real_cells: Tensor  # (m,) the same without padding
    real: Tensor | None  # (n, 1) bool, False on padding; None if there is none
    kept: Tensor | None  # (m,) positions of the real cells among the n; None if all are
    images: Tensor  # (m,) image of each real cell
    mask: Tensor | None  # (windows, 1, window², window²); None if no window is torn


class _Windows(NamedTuple):
    """How a map of one size is cut into windows."""

    tiles: tuple[_Tile, ...]
    place: Tensor  # (B · H · W,) where each cell of the map is in the tiles' kept cells


@lru_cache(maxsize=32)
def _windows(
    batch: int, height: int, width: int, window: int, shift: int, limit: int, device: str
) -> _Windows:
    """Windows of all images of a batch, those that the shift tears apart last.

    Args:
        batch: B.
        height: H.
        width: W.
        window: Side of a window. official: it does not shrink on maps smaller than itself.
        shift: Cells by which the windows are moved down and right.
        limit: Most cells in a tile.
        device: Where the result goes.
    """
    high, wide = height + -height % window, width + -width % window

    def cut(values: Tensor) -> Tensor:
        """(B, high, wide) -> (B · windows, window²)."""
        rows = values.reshape(batch, high // window, window, wide // window, window)
        return rows.transpose(2, 3).reshape(-1, window * window)

    with torch.inference_mode(False):  # cached tensors outlive the mode they were first asked in
        cells = torch.full((batch, high, wide), -1)
        cells[:, :height, :width] = torch.arange(batch * height * width).view(batch, height, width)
        cells = cut(cells.roll((-shift, -shift), (1, 2)))
        # Windows at the far border of a shifted map hold pieces from opposite sides of it, which
        # must not see one another.
        pieces = torch.zeros(batch, high, wide, dtype=torch.int64)
        if shift:
            for start in (window, shift):
                pieces[:, high - start :] += 3
                pieces[:, :, wide - start :] += 1
        pieces = cut(pieces)
        torn = (pieces != pieces[:, :1]).any(1)
        order = torn.int().argsort(stable=True)
        cells, pieces = cells[order], pieces[order]
        whole = int((~torn).sum())
        most = max(1, limit // (window * window))
        edges = [*range(0, whole, most), *range(whole, len(cells), most), len(cells)]

        tiles, kept_cells = [], []
        for start, stop in pairwise(edges):
            flat = cells[start:stop].flatten()
            real = flat >= 0
            kept_cells.append(flat[real])
            mask = None
            if start >= whole:
                piece = pieces[start:stop]
                mask = (piece[:, :, None] != piece[:, None, :])[:, None].to(device) * MASKED
            full = bool(real.all())
            tiles.append(
                _Tile(
                    flat.clamp(min=0).to(device),
                    flat[real].to(device),
                    None if full else real[:, None].to(device),
                    None if full else real.nonzero()[:, 0].to(device),
                    (flat[real] // (height * width)).to(device),
                    mask,
                )
            )
        place = torch.empty(batch * height * width, dtype=torch.int64)
        place[torch.cat(kept_cells)] = torch.arange(len(place))
        return _Windows(tuple(tiles), place.to(device))


def _attend(attention: Any, windows: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attention inside windows, with the weights of one of timm's attention layers.

    Args:
        attention: A `WindowAttention`; its `qkv`, `proj` and `num_heads` are used.
        windows: (n, window², C).
        bias: (1, heads, window², window²) by relative position.
        mask: (n, 1, window², window²) or None.
    Returns:
        (n, window², C).
    """
    count, area, channels = windows.shape
    heads: int = attention.num_heads
    qkv = linear(windows, attention.qkv.weight, attention.qkv.bias)
    query, key, value = qkv.view(count, area, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if mask is not None:
        bias = bias + mask.to(bias.dtype)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    mixed = mixed.transpose(1, 2).reshape(count, area, channels)
    return linear(mixed, attention.proj.weight, attention.proj.bias)


def run_blocks(blocks: Any, x: Tensor, window: int) -> Tensor:
    """The blocks of one stage, every second one with shifted windows.

    Args:
        blocks: timm's `SwinTransformerBlock`s.
        x: (B, H, W, C). Overwritten with the result unless gradients are recorded: a window needs
            no cells but its own, so a tile can go back to where it came from.
        window: Side of a window.
    Returns:
        (B, H, W, C).
    """
    batch, height, width, channels = x.shape
    area = window * window
    index = relative_position_index(window).to(x.device)
    budget = CPU_TILE if x.device.type == "cpu" else GPU_TILE
    rows = x.reshape(-1, channels)
    for number, block in enumerate(blocks):
        shift = window // 2 if number % 2 else 0
        plan = _windows(
            batch, height, width, window, shift, budget // (4 * channels), str(x.device)
        )
        table = block.attn.relative_position_bias_table
        bias = table[index].view(1, area, area, -1).permute(0, 3, 1, 2).contiguous()
        # Stochastic depth drops a branch of a whole image: one factor for each.
        ones = x.new_ones(batch, 1)
        keep_attention, keep_mlp = block.drop_path1(ones), block.drop_path2(ones)
        done = []
        for tile in plan.tiles:
            cells = rows[tile.cells]
            normal = block.norm1(cells)
            if tile.real is not None:
                # official: the zeros that fill the last windows are keys and values like any other.
                normal = normal * tile.real
            mixed = _attend(block.attn, normal.view(-1, area, channels), bias, tile.mask)
            mixed = mixed.view(-1, channels)
            if tile.kept is not None:
                cells, mixed = cells[tile.kept], mixed[tile.kept]
            if block.training:
                mixed = mixed * keep_attention[tile.images]
            cells = cells + mixed
            hidden = linear(block.norm2(cells), block.mlp.fc1.weight, block.mlp.fc1.bias)
            hidden = linear(F.gelu(hidden), block.mlp.fc2.weight, block.mlp.fc2.bias)
            if block.training:
                hidden = hidden * keep_mlp[tile.images]
            if torch.is_grad_enabled():
                done.append(cells + hidden)
            else:
                rows[tile.real_cells] = cells + hidden
        if done:
            rows = torch.cat(done)[plan.place]
    return rows.view(batch, height, width, channels)


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
