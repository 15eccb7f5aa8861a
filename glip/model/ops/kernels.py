"""Triton kernels of a dynamic head block over all levels at once, forward and backward.

To be imported where Triton is; `glip/model/ops/table.py` makes operators of torch of them. Each
function launches its kernels on a GPU or, under TRITON_INTERPRET=1, on a CPU. Sums are in float32,
or in float64 for tables of float64.

Letters as in `levels.py`; B images, C channels, n rows. The results of all directions lie in one
buffer of B · Q rows: direction by direction, then image by image, then output by output.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped, untyped-decorator"

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from glip.model.ops.levels import CHUNK, Cells, Chunks

OUTPUTS = 32  # of one program of the gather
CHANNELS = 64  # at most, that a program holds of a row
WARPS = 8  # of a program that holds `CHUNK` rows
PARTIALS = 32  # chunks whose sums are combined at a time
# Numbers that change with the sizes of pictures and batches. Triton would compile a kernel anew for
# each mixture of those that 16 divides, and rows of so many channels are aligned whatever they are.
SIZES = (
    *("begin", "end", "first_output", "outputs", "rows", "moves_image", "grad_image"),
    *("batch", "chunks", "segments", "cells", "rest"),
)


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """In which sums over such a tensor are computed."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _wide(tensor: Tensor) -> tl.dtype:
    return tl.float64 if tensor.dtype == torch.float64 else tl.float32


