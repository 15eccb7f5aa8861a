"""Modulated deformable convolution (DCNv2, arXiv 1811.11168) on maps that lie in a table of rows.

A deformable convolution is a sparse sum followed by a matrix product. Each of the K taps of an
output position reads four rows of the table, the corners around its fractional position, with
bilinear weights times the tap's mask: `sampling_plan` says which rows and how much of each.
`sampled_matmul` then sums the rows and multiplies by the kernel. As a plan holds nothing but row
numbers and weights, one call serves outputs of many levels, each of which may read another level.

Letters: B images, R rows of the table per image, C channels, Q output positions per image, K taps
of the kernel, O output channels. This file knows nothing about pyramids, gates or norms: it is told
which map to read.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from glip.model.ops.kept import kept
from glip.model.ops.levels import reread_places
from glip.model.ops.linear import linear
from glip.model.ops.tiles import tiles


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

    Tap (i, j) of output (y, x) samples the map at (y * stride - padding + i + dy, likewise x), in
    pixels of that map; what lies outside the map counts as zero.

    Args:
        offsets: (B, h, w, 2 * K) of any strides, pixels, (dy, dx) per tap; the taps of the square
            kernel row by row.
        mask: (B, h, w, K), factor of each tap.
        input_hw: Size of the map that is read, stored row by row in the table.
        first_row: Row of the table where that map begins in the first image.
        rows_per_image: Rows between one image and the next; by default the map fills the table.
    Returns:
        A plan for the h * w outputs, row by row; weights in float32 (float64 if the offsets are).
    """
    batch, out_h, out_w, taps = mask.shape
    side = round(taps**0.5)
    assert offsets.shape == (batch, out_h, out_w, 2 * taps) and side * side == taps
    in_h, in_w = input_hw
    device = offsets.device
    dtype = torch.float64 if offsets.dtype == torch.float64 else torch.float32

    # Undeformed positions. They are spread along one long axis, as broadcasting along axes of
    # length three costs more than all that follows.
    tap = torch.arange(taps, device=device)
    tap_y, tap_x = (tap // side).to(dtype), (tap % side).to(dtype)
    ys = torch.arange(out_h, device=device, dtype=dtype) * stride - padding
    xs = torch.arange(out_w, device=device, dtype=dtype) * stride - padding
    grid_y = (ys[:, None] + tap_y.repeat(out_w)).view(out_h, out_w, taps)
    grid_x = (xs[:, None] + tap_x).view(-1).expand(out_h, -1).reshape(out_h, out_w, taps)

    top, bottom, top_weight, bottom_weight = _corners(grid_y + offsets[..., 0::2], in_h)
    left, right, left_weight, right_weight = _corners(grid_x + offsets[..., 1::2], in_w)
    if rows_per_image is None:
        rows_per_image = first_row + in_h * in_w
    start = torch.arange(batch, device=device, dtype=torch.int32) * rows_per_image + first_row
    start = start.view(-1, 1, 1, 1)
    top = top * in_w + start
    bottom = bottom * in_w + start
    top_weight = top_weight * mask
    bottom_weight = bottom_weight * mask
    indices = torch.stack([top + left, top + right, bottom + left, bottom + right], -1)
    weights = torch.stack(
        [
            top_weight * left_weight,
            top_weight * right_weight,
            bottom_weight * left_weight,
            bottom_weight * right_weight,
        ],
        -1,
    )
    return SamplingPlan(indices.flatten(1, 2), weights.flatten(1, 2))


def _corners(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N, ...) grid points below and above each position (int32, inside the map), their weights."""
    # All is zero beyond the ends; stopping there keeps the conversion to int32 defined. The slope
    # of `threshold` is zero at -1 itself, as in the official kernel; that of `clamp` is not.
    position = F.threshold(position, -1, -1).clamp(max=size)
    floor = position.detach().floor()
    fraction = position - floor
    low = floor.to(torch.int32)
    high = low + 1
    low_inside = low.clamp(0, size - 1)
    high_inside = high.clamp(0, size - 1)
    low_weight = (1 - fraction) * (low == low_inside)
    high_weight = fraction * (high == high_inside)
    return low_inside, high_inside, low_weight, high_weight


def join_plans(plans: Sequence[SamplingPlan]) -> SamplingPlan:
    """One plan whose outputs are those of `plans` one after the other: (B, ΣQ, K, 4)."""
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
    batch, fine_h, fine_w, channels = maps.shape
    places = _reread_places((fine_h, fine_w), size_hw, channels, str(maps.device))
    return maps.flatten(1).index_select(1, places).view(batch, *size_hw, channels)


@kept(64)
def _reread_places(
    fine: tuple[int, int], coarse: tuple[int, int], channels: int, device: str
) -> Tensor:
    """(h · w · N,) of an image's flattened (H, W, N) numbers."""
    cell, channel = reread_places(fine, coarse, channels)
    return torch.from_numpy((cell * channels + channel).ravel()).to(device)


def sampled_matmul(table: Tensor, plan: SamplingPlan, weight: Tensor, bias: Tensor) -> Tensor:
    """Sum the rows of the plan and apply the kernel.

    The (Q, K * C) sums never exist as a whole: a tile of them is made, multiplied and dropped, and
    made again in the backward pass.

    Args:
        table: (B, R, C) rows that the plan refers to.
        plan: For Q outputs per image.
        weight: (O, C, k, k), the usual convolution weight.
        bias: (O,).
    Returns:
        (B, Q, O) in the table's dtype, which is also the dtype of the arithmetic.
    """
    batch, outputs, taps, corners = plan.indices.shape
    kernel = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # (O, K * C)
    with torch.autocast(table.device.type, enabled=False):
        result: Tensor = _SampledMatmul.apply(
            table.flatten(0, 1),
            plan.indices.view(-1, taps, corners),
            plan.weights.reshape(-1, taps, corners),
            kernel.to(table.dtype),
            bias.to(table.dtype),
        )
    return result.view(batch, outputs, len(weight))


class _SampledMatmul(torch.autograd.Function):
    """`sampled_matmul` of N = B * Q outputs: a (B * R, C) table, an (O, K * C) kernel -> (N, O)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        table: Tensor,
        indices: Tensor,
        weights: Tensor,
        kernel: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """(N, O), of a table (R, C), (N, K, 4) indices and weights, (O, K * C) and (O,)."""
        ctx.save_for_backward(table, indices, weights, kernel)
        output = table.new_empty(len(indices), len(kernel))
        for tile in _tiles(len(indices), kernel):
            columns = _columns(table, indices[tile], weights[tile])
            output[tile] = linear(columns, kernel, bias)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of (N, O) as those of the table (R, C), weights (N, K, 4), kernel and bias."""
        table, indices, weights, kernel = (saved.detach() for saved in ctx.saved_tensors)
        # Its gradient is not asked for; but torch 2.4 cannot differentiate the sums without it.
        table.requires_grad_()
        need_table, _, need_weights, need_kernel, need_bias = ctx.needs_input_grad
        sum_dtype = torch.float64 if table.dtype == torch.float64 else torch.float32
        grad_table = None
        if need_table:
            grad_table = torch.zeros_like(table, dtype=sum_dtype, requires_grad=False)
        grad_kernel = torch.zeros_like(kernel, dtype=sum_dtype) if need_kernel else None
        grad_weights = torch.empty_like(weights) if need_weights else None
        grad_bias = grad.sum(0) if need_bias else None
        grad = grad.contiguous()  # that of a sum is one number repeated
        transposed = kernel.t().contiguous()

        for tile in _tiles(len(indices), kernel):
            index, weight = indices[tile], weights[tile]
            with torch.set_grad_enabled(need_weights):
                weight = weight.requires_grad_(need_weights)
                columns = _columns(table, index, weight)
            if grad_kernel is not None:
                grad_kernel += linear(columns.detach().t(), grad[tile].t()).t()
            if grad_weights is None and grad_table is None:
                continue
            grad_columns = linear(grad[tile], transposed)
            if grad_weights is not None:
                (grad_weights[tile],) = torch.autograd.grad(columns, weight, grad_columns)
            if grad_table is not None:
                _add_to_rows(grad_table, index, weight.detach(), grad_columns)

        if grad_table is not None:
            grad_table = grad_table.to(table.dtype)
        if grad_kernel is not None:
            grad_kernel = grad_kernel.to(kernel.dtype)
        return grad_table, None, grad_weights, grad_kernel, grad_bias


def _tiles(outputs: int, kernel: Tensor) -> Iterator[slice]:
    """Slices of the outputs, as long as a tile of columns may be; the kernel is (O, K * C)."""
    return tiles(outputs, kernel.shape[1] * kernel.element_size(), kernel.device)


def _columns(table: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of four rows each: (N, K, 4) indices and weights -> (N, K * C)."""
    sums = F.embedding_bag(
        indices.flatten(0, 1),
        table,
        per_sample_weights=weights.flatten(0, 1).to(table.dtype),
        mode="sum",
    )
    return sums.view(len(indices), -1)


def _add_to_rows(total: Tensor, indices: Tensor, weights: Tensor, grad_columns: Tensor) -> None:
    """The transpose of `_columns`: each row of `total` (rows, C) gets the columns that read it."""
    by_row, order = indices.flatten().sort()
    rows, counts = by_row.unique_consecutive(return_counts=True)
    sums = F.embedding_bag(
        order // indices.shape[-1],
        grad_columns.reshape(-1, total.shape[1]),
        counts.cumsum(0) - counts,
        per_sample_weights=weights.flatten()[order].to(grad_columns.dtype),
        mode="sum",
    )
    total.index_add_(0, rows, sums.to(total.dtype))


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
