"""One budget: tiles cover everything once, and none is larger than it may be."""

import pytest
import torch

from glip.model.ops.tiles import CPU_BYTES, GPU_BYTES, tile_length, tiles

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("device", "budget"), [(CPU, CPU_BYTES), (GPU, GPU_BYTES)])
def test_tiles_cover_all_rows_within_the_budget(device: torch.device, budget: int) -> None:
    row_bytes, rows = budget // 10, 37
    parts = list(tiles(rows, row_bytes, device))
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    assert max(part.stop - part.start for part in parts) * row_bytes <= budget
    assert len(parts) == 4


def test_row_beyond_the_budget_has_a_tile_of_its_own() -> None:
    assert tile_length(2 * CPU_BYTES, CPU) == 1
    assert list(tiles(2, 2 * CPU_BYTES, CPU)) == [slice(0, 1), slice(1, 2)]


def test_no_rows_no_tiles() -> None:
    assert list(tiles(0, 4, CPU)) == []