def _current(tensor: Tensor) -> AbstractContextManager[None]:
    """Launches go to the tensor's GPU, whichever is the current one outside."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _block(channels: int) -> int:
    """Channels of one program."""
    return min(CHANNELS, max(16, triton.next_power_of_2(channels)))


@triton.jit
def _mark(out):
    tl.store(out, 1)


def trial(device: torch.device) -> None:
    """Launch a kernel that does next to nothing; raises what Triton lacks for it on a machine."""
    out = torch.empty(1, dtype=torch.int32, device=device)
    with _current(out):
        _mark[(1,)](out)


# -------------------------------------------------------------------------------- deformable gather


@triton.jit
def _corners(position, size, WIDE: tl.constexpr):
    """Grid points below and above a position, inside the map; their weights, and how those rise."""
    inside = (position > -1) & (position <= size)
    # All is zero beyond the ends. What is no number stays none, but reads a valid row.
    position = tl.where(position <= -1, -1.0, position)
    position = tl.where(position > size, size.to(WIDE), position)
    floor = tl.floor(position)
    fraction = position - floor
    low = floor.to(tl.int32)
    low_inside = tl.minimum(tl.maximum(low, 0), size - 1)
    high_inside = tl.minimum(tl.maximum(low + 1, 0), size - 1)
    low_counts = (low == low_inside).to(WIDE)
    high_counts = (low + 1 == high_inside).to(WIDE)
    slope = inside.to(WIDE)
    low_weight = (1 - fraction) * low_counts
    high_weight = fraction * high_counts
    return (
        low_inside,
        high_inside,
        low_weight,
        high_weight,
        -low_counts * slope,
        high_counts * slope,
    )


@triton.jit
def _read_tap(cell, own, valid, tap, TAPS: tl.constexpr, SIDE: tl.constexpr, WIDE: tl.constexpr):
    """First row and size of the map that a tap of each output reads, its position and its mask."""
    first = tl.load(cell, mask=valid, other=0)
    height = tl.load(cell + 1, mask=valid, other=1)
    width = tl.load(cell + 2, mask=valid, other=1)
    y = (tl.load(cell + 3, mask=valid, other=0) + tap // SIDE).to(WIDE)
    x = (tl.load(cell + 4, mask=valid, other=0) + tap % SIDE).to(WIDE)
    y += tl.load(own + 2 * tap, mask=valid, other=0.0).to(WIDE)
    x += tl.load(own + 2 * tap + 1, mask=valid, other=0.0).to(WIDE)
    logit = tl.load(own + 2 * TAPS + tap, mask=valid, other=0.0).to(WIDE)
    return first, height, width, y, x, 1 / (1 + tl.exp(-logit))


@triton.jit(do_not_specialize=SIZES)
def _gather(
    table,
    moves,
    grid,
    columns,
    begin,
    end,
    first_output,
    outputs,
    rows,
    moves_image,
    moves_output,
    channels,
    TAPS: tl.constexpr,
    SIDE: tl.constexpr,
    WIDE: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = begin + tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    valid = n < end
    image = (n // outputs).to(tl.int64)
    output = first_output + n % outputs
    tap = tl.program_id(1)
    own = moves + image * moves_image + output * moves_output
    first, height, width, y, x, mask = _read_tap(
        grid + output * 5, own, valid, tap, TAPS, SIDE, WIDE
    )
    top, bottom, up, down, _, _ = _corners(y, height, WIDE)
    left, right, back, ahead, _, _ = _corners(x, width, WIDE)
    up *= mask
    down *= mask
    c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    both = valid[:, None] & (c < channels)[None, :]
    row = image * rows + first
    place = table + c[None, :]
    at = place + ((row + top * width + left) * channels)[:, None]
    total = tl.load(at, mask=both, other=0.0).to(WIDE) * (up * back)[:, None]
    at = place + ((row + top * width + right) * channels)[:, None]
    total += tl.load(at, mask=both, other=0.0).to(WIDE) * (up * ahead)[:, None]
    at = place + ((row + bottom * width + left) * channels)[:, None]
    total += tl.load(at, mask=both, other=0.0).to(WIDE) * (down * back)[:, None]
    at = place + ((row + bottom * width + right) * channels)[:, None]
    total += tl.load(at, mask=both, other=0.0).to(WIDE) * (down * ahead)[:, None]
    column = ((n - begin).to(tl.int64) * TAPS + tap) * channels
    tl.store(columns + column[:, None] + c[None, :], total.to(columns.dtype.element_ty), mask=both)


@triton.jit
def _pull(table, grad_table, at, both, grad, weight, WIDE: tl.constexpr):
    """Sums of what a corner holds times the gradient; the corner gets its share of the latter."""
    dot = tl.sum(tl.load(table + at, mask=both, other=0.0).to(WIDE) * grad, 1)
    # Relaxed: nobody reads the sums before the next kernel, and the default order is a barrier for
    # all memory around each addition.
    tl.atomic_add(grad_table + at, grad * weight[:, None], mask=both, sem="relaxed")
    return dot


@triton.jit(do_not_specialize=SIZES)
def _gather_backward(
    table,
    moves,
    grid,
    grad_columns,
    grad_table,
    grad_moves,
    begin,
    end,
    first_output,
    outputs,
    rows,
    moves_image,
    moves_output,
    grad_image,
    channels,
    TAPS: tl.constexpr,
    SIDE: tl.constexpr,
    WIDE: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = begin + tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    valid = n < end
    image = (n // outputs).to(tl.int64)
    output = first_output + n % outputs
    tap = tl.program_id(1)
    own = moves + image * moves_image + output * moves_output
    first, height, width, y, x, mask = _read_tap(
        grid + output * 5, own, valid, tap, TAPS, SIDE, WIDE
    )
    top, bottom, up, down, up_slope, down_slope = _corners(y, height, WIDE)
    left, right, back, ahead, back_slope, ahead_slope = _corners(x, width, WIDE)
    above = image * rows + first + top * width
    below = image * rows + first + bottom * width
    column = ((n - begin).to(tl.int64) * TAPS + tap) * channels
    top_left = tl.zeros((OUTPUTS,), WIDE)
    top_right = tl.zeros((OUTPUTS,), WIDE)
    bottom_left = tl.zeros((OUTPUTS,), WIDE)
    bottom_right = tl.zeros((OUTPUTS,), WIDE)
    for start in range(0, channels, BLOCK):
        c = start + tl.arange(0, BLOCK)
        both = valid[:, None] & (c < channels)[None, :]
        grad = tl.load(grad_columns + column[:, None] + c[None, :], mask=both, other=0.0).to(WIDE)
        at = ((above + left) * channels)[:, None] + c[None, :]
        top_left += _pull(table, grad_table, at, both, grad, up * back * mask, WIDE)
        at = ((above + right) * channels)[:, None] + c[None, :]
        top_right += _pull(table, grad_table, at, both, grad, up * ahead * mask, WIDE)
        at = ((below + left) * channels)[:, None] + c[None, :]
        bottom_left += _pull(table, grad_table, at, both, grad, down * back * mask, WIDE)
        at = ((below + right) * channels)[:, None] + c[None, :]
        bottom_right += _pull(table, grad_table, at, both, grad, down * ahead * mask, WIDE)
    upper = back * top_left + ahead * top_right
    lower = back * bottom_left + ahead * bottom_right
    before = up * top_left + down * bottom_left
    behind = up * top_right + down * bottom_right
    own = grad_moves + image * grad_image + output * (3 * TAPS)
    element = grad_moves.dtype.element_ty
    tl.store(
        own + 2 * tap, (mask * (up_slope * upper + down_slope * lower)).to(element), mask=valid
    )
    along = mask * (back_slope * before + ahead_slope * behind)
    tl.store(own + 2 * tap + 1, along.to(element), mask=valid)
    drawn = mask * (1 - mask) * (up * upper + down * lower)
    tl.store(own + 2 * TAPS + tap, drawn.to(element), mask=valid)


def gather(
    table: Tensor, moves: Tensor, grid: Tensor, place: slice, first_output: int, outputs: int
) -> Tensor:
    """Deformed rows of some outputs of one direction.

    Args:
        table: (B, R, C), contiguous.
        moves: (B, Q, 3 · K) with its last axis dense: dy and dx of each tap, then logits of masks.
        grid: (Q, 5) int32, see `Layout`.
        place: Which of the B · `outputs` outputs of the direction.
        first_output: Of the direction among the Q.
        outputs: Of the direction, in one image.
    Returns:
        (n, K · C) in the table's dtype.
    """
    (_, rows, channels), taps = table.shape, moves.shape[2] // 3
    count, block = place.stop - place.start, _block(channels)
    columns = table.new_empty(count, taps * channels)
    with _current(table):
        _gather[(triton.cdiv(count, OUTPUTS), taps, triton.cdiv(channels, block))](
            table,
            moves,
            grid,
            columns,
            place.start,
            place.stop,
            first_output,
            outputs,
            rows,
            moves.stride(0),
            moves.stride(1),
            channels,
            TAPS=taps,
            SIDE=round(taps**0.5),
            WIDE=_wide(table),
            OUTPUTS=OUTPUTS,
            BLOCK=block,
        )
    return columns


def gather_backward(
    table: Tensor,
    moves: Tensor,
    grid: Tensor,
    place: slice,
    first_output: int,
    outputs: int,
    grad_columns: Tensor,
    grad_table: Tensor,
    grad_moves: Tensor,
) -> None:
    """Add to the table's gradient and write that of the moves, of the outputs that `place` has.

    Args:
        table, moves, grid, place, first_output, outputs: As for `gather`.
        grad_columns: (n, K · C), contiguous.
        grad_table: (B, R, C) in the dtype of sums.
        grad_moves: (B, Q, 3 · K), contiguous.
    """
    (_, rows, channels), taps = table.shape, moves.shape[2] // 3
    with _current(table):
        _gather_backward[(triton.cdiv(place.stop - place.start, OUTPUTS), taps)](
            table,
            moves,
            grid,
            grad_columns,
            grad_table,
            grad_moves,
            place.start,
            place.stop,
            first_output,
            outputs,
            rows,
            moves.stride(0),
            moves.stride(1),
            grad_moves.stride(0),
            channels,
            TAPS=taps,
            SIDE=round(taps**0.5),
            WIDE=_wide(table),
            OUTPUTS=OUTPUTS,
            BLOCK=_block(channels),
        )


# ------------------------------------------------------------------------------------------ moments


@triton.jit
def _run_of(runs, chunk, image, batch):
    """Segment of a chunk, its first row and its length in the buffer of all directions."""
    run = runs + chunk * 5
    segment = tl.load(run)
    first = tl.load(run + 1)
    outputs = tl.load(run + 2)
    start = tl.load(run + 3)
    row = first.to(tl.int64) * batch + image.to(tl.int64) * outputs + start
    return segment, first + start, row, tl.load(run + 4) - start


@triton.jit(do_not_specialize=SIZES)
def _chunk_sums(
    raw,
    runs,
    shares,
    partial,
    batch,
    channels,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    chunk, image = tl.program_id(0), tl.program_id(1)
    _, output, row, length = _run_of(runs, chunk, image, batch)
    n = tl.arange(0, ROWS)
    c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    valid, lane = n < length, c < channels
    both = valid[:, None] & lane[None, :]
    x = tl.load(raw + ((row + n) * channels)[:, None] + c[None, :], mask=both, other=0.0).to(WIDE)
    mean = tl.sum(x, 0) / length
    apart = tl.where(both, x - mean[None, :], 0.0)
    share = tl.load(shares + output + n, mask=valid, other=0.0).to(WIDE)
    at = partial + ((image * tl.num_programs(0) + chunk).to(tl.int64) * 3) * channels + c
    tl.store(at, mean, mask=lane)
    tl.store(at + channels, tl.sum(apart * apart, 0), mask=lane)
    tl.store(at + 2 * channels, tl.sum(x * share[:, None], 0), mask=lane)


@triton.jit(do_not_specialize=SIZES)
def _segment_moments(
    partial,
    runs,
    of_segments,
    moments,
    chunks,
    channels,
    WIDE: tl.constexpr,
    PARTIALS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    segment, image = tl.program_id(0), tl.program_id(1)
    begin = tl.load(of_segments + segment * 3)
    end = tl.load(of_segments + segment * 3 + 1)
    total = tl.load(of_segments + segment * 3 + 2).to(WIDE)
    c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    lane = c < channels
    sums = partial + (image.to(tl.int64) * chunks) * 3 * channels + c[None, :]
    mean = tl.zeros((BLOCK,), WIDE)
    shared = tl.zeros((BLOCK,), WIDE)
    for start in range(begin, end, PARTIALS):
        chunk = start + tl.arange(0, PARTIALS)
        both = (chunk < end)[:, None] & lane[None, :]
        length = tl.load(runs + chunk * 5 + 4, mask=chunk < end, other=0) - tl.load(
            runs + chunk * 5 + 3, mask=chunk < end, other=0
        )
        at = sums + (chunk * 3 * channels)[:, None]
        weight = (length.to(WIDE) / total)[:, None]
        mean += tl.sum(tl.load(at, mask=both, other=0.0) * weight, 0)
        shared += tl.sum(tl.load(at + 2 * channels, mask=both, other=0.0), 0)
    # Squares around each chunk's own mean, and of the chunks' means around that of all.
    variance = tl.zeros((BLOCK,), WIDE)
    for start in range(begin, end, PARTIALS):
        chunk = start + tl.arange(0, PARTIALS)
        both = (chunk < end)[:, None] & lane[None, :]
        length = tl.load(runs + chunk * 5 + 4, mask=chunk < end, other=0) - tl.load(
            runs + chunk * 5 + 3, mask=chunk < end, other=0
        )
        at = sums + (chunk * 3 * channels)[:, None]
        apart = tl.load(at, mask=both, other=0.0) - mean[None, :]
        within = tl.load(at + channels, mask=both, other=0.0)
        weight = (length.to(WIDE) / total)[:, None]
        variance += tl.sum(tl.where(both, apart * apart * weight, 0.0) + within / total, 0)
    segments = tl.num_programs(0)
    at = moments + (image.to(tl.int64) * segments + segment) * channels + c
    step = tl.num_programs(1).to(tl.int64) * segments * channels
    tl.store(at, mean, mask=lane)
    tl.store(at + step, variance, mask=lane)
    tl.store(at + 2 * step, shared, mask=lane)


@triton.jit(do_not_specialize=SIZES)
def _moments_backward(
    raw,
    runs,
    of_segments,
    shares,
    moments,
    grad,
    grad_raw,
    batch,
    segments,
    channels,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    chunk, image = tl.program_id(0), tl.program_id(1)
    segment, output, row, length = _run_of(runs, chunk, image, batch)
    total = tl.load(of_segments + segment * 3 + 2).to(WIDE)
    n = tl.arange(0, ROWS)
    c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    valid, lane = n < length, c < channels
    both = valid[:, None] & lane[None, :]
    step = tl.num_programs(1).to(tl.int64) * segments * channels
    at = (image.to(tl.int64) * segments + segment) * channels + c
    mean = tl.load(moments + at, mask=lane, other=0.0)
    d_mean = tl.load(grad + at, mask=lane, other=0.0) / total
    d_variance = tl.load(grad + at + step, mask=lane, other=0.0) * (2 / total)
    d_shared = tl.load(grad + at + 2 * step, mask=lane, other=0.0)
    share = tl.load(shares + output + n, mask=valid, other=0.0).to(WIDE)
    place = ((row + n) * channels)[:, None] + c[None, :]
    x = tl.load(raw + place, mask=both, other=0.0).to(WIDE)
    result = d_mean[None, :] + d_variance[None, :] * (x - mean[None, :])
    result += d_shared[None, :] * share[:, None]
    tl.store(grad_raw + place, result.to(grad_raw.dtype.element_ty), mask=both)


def moments(raw: Tensor, batch: int, chunks: Chunks) -> Tensor:
    """Mean, variance and shared mean of each segment.

    Args:
        raw: (B · Q, C), contiguous.
        batch: B.
        chunks: Of the segments, and the shares of their rows.
    Returns:
        (3, B, S, C): over the rows of each segment; the last one weighted with the shares.
    """
    channels, count = raw.shape[1], len(chunks.runs)
    segments = len(chunks.of_segments)
    block, dtype = _block(channels), wide_dtype(raw)
    partial = raw.new_empty(batch, count, 3, channels, dtype=dtype)
    with _current(raw):
        _chunk_sums[(count, batch, triton.cdiv(channels, block))](
            raw,
            chunks.runs,
            chunks.shares,
            partial,
            batch,
            channels,
            WIDE=_wide(raw),
            ROWS=CHUNK,
            BLOCK=block,
            num_warps=WARPS,
        )
    result = raw.new_empty(3, batch, segments, channels, dtype=dtype)
    with _current(partial):
        _segment_moments[(segments, batch, triton.cdiv(channels, block))](
            partial,
            chunks.runs,
            chunks.of_segments,
            result,
            count,
            channels,
            WIDE=_wide(raw),
            PARTIALS=PARTIALS,
            BLOCK=block,
        )
    return result


def moments_backward(raw: Tensor, chunks: Chunks, found: Tensor, grad: Tensor) -> Tensor:
    """Gradient of `raw`: (B · Q, C).

    Args:
        raw: (B · Q, C), as for `moments`.
        chunks: As for `moments`.
        found: (3, B, S, C), what that returned.
        grad: (3, B, S, C), gradient of it, contiguous.
    """
    channels, block = raw.shape[1], _block(raw.shape[1])
    batch, segments = found.shape[1:3]
    result = torch.empty_like(raw)
    with _current(raw):
        _moments_backward[(len(chunks.runs), batch, triton.cdiv(channels, block))](
            raw,
            chunks.runs,
            chunks.of_segments,
            chunks.shares,
            found,
            grad,
            result,
            batch,
            segments,
            channels,
            WIDE=_wide(raw),
            ROWS=CHUNK,
            BLOCK=block,
            num_warps=WARPS,
        )
    return result


# -------------------------------------------------------------------------------------- combination


@triton.jit
def _coarser_corner(corners, corner_weights, cell, corner, valid, WIDE: tl.constexpr):
    """Row of one of four coarser neighbours among their own, and its share of the mean."""
    row = tl.load(corners + cell * 4 + corner, mask=valid, other=0)
    return row, tl.load(corner_weights + cell * 4 + corner, mask=valid, other=0.0).to(WIDE)


@triton.jit
def _store_sums(sums, grad_y, same, finer, coarser, grad_1, grad_2, y, lane, channels):
    """Of a chunk: gradients of the weights of three directions, of two slopes and two biases."""
    tl.store(sums, tl.sum(grad_y * same, 0), mask=lane)
    tl.store(sums + channels, tl.sum(grad_y * finer, 0), mask=lane)
    tl.store(sums + 2 * channels, tl.sum(grad_y * coarser, 0), mask=lane)
    tl.store(sums + 3 * channels, tl.sum(grad_1 * y, 0), mask=lane)
    tl.store(sums + 4 * channels, tl.sum(grad_2 * y, 0), mask=lane)
    tl.store(sums + 5 * channels, tl.sum(grad_1, 0), mask=lane)
    tl.store(sums + 6 * channels, tl.sum(grad_2, 0), mask=lane)


@triton.jit(do_not_specialize=SIZES)
def _combine(
    raw,
    weights,
    slopes,
    biases,
    runs,
    corners,
    corner_weights,
    out,
    grad_raw,
    partial,
    batch,
    cells,
    rest,
    channels,
    LEVELS: tl.constexpr,
    BACKWARD: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    chunk, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    level, cell, _, length = _run_of(runs, chunk, image, batch)
    n = tl.arange(0, ROWS)
    c = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    valid, lane = n < length, c < channels
    both = valid[:, None] & lane[None, :]
    cell += n
    has_finer, has_coarser = level > 0, level < LEVELS - 1

    # Rows of the three directions; those of the finer one begin with the second level.
    same_at = ((image * cells + cell) * channels)[:, None] + c[None, :]
    finer_row = (image * 0 + cells) * batch + image * rest + cell - (cells - rest)
    finer_at = (finer_row * channels)[:, None] + c[None, :]
    coarser_first = (image * 0 + cells + rest) * batch + image * rest
    same = tl.load(raw + same_at, mask=both, other=0.0).to(WIDE)
    finer = tl.load(raw + finer_at, mask=both & has_finer, other=0.0).to(WIDE)
    coarser = tl.zeros((ROWS, BLOCK), WIDE)
    for corner in tl.static_range(4):
        row, share = _coarser_corner(corners, corner_weights, cell, corner, valid, WIDE)
        at = ((coarser_first + row) * channels)[:, None] + c[None, :]
        held = tl.load(raw + at, mask=both & has_coarser, other=0.0).to(WIDE)
        coarser += held * share[:, None]

    own = weights + (image * (3 * LEVELS - 2) + level) * channels + c
    of_same = tl.load(own, mask=lane, other=0.0)
    of_finer = tl.load(own + (LEVELS - 1) * channels, mask=lane & has_finer, other=0.0)
    of_coarser = tl.load(own + (2 * LEVELS - 1) * channels, mask=lane & has_coarser, other=0.0)
    y = same * of_same[None, :] + finer * of_finer[None, :] + coarser * of_coarser[None, :]

    line = (image * LEVELS + level) * 2 * channels + c
    slope_1 = tl.load(slopes + line, mask=lane, other=0.0)
    slope_2 = tl.load(slopes + line + channels, mask=lane, other=0.0)
    first = y * slope_1[None, :] + tl.load(biases + line, mask=lane, other=0.0)[None, :]
    second = y * slope_2[None, :] + tl.load(biases + line + channels, mask=lane, other=0.0)[None, :]
    if not BACKWARD:
        tl.store(out + same_at, tl.maximum(first, second).to(out.dtype.element_ty), mask=both)
    else:
        # Here `out` holds the gradient of what the forward pass has put there.
        grad = tl.load(out + same_at, mask=both, other=0.0).to(WIDE)
        chosen = tl.where(first > second, 1.0, tl.where(first == second, 0.5, 0.0)).to(WIDE)
        grad_1 = grad * chosen
        grad_2 = grad - grad_1
        grad_y = grad_1 * slope_1[None, :] + grad_2 * slope_2[None, :]
        tl.store(grad_raw + same_at, grad_y * of_same[None, :], mask=both)
        tl.store(grad_raw + finer_at, grad_y * of_finer[None, :], mask=both & has_finer)
        for corner in tl.static_range(4):
            row, share = _coarser_corner(corners, corner_weights, cell, corner, valid, WIDE)
            at = ((coarser_first + row) * channels)[:, None] + c[None, :]
            part = grad_y * of_coarser[None, :] * share[:, None]
            tl.atomic_add(grad_raw + at, part, mask=both & has_coarser, sem="relaxed")
        sums = partial + ((image * tl.num_programs(0) + chunk) * 7) * channels + c
        _store_sums(sums, grad_y, same, finer, coarser, grad_1, grad_2, y, lane, channels)


def combine(raw: Tensor, weights: Tensor, slopes: Tensor, biases: Tensor, cells: Cells) -> Tensor:
    """Weighted sums of the candidates of each cell, then the larger of two lines of them.

    Args:
        raw: (B · Q, C), contiguous.
        weights: (B, S, C) of each segment, contiguous, in the dtype of sums.
        slopes: (B, L, 2, C), likewise.
        biases: (B, L, 2, C), likewise.
        cells: What they choose from.
    Returns:
        (B, A, C) in the dtype of `raw`.
    """
    out = raw.new_empty(len(weights), cells.counts[0], raw.shape[1])
    _launch_combine(raw, weights, slopes, biases, cells, out, None, None)
    return out


def combine_backward(
    raw: Tensor, weights: Tensor, slopes: Tensor, biases: Tensor, cells: Cells, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients, those of what belongs to a level in parts.

    Args:
        raw, weights, slopes, biases, cells: As for `combine`.
        grad: (B, A, C), contiguous.
    Returns:
        (B · Q, C) of `raw`, in the dtype of sums; and (B, N, 7, C) for the chunks of the first
        direction, to be summed over those of a level: of the weights of the same, finer and coarser
        candidate, of both slopes, and of both biases.
    """
    shape = len(weights), len(cells.runs), 7, raw.shape[1]
    grad_raw = torch.zeros_like(raw, dtype=wide_dtype(raw))
    partial = raw.new_empty(shape, dtype=wide_dtype(raw))
    _launch_combine(raw, weights, slopes, biases, cells, grad, grad_raw, partial)
    return grad_raw, partial


def _launch_combine(
    raw: Tensor,
    weights: Tensor,
    slopes: Tensor,
    biases: Tensor,
    cells: Cells,
    out: Tensor,
    grad_raw: Tensor | None,
    partial: Tensor | None,
) -> None:
    channels, batch, block = raw.shape[1], len(weights), _block(raw.shape[1])
    with _current(raw):
        _combine[(len(cells.runs), batch, triton.cdiv(channels, block))](
            raw,
            weights,
            slopes,
            biases,
            cells.runs,
            cells.corners,
            cells.weights,
            out,
            grad_raw,
            partial,
            batch,
            cells.counts[0],
            cells.counts[1],
            channels,
            LEVELS=slopes.shape[1],
            BACKWARD=grad_raw is not None,
            WIDE=_wide(raw),
            ROWS=CHUNK,
            BLOCK=block,
            num_warps=WARPS,
        )
