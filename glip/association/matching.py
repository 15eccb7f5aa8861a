"""Pairs of boxes: how far two of them overlap, and which pairing costs least in all.

Of plain arrays, in numpy alone. Letters: N rows and M columns of a table of costs; boxes are xyxy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Rows and columns that belong together, one after the other."""

    rows: Ints
    """(K,), rising."""
    columns: Ints
    """(K,)"""


def iou(boxes: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes with exclusive far edges.

    Boxes without extent overlap nothing.
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    shared, areas, other_areas = intersections(boxes, others)
    union = areas[:, None] + other_areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def intersections(boxes: Floats, others: Floats) -> tuple[Any, Any, Any]:
    """(N, M) areas that (N, 4) and (M, 4) boxes share, and their own areas, (N,) and (M,)."""
    near = np.maximum(boxes[:, None, :2], others[None, :, :2])
    far = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    areas, other_areas = ((b[:, 2:] - b[:, :2]).clip(min=0).prod(-1) for b in (boxes, others))
    return (far - near).clip(min=0).prod(-1), areas, other_areas


def cheapest_pairs(costs: Floats, limit: float) -> Pairs:
    """Each row with at most one column and the other way round, for the least sum.

    What stays alone costs `limit`, so that no pair of that cost or more is made.

    Args:
        costs: (N, M); infinity for what must not be a pair.
        limit: See above.
    """
    table: npt.NDArray[np.float64] = np.minimum(np.asarray(costs, np.float64), limit)
    rows, columns = np.nonzero(table < limit)
    if not len(rows):
        return Pairs(rows.astype(np.int64), columns.astype(np.int64))
    # Only what can be in a pair matters; often that is little of a large table.
    own, others = np.unique(rows), np.unique(columns)
    part = table[np.ix_(own, others)]
    wide = len(own) <= len(others)
    chosen = _assigned(part if wide else part.T)
    pairs = np.stack([np.arange(len(chosen)), chosen])[:: 1 if wide else -1]  # (2, K)
    pairs = pairs[:, np.argsort(pairs[0])]
    found = Pairs(own[pairs[0]].astype(np.int64), others[pairs[1]].astype(np.int64))
    cheap = table[found.rows, found.columns] < limit
    return Pairs(found.rows[cheap], found.columns[cheap])


def _assigned(costs: npt.NDArray[np.float64]) -> Ints:
    """The column of each row, all different, for the least sum; (N, M) with N <= M.

    Shortest augmenting paths with potentials (Jonker and Volgenant 1987): O(N² M).
    """
    count, width = costs.shape
    of_rows, of_columns = np.zeros(count), np.zeros(width)  # potentials
    row_of = np.full(width, -1)
    for row in range(count):
        distance = np.full(width, np.inf)
        came_from = np.full(width, -1)  # the column before on the path; -1 is `row` itself
        done = np.zeros(width, bool)
        at, column, reached = row, -1, 0.0
        while at >= 0:
            through = reached + costs[at] - of_rows[at] - of_columns
            nearer = ~done & (through < distance)
            distance[nearer], came_from[nearer] = through[nearer], column
            column = int(np.where(done, np.inf, distance).argmin())
            reached = distance[column]
            done[column] = True
            at = int(row_of[column])
        on_the_way = done & (row_of >= 0)
        gain = reached - distance[on_the_way]
        of_rows[row_of[on_the_way]] += gain
        of_rows[row] += reached
        of_columns[on_the_way] -= gain
        while column >= 0:  # all on the path move on by one
            before = int(came_from[column])
            row_of[column] = row if before < 0 else row_of[before]
            column = before
    chosen = np.full(count, -1, np.int64)
    taken = row_of >= 0
    chosen[row_of[taken]] = np.nonzero(taken)[0]
    return chosen
