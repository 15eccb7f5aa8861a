"""A dynamic head block over all levels at once, for a GPU with Triton: operators of torch.

The same three steps as in `by_level.py`. Each operator is one node for compilers and exporters,
with its own gradient; what it launches stands in `kernels.py`.

Letters as in `levels.py`; B images, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode

from glip.model.ops.gpu import VOLTA, is_at_least
from glip.model.ops.kept import kept
from glip.model.ops.levels import MOVES, Cells, Chunks, Shape, layout
from glip.model.ops.tiles import tiles

HAS_TRITON = find_spec("triton") is not None
logger = logging.getLogger(__name__)


class _Kernels:
    """`kernels.py`, imported when something of it is used: Triton takes a while to import."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("glip.model.ops.kernels"), name)


kernels: Any = _Kernels()


def serves(device: torch.device) -> bool:
    """Whether these operators run there; elsewhere, `by_level.py` does the same."""
    if device.type != "cuda" or not HAS_TRITON or not is_at_least(device, VOLTA):
        return False
    return _launches(str(device))


@kept(16)
def _launches(device: str) -> bool:
    """Whether Triton can launch kernels there; on a GPU that is not there, of fake tensors, it can.

    Most of its versions compile a little C for that, which images of containers often cannot.
    """
    if detect_fake_mode() is not None or not torch.cuda.is_available():
        return True
    try:
        kernels.trial(torch.device(device))
    except Exception as error:  # of many kinds: its own, of a compiler, of the operating system
        logger.warning(
            "Triton cannot launch kernels on %s (%s: %s), so the model takes a slower way; most "
            "versions need a C compiler and Python's headers",
            device,
            type(error).__name__,
            (str(error).strip() or "no reason").splitlines()[0],
        )
        return False
    return True


