"""Boxes that are doubtful."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.doctor.checks_boxes import CHECKS
from tests.data.doctor.subjects import detection, found


@pytest.mark.parametrize(
    ("box", "checks"),
    [
        ((1, 2, 31, 22), []),
        ((0.1, 0.2, 0.5, 0.9), ["fractions", "tiny boxes"]),
        ((5, 5, 5, 9), ["empty boxes"]),
        ((9, 9, 5, 20), ["empty boxes"]),
        ((60, 5, 70, 9), ["boxes elsewhere"]),
        ((-9, -9, 0, 9), ["boxes elsewhere"]),
        ((50, 5, 62, 9), []),
        ((50, 5, 62.5, 9), ["boxes beyond"]),
        ((-3, 5, 20, 9), ["boxes beyond"]),
        ((9, 5, 11, 20), ["tiny boxes"]),
    ],
)
def test_where_a_box_is(box: tuple[float, ...], checks: list[str], tmp_path: Path) -> None:
    assert list(found(CHECKS, detection(tmp_path, [box]))) == checks


def test_boxes_twice_none_and_crowds(tmp_path: Path) -> None:
    box = (1, 2, 31, 22)
    assert list(found(CHECKS, detection(tmp_path, [box, box, (1, 2, 31, 23)]))) == ["boxes twice"]
    assert list(found(CHECKS, detection(tmp_path, []))) == ["images without boxes"]
    assert list(found(CHECKS, detection(tmp_path, crowd=True))) == ["crowds"]
