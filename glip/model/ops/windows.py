"""Blocks of a Swin Transformer (arXiv 2103.14030): attention inside windows, shifted or not.

All that a block does stays inside a window. On a CPU windows go through the whole block a tile at a
time and no map of queries or hidden units is ever written out; on a GPU all windows go through each
step together. Which cells make up which window is worked out once for each size, on the host.

Letters: B images, H and W cells of a map, C channels, a = window² cells of a window.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from glip.model.ops.attention import attention, padded
from glip.model.ops.kept import kept
from glip.model.ops.linear import linear
from glip.model.ops.tiles import tile_length, tiles
from glip.model.ops.transfer import uploaded

MASKED = -100.0  # official: a finite number, so a hidden position keeps e^-100 of its weight


@kept(8)
def relative_position_index(window: int) -> Tensor:
    """(a · a,) int64 row of the bias table for each pair of positions in a window."""
    return torch.from_numpy(_relative_positions(window).ravel())


def _relative_positions(window: int) -> NDArray[np.int64]:
    """(a, a) row of the bias table."""
    y, x = (axis.ravel() for axis in np.indices((window, window)))
    down = y[:, None] - y[None, :] + window - 1
    right = x[:, None] - x[None, :] + window - 1
    return down * (2 * window - 1) + right


class _Cut(NamedTuple):
    """The windows of all images of a batch, those that the shift tears apart last."""

    cells: NDArray[np.int64]  # (windows, a) row of the map, -1 where there is only padding
    pieces: NDArray[np.int64]  # (windows, a): cells of different pieces must not see one another
    whole: int  # how many windows are in one piece


def _cut(batch: int, height: int, width: int, window: int, shift: int) -> _Cut:
    """Pad, shift, cut. official: a window does not shrink on maps smaller than itself."""
    high, wide = height + -height % window, width + -width % window

    def windows(values: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, high, wide) -> (windows, a)."""
        rows = values.reshape(batch, high // window, window, wide // window, window)
        return rows.swapaxes(2, 3).reshape(-1, window * window)

    cells: NDArray[np.int64] = np.full((batch, high, wide), -1)
    cells[:, :height, :width] = np.arange(batch * height * width).reshape(batch, height, width)
    cells = windows(np.roll(cells, (-shift, -shift), (1, 2)))
    # Windows at the far border of a shifted map hold pieces from opposite sides of it.
    pieces: NDArray[np.int64] = np.zeros((batch, high, wide), np.int64)
    if shift:
        for start in (window, shift):
            pieces[:, high - start :] += 3
            pieces[:, :, wide - start :] += 1
    pieces = windows(pieces)
    torn = (pieces != pieces[:, :1]).any(1)
    order = torn.argsort(kind="stable")
    return _Cut(cells[order], pieces[order], int((~torn).sum()))


def _hidden(pieces: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """(windows, 1, a, width) what is added to the scores of each pair, from (windows, a) pieces."""
    apart = pieces[:, :, None] != pieces[:, None, :]
    mask = np.zeros((*pieces.shape, width), np.float32)
    mask[..., : pieces.shape[1]] = apart * np.float32(MASKED)
    return mask[:, None]


def _attend(layer: Any, windows: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Attention inside windows, with the weights of one of timm's attention layers.

    Args:
        layer: A `WindowAttention`; its `qkv`, `proj` and `num_heads` are used.
        windows: (n, a, C).
        bias: (1, heads, a, width) by relative position; what goes beyond a is filling.
        mask: (m, 1, a, width) of the last m windows or None.
    Returns:
        (n, a, C).
    """
    count, area, channels = windows.shape
    heads: int = layer.num_heads
    qkv = linear(windows, layer.qkv.weight, layer.qkv.bias)
    parts = qkv.view(count, area, 3, heads, -1).permute(2, 0, 3, 1, 4)
    whole = count - (0 if mask is None else len(mask))
    mixed = []
    if whole:
        mixed.append(_mix(parts[:, :whole], bias))
    if mask is not None:
        mixed.append(_mix(parts[:, whole:], bias + mask))
    joined = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
    return linear(joined.reshape(count, area, channels), layer.proj.weight, layer.proj.bias)


def _mix(parts: Tensor, bias: Tensor) -> Tensor:
    """(n, a, heads, d) of queries, keys and values (3, n, heads, a, d)."""
    query, key, value = parts
    return attention(query, key, value, bias).transpose(1, 2)


def run_blocks(blocks: Any, x: Tensor, window: int) -> Tensor:
    """The blocks of one stage, every second one with shifted windows.

    Args:
        blocks: timm's `SwinTransformerBlock`s.
        x: (B, H, W, C). May be overwritten with the result unless gradients are recorded.
        window: Side of a window.
    Returns:
        (B, H, W, C).
    """
    return (run_in_tiles if x.device.type == "cpu" else run_on_map)(blocks, x, window)


# --------------------------------------------------------------------------------- a tile at a time


class _Tile(NamedTuple):
    """Some windows of a map, n cells in all, padding included."""

    cells: Tensor  # (n,) row of the map; any row where the cell is padding
    real_cells: Tensor  # (m,) the same without padding
    real: Tensor | None  # (n, 1) bool, False on padding; None if there is none
    kept: Tensor | None  # (m,) positions of the real cells among the n; None if all are
    images: Tensor  # (m,) image of each real cell
    mask: Tensor | None  # (windows, 1, a, a); None if no window is torn


class _Tiles(NamedTuple):
    """How a map of one size is cut into tiles."""

    tiles: tuple[_Tile, ...]
    place: Tensor  # (B · H · W,) where each cell of the map is in the tiles' kept cells


@kept(32)
def _tiles_of(batch: int, height: int, width: int, window: int, shift: int, length: int) -> _Tiles:
    """Tiles of at most `length` cells (one window at least), each of whole or of torn windows."""
    cut = _cut(batch, height, width, window, shift)
    most = max(1, length // (window * window))
    ends = [*range(0, cut.whole, most), *range(cut.whole, len(cut.cells), most), len(cut.cells)]
    tiles, kept_cells = [], []
    for start, stop in pairwise(ends):
        flat = cut.cells[start:stop].ravel()
        real = flat >= 0
        full = bool(real.all())
        kept_cells.append(flat[real])
        mask = None
        if start >= cut.whole:
            mask = torch.from_numpy(_hidden(cut.pieces[start:stop], window * window))
        tiles.append(
            _Tile(
                torch.from_numpy(flat.clip(0)),
                torch.from_numpy(flat[real]),
                None if full else torch.from_numpy(real[:, None]),
                None if full else torch.from_numpy(real.nonzero()[0]),
                torch.from_numpy(flat[real] // (height * width)),
                mask,
            )
        )
    place = torch.from_numpy(np.concatenate(kept_cells).argsort())
    return _Tiles(tuple(tiles), place)


def run_in_tiles(blocks: Any, x: Tensor, window: int) -> Tensor:
    """`run_blocks` for a CPU: what a tile of windows goes through stays in the cache.

    A window needs no cells but its own, so without gradients a tile goes back to where it came
    from, in `x`: (B, H, W, C) to (B, H, W, C).
    """
    batch, height, width, channels = x.shape
    area = window * window
    index = relative_position_index(window)
    length = tile_length(4 * channels * x.element_size(), x.device)  # of hidden units
    rows = x.reshape(-1, channels)
    for number, block in enumerate(blocks):
        shift = window // 2 if number % 2 else 0
        plan = _tiles_of(batch, height, width, window, shift, length)
        table = block.attn.relative_position_bias_table
        bias = table[index].view(1, area, area, -1).permute(0, 3, 1, 2).contiguous()
        keep_attention, keep_mlp = _kept_branches(block, x)
        done = []
        for tile in plan.tiles:
            cells = rows[tile.cells]
            normal = block.norm1(cells)
            if tile.real is not None:
                # official: the zeros that fill the last windows are keys and values like any other.
                normal = normal * tile.real
            mask = None if tile.mask is None else tile.mask.to(bias.dtype)
            mixed = _attend(block.attn, normal.view(-1, area, channels), bias, mask)
            mixed = mixed.view(-1, channels)
            if tile.kept is not None:
                cells, mixed = cells[tile.kept], mixed[tile.kept]
            if keep_attention is not None:
                mixed = mixed * keep_attention[tile.images]
            cells = cells + mixed
            hidden = _feed_forward(block, cells)
            if keep_mlp is not None:
                hidden = hidden * keep_mlp[tile.images]
            if torch.is_grad_enabled():
                done.append(cells + hidden)
            else:
                rows[tile.real_cells] = cells + hidden
        if done:
            rows = torch.cat(done)[plan.place]
    return rows.view(batch, height, width, channels)


def _kept_branches(block: Any, x: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Stochastic depth drops a branch of a whole image: (B, 1) factors of both, if training."""
    if not block.training:
        return None, None
    ones = x.new_ones(len(x), 1)
    return block.drop_path1(ones), block.drop_path2(ones)


def _feed_forward(block: Any, cells: Tensor) -> Tensor:
    """(n, C) second branch of a block, of (n, C) cells."""
    hidden = linear(block.norm2(cells), block.mlp.fc1.weight, block.mlp.fc1.bias)
    return linear(F.gelu(hidden), block.mlp.fc2.weight, block.mlp.fc2.bias)


# ------------------------------------------------------------------------------ all windows at once


class _Map(NamedTuple):
    """How maps of one size are cut into windows, N cells of all images in all, padding included."""

    cells: Tensor  # (N,) row of the map; any row where the cell is padding
    real: Tensor | None  # (N, 1) bool, False on padding; None if there is none
    place: Tensor  # (B · H · W,) where each cell of the map is among the N
    mask: Tensor | None  # (torn windows, 1, a, width); None if no window is torn


@kept(256)  # eight for a size of pictures: four stages, with windows shifted or not
def _map_of(
    height: int, width: int, window: int, shift: int, device: str, dtype: torch.dtype
) -> tuple[_Map, int]:
    """Of one image, and how many of its cells are in whole windows, which come first."""
    cut = _cut(1, height, width, window, shift)
    flat = cut.cells.ravel()
    real = flat >= 0
    place = np.empty(height * width, np.int64)
    place[flat[real]] = real.nonzero()[0]
    pieces = cut.pieces[cut.whole :]
    plan = _Map(
        uploaded(torch.from_numpy(flat.clip(0)), device),
        None if real.all() else uploaded(torch.from_numpy(real[:, None]), device),
        uploaded(torch.from_numpy(place), device),
        uploaded(torch.from_numpy(_hidden(pieces, padded(window * window))).to(dtype), device)
        if len(pieces)
        else None,
    )
    return plan, cut.whole * window * window


def _of_batch(plan: _Map, whole: int, batch: int) -> _Map:
    """The map of one image for several: whole windows of all images, then the torn ones of all.

    Worked out on the device, so that another number of images uploads nothing.

    Args:
        plan: (N,) cells of an image of H · W.
        whole: How many of them are in whole windows.
        batch: B.
    """
    if batch == 1:
        return plan
    torn, area = len(plan.cells) - whole, len(plan.place)
    image = torch.arange(batch, device=plan.cells.device)[:, None]
    cells = plan.cells + image * area  # (B, N)
    # A cell of image i has i images before it in its half, and in the second half the whole first.
    ahead = torch.where(plan.place < whole, image * whole, (batch - 1) * whole + image * torn)
    return _Map(
        _halves(cells, whole),
        None if plan.real is None else _halves(plan.real.expand(batch, -1, -1), whole),
        (plan.place + ahead).flatten(),
        None if plan.mask is None else plan.mask.repeat(batch, 1, 1, 1),
    )


def _halves(rows: Tensor, whole: int) -> Tensor:
    """(B, N, ...) -> (B · N, ...): all before `whole` of every image, then all behind it."""
    if whole == rows.shape[1]:
        return rows.flatten(0, 1)
    return torch.cat([rows[:, :whole].flatten(0, 1), rows[:, whole:].flatten(0, 1)])


@kept(8)
def _padded_index(window: int, device: str) -> Tensor:
    """(a · width,) row of the bias table for each pair, the first one where there is filling."""
    positions = _relative_positions(window)
    filling = padded(len(positions)) - len(positions)
    padded_rows = np.pad(positions, ((0, 0), (0, filling)))
    return uploaded(torch.from_numpy(padded_rows.ravel()), device)


def run_on_map(blocks: Any, x: Tensor, window: int) -> Tensor:
    """`run_blocks` for a GPU: every step once over the whole (B, H, W, C), no value read back."""
    batch, height, width, channels = x.shape
    area = window * window
    index = _padded_index(window, str(x.device))
    rows = x.reshape(-1, channels)
    plans: dict[int, _Map] = {}
    for number, block in enumerate(blocks):
        shift = window // 2 if number % 2 else 0
        table = block.attn.relative_position_bias_table
        if shift not in plans:
            one = _map_of(height, width, window, shift, str(x.device), table.dtype)
            plans[shift] = _of_batch(*one, batch)
        plan = plans[shift]
        bias = table.t().index_select(1, index).view(1, -1, area, padded(area))
        keep_attention, keep_mlp = _kept_branches(block, x)
        normal = block.norm1(rows).index_select(0, plan.cells)
        if plan.real is not None:
            # official: the zeros that fill the last windows are keys and values like any other.
            normal = normal * plan.real
        mixed = _attend(block.attn, normal.view(-1, area, channels), bias, plan.mask)
        mixed = mixed.view(-1, channels).index_select(0, plan.place)
        rows = rows + _of_images(mixed, keep_attention)
        row_bytes = 4 * channels * rows.element_size()
        parts = [
            _feed_forward(block, rows[place]) for place in tiles(len(rows), row_bytes, x.device)
        ]
        hidden = parts[0] if len(parts) == 1 else torch.cat(parts)
        rows = rows + _of_images(hidden, keep_mlp)
    return rows.view(batch, height, width, channels)


def _of_images(rows: Tensor, factors: Tensor | None) -> Tensor:
    """(B · H · W, C) rows times the (B, 1) factor of their image, if there are factors."""
    if factors is None:
        return rows
    return (rows.unflatten(0, (len(factors), -1)) * factors[:, None]).flatten(0, 1)