def convolve(
    regions: Tensor,
    shapes: Sequence[Shape],
    offset: nn.Conv2d,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Tensor:
    """Raw results of the three deformable convolutions; see `by_level.convolve`.

    Args:
        regions: (B, A, C), levels finest first, row-major inside each.
        shapes: (height, width) of each level.
        offset: (B, C, h, w) to (B, 3 · K, h, w).
        weights: (O, C, 3, 3) of each direction.
        biases: (O,) likewise.
    Returns:
        (B · Q, O), direction by direction, then image by image.
    """
    if torch.is_autocast_enabled(regions.device.type):  # in which any convolution is narrow
        regions = regions.to(torch.get_autocast_dtype(regions.device.type))
    batch = len(regions)
    places = layout(tuple(shapes), str(regions.device))
    mosaic = regions.index_select(1, places.mosaic.rows) * places.mosaic.keep
    maps = mosaic.unflatten(1, places.mosaic.size_hw).permute(0, 3, 1, 2)
    moves = offset(maps).permute(0, 2, 3, 1).flatten(1).index_select(1, places.moves)
    weight = torch.stack([kernel.permute(0, 2, 3, 1) for kernel in weights])
    bias = torch.stack(list(biases))
    result: Tensor = deformable(
        regions.contiguous(),
        moves.view(batch, -1, MOVES),
        places.grid,
        list(places.counts),
        weight.flatten(2).to(regions.dtype),
        bias.to(regions.dtype),
    )
    return result


def moments(raw: Tensor, shapes: Sequence[Shape]) -> Tensor:
    """Moments of each segment; see `by_level.moments`.

    Args:
        raw: (B · Q, C), what `convolve` returns.
        shapes: (height, width) of each level.
    Returns:
        (3, B, S, C) float32 or float64.
    """
    places = layout(tuple(shapes), str(raw.device))
    result: Tensor = segment_moments(raw, len(raw) // sum(places.counts), *places.chunks)
    return result


def combine(
    raw: Tensor, weights: Tensor, slopes: Tensor, biases: Tensor, shapes: Sequence[Shape]
) -> Tensor:
    """The larger of two lines of weighted sums; see `by_level.combine`.

    Args:
        raw: (B · Q, C), what `convolve` returns.
        weights: (B, S, C) of each segment's results.
        slopes: (B, L, 2, C) of both lines.
        biases: (B, L, 2, C) of both lines.
        shapes: (height, width) of each level.
    Returns:
        (B, A, C) in the dtype of the results.
    """
    cells = layout(tuple(shapes), str(raw.device)).cells
    ends = (part.contiguous() for part in (weights, slopes, biases))
    result: Tensor = combine_candidates(raw, *ends, *cells[:3], *cells.counts)
    return result


# --------------------------------------------------------------------------- deformable convolution


@torch.library.custom_op(
    "glip::deformable",
    mutates_args=(),
    schema="(Tensor table, Tensor moves, Tensor grid, int[] counts, Tensor weight, Tensor bias) "
    "-> Tensor",
)
def deformable(
    table: Tensor,
    moves: Tensor,
    grid: Tensor,
    counts: Sequence[int],
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    """Deformable convolutions of several directions over one table.

    Nothing as large as all deformed rows exists: a tile of them is gathered, multiplied and
    dropped, and gathered again in the backward pass.

    Args:
        table: (B, R, C) of all levels, contiguous.
        moves: (B, Q, 3 · K): dy and dx of each tap in cells of the map that is read, then the
            logits of the masks.
        grid: (Q, 5) int32, see `levels.Layout`.
        counts: Outputs of each direction.
        weight: (directions, O, K · C).
        bias: (directions, O).
    Returns:
        (B · Q, O), direction by direction, then image by image.
    """
    output = table.new_empty(len(table) * sum(counts), weight.shape[1])
    for part, direction, place in _parts(len(table), counts, weight):
        columns = kernels.gather(table, moves, grid, *place)
        torch.addmm(bias[direction], columns, weight[direction].t(), out=output[part])
    return output


def _parts(
    batch: int, counts: Sequence[int], weight: Tensor
) -> Iterator[tuple[slice, int, tuple[slice, int, int]]]:
    """Tiles of rows of the result, their direction, and how `kernels.gather` calls them."""
    first = 0
    for direction, count in enumerate(counts):
        row_bytes = weight.shape[2] * weight.element_size()
        for place in tiles(batch * count, row_bytes, weight.device):
            start = batch * first
            rows = slice(start + place.start, start + place.stop)
            yield rows, direction, (place, first, count)
        first += count


@deformable.register_fake
def _(
    table: Tensor,
    moves: Tensor,
    grid: Tensor,
    counts: Sequence[int],
    weight: Tensor,
    bias: Tensor,
) -> Tensor:
    return table.new_empty(len(table) * sum(counts), weight.shape[1])


@torch.library.custom_op(
    "glip::deformable_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor table, Tensor moves, Tensor grid, int[] counts, Tensor weight) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)
def deformable_backward(
    grad: Tensor,
    table: Tensor,
    moves: Tensor,
    grid: Tensor,
    counts: Sequence[int],
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of table, moves, weight and bias, in their dtypes.

    Args:
        grad: (B · Q, O).
        table: (B, R, C).
        moves: (B, Q, 3 · K).
        grid: (Q, 5).
        counts: Outputs of each direction.
        weight: (directions, O, K · C).
    Returns:
        (B, R, C), (B, Q, 3 · K), (directions, O, K · C) and (directions, O).
    """
    wide = kernels.wide_dtype(table)
    grad_table = torch.zeros_like(table, dtype=wide)
    grad_moves = torch.empty_like(moves, memory_format=torch.contiguous_format)
    grad_weight = torch.zeros_like(weight, dtype=wide)
    grad_bias = torch.zeros_like(weight[:, :, 0], dtype=wide)
    for part, direction, place in _parts(len(table), counts, weight):
        own = grad[part]
        columns = kernels.gather(table, moves, grid, *place)
        grad_weight[direction] += own.t() @ columns
        grad_bias[direction] += own.sum(0, dtype=wide)
        kernels.gather_backward(
            table, moves, grid, *place, own @ weight[direction], grad_table, grad_moves
        )
    return (
        grad_table.to(table.dtype),
        grad_moves,
        grad_weight.to(weight.dtype),
        grad_bias.to(weight.dtype),
    )


@deformable_backward.register_fake
def _(
    grad: Tensor,
    table: Tensor,
    moves: Tensor,
    grid: Tensor,
    counts: Sequence[int],
    weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    moved = torch.empty_like(moves, memory_format=torch.contiguous_format)
    return (
        torch.empty_like(table),
        moved,
        torch.empty_like(weight),
        weight.new_empty(weight.shape[:2]),
    )


def _keep_deformable(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    table, moves, grid, ctx.counts, weight, _ = inputs
    ctx.save_for_backward(table, moves, grid, weight)


def _deformable_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    table, moves, grid, weight = ctx.saved_tensors
    of_table, of_moves, of_weight, of_bias = deformable_backward(
        grad.contiguous(), table, moves, grid, ctx.counts, weight
    )
    return of_table, of_moves, None, None, of_weight, of_bias


deformable.register_autograd(_deformable_gradients, setup_context=_keep_deformable)


# ------------------------------------------------------------------------------------------ moments


@torch.library.custom_op(
    "glip::segment_moments",
    mutates_args=(),
    schema="(Tensor raw, int batch, Tensor runs, Tensor of_segments, Tensor shares) -> Tensor",
)
def segment_moments(
    raw: Tensor, batch: int, runs: Tensor, of_segments: Tensor, shares: Tensor
) -> Tensor:
    """Mean, variance and shared mean of each segment, see `kernels.moments`.

    Args:
        raw: (B · Q, C).
        batch: B.
        runs: (N, 5), see `levels.Chunks`.
        of_segments: (S, 3), likewise.
        shares: (Q,), likewise.
    Returns:
        (3, B, S, C).
    """
    return kernels.moments(raw, batch, Chunks(runs, of_segments, shares))


@segment_moments.register_fake
def _(raw: Tensor, batch: int, runs: Tensor, of_segments: Tensor, shares: Tensor) -> Tensor:
    return raw.new_empty(3, batch, len(of_segments), raw.shape[1], dtype=_wide(raw))


def _wide(raw: Tensor) -> torch.dtype:
    return torch.float64 if raw.dtype == torch.float64 else torch.float32


@torch.library.custom_op(
    "glip::segment_moments_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor raw, Tensor found, Tensor runs, Tensor of_segments, "
    "Tensor shares) -> Tensor",
)
def segment_moments_backward(
    grad: Tensor, raw: Tensor, found: Tensor, runs: Tensor, of_segments: Tensor, shares: Tensor
) -> Tensor:
    """Gradient of `raw`: (B · Q, C), from that of the moments, (3, B, S, C)."""
    return kernels.moments_backward(raw, Chunks(runs, of_segments, shares), found, grad)


@segment_moments_backward.register_fake
def _(
    grad: Tensor, raw: Tensor, found: Tensor, runs: Tensor, of_segments: Tensor, shares: Tensor
) -> Tensor:
    return torch.empty_like(raw)


def _keep_moments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    raw, _, *chunks = inputs
    ctx.save_for_backward(raw, output, *chunks)


def _moments_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return segment_moments_backward(grad.contiguous(), *ctx.saved_tensors), None, None, None, None


segment_moments.register_autograd(_moments_gradients, setup_context=_keep_moments)


# -------------------------------------------------------------------------------------- combination


@torch.library.custom_op(
    "glip::combine_candidates",
    mutates_args=(),
    schema="(Tensor raw, Tensor weights, Tensor slopes, Tensor biases, Tensor runs, "
    "Tensor corners, Tensor corner_weights, int cells, int rest) -> Tensor",
)
def combine_candidates(
    raw: Tensor,
    weights: Tensor,
    slopes: Tensor,
    biases: Tensor,
    runs: Tensor,
    corners: Tensor,
    corner_weights: Tensor,
    cells: int,
    rest: int,
) -> Tensor:
    """Weighted sums of candidates, then the larger of two lines of them, see `kernels.combine`.

    Args:
        raw: (B · Q, C).
        weights: (B, S, C).
        slopes, biases: (B, L, 2, C).
        runs: (N, 5), see `levels.Cells`.
        corners, corner_weights: (A, 4), likewise.
        cells, rest: Outputs of the first direction, and of each other one.
    Returns:
        (B, A, C).
    """
    places = Cells(runs, corners, corner_weights, (cells, rest))
    return kernels.combine(raw, weights, slopes, biases, places)


@combine_candidates.register_fake
def _(
    raw: Tensor,
    weights: Tensor,
    slopes: Tensor,
    biases: Tensor,
    runs: Tensor,
    corners: Tensor,
    corner_weights: Tensor,
    cells: int,
    rest: int,
) -> Tensor:
    return raw.new_empty(len(weights), cells, raw.shape[1])


@torch.library.custom_op(
    "glip::combine_candidates_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor raw, Tensor weights, Tensor slopes, Tensor biases, Tensor runs, "
    "Tensor corners, Tensor corner_weights, int cells, int rest) -> (Tensor, Tensor)",
)
def combine_candidates_backward(
    grad: Tensor,
    raw: Tensor,
    weights: Tensor,
    slopes: Tensor,
    biases: Tensor,
    runs: Tensor,
    corners: Tensor,
    corner_weights: Tensor,
    cells: int,
    rest: int,
) -> tuple[Tensor, Tensor]:
    """Gradient of `raw`, and parts of the others', see `kernels.combine_backward`.

    Args:
        grad: (B, A, C); the rest as of `combine_candidates`.
    Returns:
        (B · Q, C), and (B, N, 7, C) sums of each run.
    """
    places = Cells(runs, corners, corner_weights, (cells, rest))
    return kernels.combine_backward(raw, weights, slopes, biases, places, grad)


@combine_candidates_backward.register_fake
def _(
    grad: Tensor,
    raw: Tensor,
    weights: Tensor,
    slopes: Tensor,
    biases: Tensor,
    runs: Tensor,
    corners: Tensor,
    corner_weights: Tensor,
    cells: int,
    rest: int,
) -> tuple[Tensor, Tensor]:
    parts = raw.new_empty(len(weights), len(runs), 7, raw.shape[1], dtype=_wide(raw))
    return torch.empty_like(raw, dtype=_wide(raw)), parts


def _keep_combination(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, cells, rest = inputs
    ctx.save_for_backward(*tensors)
    ctx.counts = cells, rest


def _combination_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    raw, weights, slopes, biases, runs, *corners = ctx.saved_tensors
    of_raw, parts = combine_candidates_backward(
        grad.contiguous(), raw, weights, slopes, biases, runs, *corners, *ctx.counts
    )
    sums = parts.new_zeros(len(weights), slopes.shape[1], *parts.shape[2:])
    sums = sums.index_add(1, runs[:, 0], parts)  # (B, L, 7, C)
    same, finer, coarser = sums[:, :, 0], sums[:, 1:, 1], sums[:, :-1, 2]
    return (
        of_raw.to(raw.dtype),
        torch.cat([same, finer, coarser], 1),
        sums[:, :, 3:5],
        sums[:, :, 5:],
        *[None] * 5,
    )


combine_candidates.register_autograd(_combination_gradients, setup_context=_keep_combination)
