"""Measures of tracks, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glip.evaluation.tracking import Tracked, track_measures


def frame(*boxes: tuple[str, float], names: list[str] | None = None) -> Tracked:
    """Boxes of 10 x 10 pixels: id and left edge."""
    corners = np.array([[x, 0, x + 10, 10] for _, x in boxes], np.float64).reshape(-1, 4)
    return Tracked([one for one, _ in boxes], corners, names)


def test_what_is_perfect_is_one() -> None:
    frames = [frame(("a", 0), ("b", 50))] * 4
    found = track_measures(frames, [frame(("7", 50), ("3", 0))] * 4)
    assert (found.mota, found.idf1, found.hota) == (1, 1, 1)
    assert (found.misses, found.false, found.switches, found.boxes) == (0, 0, 0, 8)
    assert str(found).startswith("HOTA 100.0 (DetA 100.0, AssA 100.0), MOTA 100.0, IDF1 100.0")


def test_a_track_that_changes_its_id_by_hand() -> None:
    """One thing in four frames, found as 1 in three of them and as 2 in the last."""
    truth = [frame(("a", 0))] * 4
    found = track_measures(truth, [frame(("1", 0))] * 3 + [frame(("2", 0))])
    assert found.switches == 1 and found.mota == pytest.approx(1 - 1 / 4)
    assert found.idf1 == pytest.approx(2 * 3 / 8)
    # Of the three boxes of track 1: 3 / (4 + 3 - 3); of the one of track 2: 1 / (4 + 1 - 1).
    assa = (3 * 3 / 4 + 1 * 1 / 4) / 4
    assert found.deta == 1 and found.assa == pytest.approx(assa)
    assert found.hota == pytest.approx(math.sqrt(assa))


def test_misses_and_false_boxes_by_hand() -> None:
    truth = [frame(("a", 0)), frame(("a", 0)), frame()]
    found = track_measures(truth, [frame(("1", 0)), frame(), frame(("1", 0), ("2", 80))])
    assert (found.misses, found.false) == (1, 2)
    assert found.mota == pytest.approx(1 - 3 / 2) and found.idf1 == pytest.approx(2 * 1 / 5)
    assert found.deta == pytest.approx(1 / (2 + 3 - 1))
    assert found.assa == pytest.approx(1 / (2 + 2 - 1))


def test_a_loose_box_counts_up_to_its_overlap() -> None:
    """Shifted by a third of its width, IoU is 0.5: right for MOTA, for HOTA up to 0.5 of 0.95."""
    truth = [frame(("a", 0))] * 3
    found = track_measures(truth, [frame(("1", 10 / 3))] * 3)
    assert (found.mota, found.idf1) == (1, 1)
    assert found.hota == pytest.approx(10 / 19)


def test_pairs_stay_together_while_they_are_right() -> None:
    """Another box overlaps more in the second frame; the id of the first one still holds."""
    truth = [frame(("a", 0))] * 2
    found = track_measures(truth, [frame(("1", 0)), frame(("1", 3), ("2", 0))])
    assert (found.switches, found.false) == (0, 1)


def test_another_name_is_no_answer() -> None:
    truth = [frame(("a", 0), names=["dog"])] * 2
    assert track_measures(truth, [frame(("1", 0), names=["cat"])] * 2).mota == -1
    assert track_measures(truth, [frame(("1", 0), names=["dog"])] * 2).hota == 1


def test_nothing_on_one_side() -> None:
    none, some = [frame()] * 2, [frame(("a", 0))] * 2
    missed, false = track_measures(some, none), track_measures(none, some)
    assert (missed.mota, missed.idf1, missed.hota) == (0, 0, 0)
    assert (false.false, false.idf1, false.hota) == (2, 0, 0)
    assert track_measures(some, []).misses == 2
