"""How much of an intermediate result exists at a time: the one budget of all kernels.

On a CPU what is made by one step should stay in the last-level cache until the next one reads it;
smaller tiles are no faster, and on a busy machine each of them waits for the slowest thread once
more. A GPU prefers few large tiles, and its memory is the only limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

CPU_BYTES = 8 << 20
GPU_BYTES = 256 << 20


def tile_length(row_bytes: int, device: torch.device) -> int:
    """Rows of so many bytes each that one tile may have, at least one."""
    budget = CPU_BYTES if device.type == "cpu" else GPU_BYTES
    return max(1, budget // row_bytes)


def tiles(rows: int, row_bytes: int, device: torch.device) -> Iterator[slice]:
    """Slices of all rows, each within the budget; at least one if there are rows.

    Args:
        rows: Of the whole.
        row_bytes: What a row of the intermediate result takes.
        device: Where it would lie.
    """
    length = tile_length(row_bytes, device)
    return (slice(start, min(start + length, rows)) for start in range(0, rows, length))
