"""Overlaps worked out by hand; the cheapest pairs are those that trying all of them finds."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from glip.association.matching import cheapest_pairs, iou


def test_overlaps_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert np.allclose(iou(boxes, others), [[1, 1 / 3, 0], [0, 0, 0]])
    assert iou(boxes[:0], others).shape == (0, 3)


def test_the_sum_counts_and_not_the_nearest() -> None:
    costs = np.array([[0.1, 0.2], [0.2, 0.9]])
    pairs = cheapest_pairs(costs, 1.0)
    assert (pairs.rows.tolist(), pairs.columns.tolist()) == ([0, 1], [1, 0])


def test_what_costs_too_much_stays_alone() -> None:
    costs = np.array([[0.5, np.inf], [np.inf, np.inf], [0.3, 0.8]])
    pairs = cheapest_pairs(costs, 0.8)
    assert list(zip(*pairs, strict=True)) == [(2, 0)]
    assert cheapest_pairs(np.zeros((0, 3)), 1.0).rows.tolist() == []
    assert cheapest_pairs(np.full((2, 2), np.inf), 1.0).columns.dtype == np.int64


def least(costs: npt.NDArray[np.float64], limit: float) -> float:
    """By trying all ways; what stays alone costs the limit."""
    costs = costs if costs.shape[0] <= costs.shape[1] else costs.T
    clipped = np.minimum(costs, limit)
    ways = itertools.permutations(range(costs.shape[1]), costs.shape[0])
    return min(float(sum(clipped[row, way[row]] for row in range(len(costs)))) for way in ways)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (3, 5), (5, 4), (5, 5)])
def test_as_cheap_as_the_best_of_all_ways(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(sum(shape))
    for _ in range(30):
        costs = generator.integers(0, 8, shape) / 8  # with ties
        costs[generator.random(shape) < 0.2] = np.inf
        pairs = cheapest_pairs(costs, 0.7)
        assert len(set(pairs.rows.tolist())) == len(set(pairs.columns.tolist())) == len(pairs.rows)
        alone = min(shape) - len(pairs.rows)
        total = costs[pairs.rows, pairs.columns].sum() + 0.7 * alone
        assert total == pytest.approx(least(costs, 0.7))


def test_as_cheap_as_scipys_on_large_tables() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    costs = np.random.default_rng(0).random((120, 150))
    pairs = cheapest_pairs(costs, 2.0)
    rows, columns = optimize.linear_sum_assignment(costs)
    ours = costs[pairs.rows, pairs.columns].sum()
    assert len(pairs.rows) == 120 and ours == pytest.approx(costs[rows, columns].sum())
