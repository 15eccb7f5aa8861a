"""Modulated deformable convolution (DCNv2, arXiv 1811.11168) over maps that lie in one table of rows.

A deformable convolution is a sparse sum followed by a matrix product. Each of the K taps of an output
position reads four rows of the table (the corners around its fractional position) with bilinear
weights times the tap's mask: `sampling_plan` says which rows and how much of each. `sampled_matmul`
then sums the rows and multiplies by the kernel. As a plan only holds row numbers, one call serves
outputs of many levels, each of which may read any other level.

Letters: B images, R rows of the table per image, C channels, Q output positions per image, K taps of
the kernel, O output channels. This file knows nothing about pyramids, gates or norms: it is told which
map to read.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class SamplingPlan(NamedTuple):
    """Which rows of a (B * R, C) table each tap of each output reads, and with which weight."""

    indices: Tensor  # (B, Q, K, 4) int32, always valid rows, also where the weight is zero
    weights: Tensor  # (B, Q, K, 4) bilinear weight times mask, zero outside the map


def sampling_plan(
    offsets: Tensor,
    mask: Tensor,
    *,
    input_hw: tuple[int, int],
    stride: int = 1,
    padding: int = 1,
    first_row: int = 0,
    rows_per_image: int | None = None,
) -> SamplingPlan:
    """Turn offsets and mask of one output map into rows and weights.

    Tap (i, j) of output (y, x) samples the map at (y * stride - padding + i + dy, likewise x), in pixels
    of that map; what lies outside the map counts as zero.

    Args:
        offsets: (B, h, w, 2 * K) of any strides, (dy, dx) per tap, taps of a square kernel row by row.
        mask: (B, h, w, K), factor of each tap.
        input_hw: Size of the map that is read, stored row by row in the table.
        first_row: Row of the table where that map begins in the first image.
        rows_per_image: Rows between one image and the next; by default the map fills the table.
    Returns:
        A plan for the h * w outputs, in float32 (float64 if the offsets are).
    """
    batch, out_h, out_w, taps = mask.shape
    side = round(taps**0.5)
    assert offsets.shape == (batch, out_h, out_w, 2 * taps) and side * side == taps
    in_h, in_w = input_hw
    device = offsets.device
    dtype = torch.float64 if offsets.dtype == torch.float64 else torch.float32
    deltas = offsets.to(dtype).reshape(batch, out_h, out_w, side, side, 2)
    ys = torch.arange(out_h, device=device, dtype=dtype) * stride - padding
    xs = torch.arange(out_w, device=device, dtype=dtype) * stride - padding
    tap = torch.arange(side, device=device, dtype=dtype)
    y = deltas[..., 0] + (ys[:, None, None, None] + tap[:, None])  # (B, h, w, 3, 3)
    x = deltas[..., 1] + (xs[:, None, None] + tap)

    rows, row_weights = _corners(y, in_h)
    columns, column_weights = _corners(x, in_w)
    if rows_per_image is None:
        rows_per_image = first_row + in_h * in_w
    start = torch.arange(batch, device=device, dtype=torch.int32) * rows_per_image + first_row
    rows = rows * in_w + start.view(-1, 1, 1, 1, 1, 1)
    indices = rows[..., :, None] + columns[..., None, :]  # (B, h, w, 3, 3, 2, 2)
    row_weights = row_weights * mask.to(dtype).reshape(batch, out_h, out_w, side, side, 1)
    weights = row_weights[..., :, None] * column_weights[..., None, :]
    shape = (batch, out_h * out_w, taps, 4)
    return SamplingPlan(indices.reshape(shape), weights.reshape(shape))


def _corners(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Indices (..., 2) int32 and weights (..., 2) of the two grid points around each position."""
    low = position.floor().detach()
    fraction = position - low
    corner = torch.stack([low, low + 1], -1)
    inside = corner.clamp(0, size - 1)
    weight = torch.stack([1 - fraction, fraction], -1) * (inside == corner)
    return inside.to(torch.int32), weight


def join_plans(plans: Sequence[SamplingPlan]) -> SamplingPlan:
    """One plan whose outputs are those of `plans` one after the other, image by image."""
    return SamplingPlan(
        torch.cat([plan.indices for plan in plans], 1),
        torch.cat([plan.weights for plan in plans], 1),
    )


def reread_at_coarser_size(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Offsets or mask of a finer level as the released weights expect them at a coarser level.

    Args:
        maps: (B, H, W, N), offsets or mask (not both in one tensor) of the finer level.
        size_hw: (h, w) of the coarser level.
    Returns:
        (B, h, w, N).
    """
    # official: the kernel is handed the finer level's (N, H, W) buffer and reads its first N * h * w
    # numbers as (N, h, w). Neither a crop nor a resize; the weights were trained with it.
    batch, fine_h, fine_w, channels = maps.shape
    height, width = size_hw
    count = channels * height * width
    used = -(-count // (fine_h * fine_w))  # only the first channels of the buffer are reached
    assert used <= channels, f"{size_hw} is larger than {(fine_h, fine_w)}"
    buffer = maps[..., :used].permute(0, 3, 1, 2).reshape(batch, -1)[:, :count]
    return buffer.view(batch, channels, height, width).permute(0, 2, 3, 1)


def sampled_matmul(table: Tensor, plan: SamplingPlan, weight: Tensor, bias: Tensor) -> Tensor:
    """Sum the rows of the plan and apply the kernel.

    Args:
        table: (B, R, C) rows that the plan refers to.
        plan: For Q outputs per image.
        weight: (O, C, k, k), the usual convolution weight.
        bias: (O,).
    Returns:
        (B, Q, O) in the table's dtype.
    """
    batch, outputs, taps, _ = plan.indices.shape
    kernel = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # (O, K * C)
    columns = F.embedding_bag(
        plan.indices.reshape(-1, 4),
        table.reshape(-1, table.shape[-1]),
        per_sample_weights=plan.weights.reshape(-1, 4).to(table.dtype),
        mode="sum",
    )
    return F.linear(columns.view(batch, outputs, -1), kernel, bias)


def deform_conv2d(
    input: Tensor,
    offsets: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int = 1,
    padding: int = 1,
) -> Tensor:
    """One deformable convolution of (B, C, H, W) maps, with torchvision's meaning of the arguments.

    Args:
        offsets: (B, 2 * K, h, w); may be larger than the output, see `reread_at_coarser_size`.
        mask: (B, K, h, w), of the same size.
    Returns:
        (B, O, h', w').
    """
    side = weight.shape[-1]
    in_h, in_w = input.shape[2:]
    out_h = (in_h + 2 * padding - side) // stride + 1
    out_w = (in_w + 2 * padding - side) // stride + 1
    plan = sampling_plan(
        reread_at_coarser_size(offsets.permute(0, 2, 3, 1), (out_h, out_w)),
        reread_at_coarser_size(mask.permute(0, 2, 3, 1), (out_h, out_w)),
        input_hw=(in_h, in_w),
        stride=stride,
        padding=padding,
    )
    table = input.permute(0, 2, 3, 1).flatten(1, 2)
    output = sampled_matmul(table, plan, weight, bias)
    return output.mT.reshape(len(input), -1, out_h, out_w)
