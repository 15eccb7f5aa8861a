"""What follows the convolutions, level by level; a whole block is tested in `test_dyhead.py`."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glip.model.ops import by_level, tiles

SHAPES = [(7, 9), (4, 5), (2, 3)]
C = 6


def some_results() -> list[list[Tensor]]:
    torch.manual_seed(4)
    sizes = [height * width for height, width in SHAPES]
    return [[torch.randn(2, n, C) + 50 for n in own] for own in (sizes, sizes[1:], sizes[1:])]


def enlarged(raw: list[list[Tensor]], level: int) -> Tensor:
    small = raw[2][level].mT.unflatten(2, SHAPES[level + 1])
    large = F.interpolate(small, size=SHAPES[level], mode="bilinear", align_corners=True)
    return large.flatten(2).mT


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("budget", [1, 1 << 20], ids=["a tile per cell", "one tile"])
def test_moments_of_values_far_from_zero(
    record: bool, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CPU_BYTES", budget)
    raw = some_results()
    with torch.set_grad_enabled(record):
        mean, variance, shown = by_level.moments(raw, SHAPES)
    rows = [part for own in raw for part in own]
    torch.testing.assert_close(mean, torch.stack([part.mean(1) for part in rows], 1))
    expected = torch.stack([part.var(1, correction=0) for part in rows], 1)
    torch.testing.assert_close(variance, expected, rtol=1e-4, atol=1e-4)
    assert shown[:, :5].equal(mean[:, :5])
    for level in range(2):
        torch.testing.assert_close(shown[:, 5 + level], enlarged(raw, level).mean(1))


@pytest.mark.parametrize("budget", [1, 1 << 20], ids=["a tile per cell", "one tile"])
def test_combination_is_the_larger_of_two_lines(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CPU_BYTES", budget)
    raw = some_results()
    weights, slopes, biases = torch.randn(2, 7, C), torch.randn(2, 3, 2, C), torch.randn(2, 3, 2, C)
    found = by_level.combine(raw, weights, slopes, biases, SHAPES)
    y = raw[0][1] * weights[:, None, 1] + raw[1][0] * weights[:, None, 3]
    y = y + enlarged(raw, 1) * weights[:, None, 6]
    lines = [y * slopes[:, 1, None, i] + biases[:, 1, None, i] for i in range(2)]
    expected = torch.maximum(*lines)
    torch.testing.assert_close(found[:, 63 : 63 + 20], expected, rtol=1e-4, atol=1e-3)
