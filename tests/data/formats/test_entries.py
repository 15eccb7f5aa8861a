"""Shapes into boxes, entries into records."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.faults import Faults
from glip.data.formats.entries import Entry, Request, Shape, annotated, clipped, upright, whole_size
from glip.errors import DataError
from tests.data.formats.trees import boxes_of, grow


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (Shape("x", [(3, 4), (1, 2)]), (1, 2, 3, 4)),
        (Shape("x", [(1, 2), (5, 1), (3, 9)]), (1, 1, 5, 9)),
        (Shape("x", [(10, 10), (30, 20)], degrees=90), (15, 5, 25, 25)),
        (Shape("x", [(10, 10), (30, 20)], degrees=90, pivot=(10, 10)), (0, 10, 10, 30)),
        (Shape("x", []), None),
        (Shape("x", [(1, float("nan")), (2, 3)]), None),
        (Shape("x", [(1, 2), (2, 3)], degrees=float("inf")), None),
    ],
)
def test_box_around_a_shape(shape: Shape, box: tuple[float, ...] | None) -> None:
    found = upright(shape)
    assert found == box if box is None else found == pytest.approx(box)


def test_shares_are_turned_in_pixels() -> None:
    shape = Shape("x", [(0.5, 0.5), (0.6, 0.7)], degrees=90, pivot=(0.5, 0.5))
    # 20 by 20 pixels of 200 by 100, turned clockwise about their corner at (100, 50)
    assert upright(shape, (100, 200)) == pytest.approx((80, 50, 100, 70))


def test_clipping_and_sizes() -> None:
    assert clipped((-1, 2.00049, 99, 4), (40, 60)) == (0, 2, 60, 4)
    assert whole_size("60", 40.0) == (40, 60)
    for odd in (None, 0, -1, "x", float("nan"), float("inf")):
        assert whole_size(odd, 40) is None


def test_entries_become_records_or_faults(tmp_path: Path) -> None:
    grow(tmp_path, {"a.png": None, "b.png": None, "bad.png": b"x"})
    shape = Shape("cat", [(1, 2), (3, 4)])
    entries = [
        Entry("a.png", [shape, Shape("dog", [(1, float("inf"))])]),
        Entry("b", [Shape("dog", [(1, 2), (3, 4)], crowd=True)], size=(40, 60)),
        Entry("a.PNG", [shape]),
        Entry("none.png", []),
        Entry("bad.png", []),
    ]
    faults = Faults(tmp_path, 1.0)
    found = annotated(Request(tmp_path, faults, classes=("bird", "cat")), entries)
    assert boxes_of(found) == {"a.png": [("cat", (1, 2, 3, 4))], "b.png": [("dog", (1, 2, 3, 4))]}
    assert found.data.names == ("bird", "cat", "dog")
    assert faults.counts == {"no boxes": 1, "missing pictures": 2, "unreadable pictures": 1}
    with pytest.raises(DataError, match="has no picture with labels"):
        annotated(Request(tmp_path, faults), [])
