"""Boxes that move on: the filter by hand, and what it makes of a steady motion."""

from __future__ import annotations

import numpy as np
import pytest

from glip.association.motion import begun, corrected, predicted


def test_a_box_that_was_seen_once_stands_still_and_grows_uncertain() -> None:
    states = begun(np.array([[10.0, 20.0, 30.0, 60.0]]))
    assert states.boxes.tolist() == [[10, 20, 30, 60]]
    later = predicted(states, 3)
    assert later.boxes.tolist() == [[10, 20, 30, 60]]
    assert (later.covariance[..., 0, 0] > states.covariance[..., 0, 0]).all()


def test_the_first_correction_by_hand() -> None:
    """A box of width 20: noises of 1 for its place, 0.125 for its change a frame."""
    states = predicted(begun(np.array([[0.0, 0.0, 20.0, 20.0]])), 1)
    # Of the place: begun with (2 * 1)² = 4, of the change (10 * 0.125)² = 1.5625. A frame later
    # the place has 4 + 1.5625 + 1, and place and change go together by 1.5625.
    assert states.covariance[0, 0].tolist() == [[6.5625, 1.5625], [1.5625, 1.5625 + 0.125**2]]
    seen = corrected(states, np.array([[8.0, 0.0, 28.0, 20.0]]))
    assert seen.mean[0, 0].tolist() == pytest.approx(
        [10 + 8 * 6.5625 / 7.5625, 8 * 1.5625 / 7.5625]
    )
    assert seen.covariance[0, 0, 0, 0] == pytest.approx(6.5625 / 7.5625)
    assert seen.mean[0, 1].tolist() == [10, 0]


def test_a_steady_motion_is_learned_and_goes_on_unseen() -> None:
    states = begun(np.array([[0.0, 0.0, 40.0, 30.0]]))
    for frame in range(1, 20):
        box = np.array([[3.0 * frame, -2.0 * frame, 3.0 * frame + 40, -2.0 * frame + 30]])
        states = corrected(predicted(states, 1), box)
    expected = [3 * 24, -2 * 24, 3 * 24 + 40, -2 * 24 + 30]
    assert predicted(states, 5).boxes[0].tolist() == pytest.approx(expected, abs=1.0)


def test_boxes_do_not_touch_each_other() -> None:
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 90.0, 70.0]])
    moved = boxes + 2
    both = corrected(predicted(begun(boxes), 2), moved)
    alone = corrected(predicted(begun(boxes[1:]), 2), moved[1:])
    assert np.allclose(both.mean[1:], alone.mean) and np.allclose(both.covariance[1:], alone[1])
