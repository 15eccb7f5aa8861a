"""Tables of places, against maps that are read the plain way."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glip.model.ops.deform import reread_at_coarser_size
from glip.model.ops.levels import CHUNK, MOVES, TAPS, layout, membership, segments

SHAPES = ((9, 14), (5, 7), (3, 4))
SIZES = [height * width for height, width in SHAPES]
A, REST = sum(SIZES), sum(SIZES[1:])


def test_mosaic_holds_every_cell_once_and_keeps_levels_apart() -> None:
    (height, width), rows, keep = layout(SHAPES, "cpu").mosaic
    assert sorted(rows[keep[:, 0]].tolist()) == list(range(A))
    level_of = torch.repeat_interleave(torch.arange(3), torch.tensor(SIZES))
    canvas = torch.where(keep[:, 0], level_of[rows.long()], -1).view(height, width)
    for down, right in ((0, 1), (1, 0), (1, 1)):
        one = canvas[: height - down, : width - right]
        other = canvas[down:, right:]
        assert ((one == other) | (one < 0) | (other < 0)).all()


def test_one_convolution_of_the_mosaic_is_one_of_each_level() -> None:
    torch.manual_seed(0)
    table, conv = torch.randn(2, A, 6), torch.nn.Conv2d(6, MOVES, 3, padding=1)
    places = layout(SHAPES, "cpu")
    canvas = (table[:, places.mosaic.rows.long()] * places.mosaic.keep).unflatten(
        1, places.mosaic.size_hw
    )
    moves = conv(canvas.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)
    found = moves[:, places.moves.long()].view(2, -1, MOVES)
    maps = [
        conv(level.mT.unflatten(2, hw)).permute(0, 2, 3, 1)
        for level, hw in zip(table.split(SIZES, 1), SHAPES, strict=True)
    ]
    own = torch.cat([level.flatten(1, 2) for level in maps], 1)
    parts = [(level[..., : 2 * TAPS], level[..., 2 * TAPS :]) for level in maps[:-1]]
    reread = [
        torch.cat([reread_at_coarser_size(part, hw) for part in pair], -1).flatten(1, 2)
        for pair, hw in zip(parts, SHAPES[1:], strict=True)
    ]
    expected = torch.cat([own, own[:, SIZES[0] :], *reread], 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_grid_of_each_direction() -> None:
    grid, counts = layout(SHAPES, "cpu").grid, layout(SHAPES, "cpu").counts
    assert counts == (A, REST, REST) and len(grid) == sum(counts)
    assert grid[0].tolist() == [0, 9, 14, -1, -1]
    assert grid[SIZES[0] + 8].tolist() == [SIZES[0], 5, 7, 0, 0]  # second row, second column
    assert grid[A + 8].tolist() == [0, 9, 14, 1, 1]  # the same cell on the finer level
    assert grid[A + REST + 8].tolist() == grid[SIZES[0] + 8].tolist()


def test_corners_are_bilinear_enlargement_with_corners_aligned() -> None:
    torch.manual_seed(1)
    cells, shares = layout(SHAPES, "cpu").cells, layout(SHAPES, "cpu").chunks.shares
    small = [torch.randn(size, 3) for size in SIZES[1:]]
    joined = torch.cat(small)
    found = (joined[cells.corners.long()] * cells.weights[..., None]).sum(1)
    start = 0
    for level, rows in enumerate(small):
        maps = rows.t().unflatten(1, SHAPES[level + 1])[None]
        large = F.interpolate(maps, size=SHAPES[level], mode="bilinear", align_corners=True)[0]
        here = slice(start, start + SIZES[level])
        torch.testing.assert_close(found[here], large.flatten(1).t(), rtol=1e-5, atol=1e-5)
        own = shares[A + REST + sum(SIZES[1 : level + 1]) :][: SIZES[level + 1]]
        torch.testing.assert_close(own @ rows, large.mean((1, 2)), rtol=1e-5, atol=1e-5)
        start += SIZES[level]
    assert not found[start:].any()  # the coarsest level


def test_runs_cover_each_segment() -> None:
    runs, of_segments, _ = layout(((40, 50), (20, 25)), "cpu").chunks
    assert of_segments[:, 2].tolist() == [2000, 500, 500, 500]
    for segment, (begin, end, rows) in enumerate(of_segments.tolist()):
        own = runs[begin:end]
        assert own[:, 0].unique().tolist() == [segment]
        lengths = own[:, 4] - own[:, 3]
        assert lengths.sum() == rows and lengths.max() <= CHUNK
        assert own[1:, 3].equal(own[:-1, 4])


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_membership_counts_the_candidates(levels: int) -> None:
    of = membership(levels, "cpu", torch.float32)
    assert len(segments(levels)) == 3 * levels - 2
    expected = np.minimum(3, np.array([1 + (i > 0) + (i < levels - 1) for i in range(levels)]))
    assert of.levels.sum(1).tolist() == expected.tolist()
    assert (of.levels @ of.shares).flatten().tolist() == pytest.approx([1.0] * levels)
