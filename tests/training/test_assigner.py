"""ATSS on paper, and against what the released code assigned."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from glip.boxes import encode_boxes
from glip.model.anchors import grid_anchors
from glip.training.assigner import assign as assign_batch

GOLDEN = np.load(Path(__file__).parent / "golden" / "losses.npz")
STRIDES = (8, 16, 32, 64, 128)
FAR_APART = torch.tensor([[x, 0.0, x + 9, 9] for x in (0, 100, 200, 300)])


class Positives(NamedTuple):
    anchor_indices: torch.Tensor
    box_indices: torch.Tensor


def assign(boxes: torch.Tensor, anchors: torch.Tensor, sizes: Sequence[int]) -> Positives:
    """The positive anchors of a single picture, and the box of each."""
    (positive,), (rows,) = assign_batch(boxes[None], anchors, sizes)
    return Positives(positive.nonzero()[:, 0], rows[positive])


def pyramid(height: int, width: int) -> tuple[torch.Tensor, list[int]]:
    """Anchors of a padded picture and the size of each level."""
    shapes = [(height >> 3, width >> 3), (height >> 4, width >> 4), (height >> 5, width >> 5)]
    for _ in range(2):
        shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
    return grid_anchors(shapes, STRIDES), [h * w for h, w in shapes]


def test_positives_of_two_pictures_equal_the_recorded_ones():
    anchors, sizes = pyramid(256, 320)
    for picture in ("0", "1"):
        found = assign(torch.tensor(GOLDEN[f"assign.{picture}.boxes"]), anchors, sizes)
        assert found.anchor_indices.tolist() == GOLDEN[f"assign.{picture}.anchor"].tolist()
        assert found.box_indices.tolist() == GOLDEN[f"assign.{picture}.gt"].tolist()


def test_recorded_positives_of_overlapping_boxes():
    anchors, sizes = pyramid(160, 224)
    boxes = torch.tensor([[10.0, 20, 90, 120], [100, 30, 200, 150], [60, 60, 75, 80]])
    found = assign(boxes, anchors, sizes)
    small = [201, 202, 229, 230, 231, 232, 257, 258, 259, 260, 286]
    medium = [604, 605, 606, 618, 619, 620, 624, 625, 626, 638, 639, 640, 652, 653, 654]
    assert found.anchor_indices.tolist() == small + medium
    assert found.box_indices[small.index(232)] == found.box_indices[small.index(260)] == 2
    assert found.box_indices.tolist()[-9:] == [1] * 9
    torch.testing.assert_close(
        encode_boxes(boxes[0], anchors[201]),
        torch.tensor([1.015625, 1.640625, 1.177830, 2.281187]),
    )


def test_threshold_is_mean_plus_unbiased_deviation():
    # One level of four anchors along x, each 10 wide, pixels included; the box equals the second.
    anchors = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9], [10, 0, 19, 9], [40, 0, 49, 9]])
    # IoUs 1/3, 1, 1/3, 0: mean 0.4167, deviation 0.4194 (0.3632 if biased), threshold 0.836.
    found = assign(torch.tensor([[5.0, 0, 14, 9]]), anchors, [4])
    assert found.anchor_indices.tolist() == [1]


def test_anchor_whose_centre_lies_outside_the_box_is_negative():
    inside = assign(torch.tensor([[0.0, 0, 4.52, 9]]), FAR_APART, [4])
    on_the_border = assign(torch.tensor([[0.0, 0, 4.505, 9]]), FAR_APART, [4])
    assert inside.anchor_indices.tolist() == [0]
    assert on_the_border.anchor_indices.tolist() == []


def test_contested_anchor_goes_to_the_box_that_it_overlaps_most():
    boxes = torch.tensor([[0.0, 0, 9, 12], [0, 0, 9, 10], [0, 0, 9, 10]])
    assert assign(boxes, FAR_APART, [4]).box_indices.tolist() == [1]  # the first of two equals


def test_box_of_no_size_has_no_positives():
    anchors, sizes = pyramid(64, 64)
    centre = (anchors[5, :2] + anchors[5, 2:]) / 2
    for corner in (torch.zeros(2), centre):
        assert len(assign(corner.repeat(2)[None], anchors, sizes).anchor_indices) == 0


def test_levels_smaller_than_the_number_of_candidates_give_all_they_have():
    anchors, sizes = pyramid(32, 32)
    assert sizes == [16, 4, 1, 1, 1]
    assert assign(anchors[5:6], anchors, sizes).anchor_indices.tolist() == [5]
