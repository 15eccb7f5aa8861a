"""Anchors by hand."""

import pytest
import torch

from glip.model.anchors import cell_anchor, grid_anchors


@pytest.mark.parametrize(
    ("stride", "near", "far"),
    [(8, -28, 35), (16, -56, 71), (32, -112, 143), (64, -224, 287), (128, -448, 575)],
)
def test_first_anchor_of_each_level(stride: int, near: int, far: int) -> None:
    assert cell_anchor(stride).tolist() == [near, near, far, far]


def test_anchors_run_along_rows_then_levels() -> None:
    anchors = grid_anchors([(2, 3), (1, 2)], [8, 16])
    assert anchors.dtype == torch.float32
    corners = [[-28, -28], [-20, -28], [-12, -28], [-28, -20], [-20, -20], [-12, -20]]
    assert anchors[:, :2].tolist() == [*corners, [-56, -56], [-40, -56]]
    sides = (anchors[:, 2:] - anchors[:, :2] + 1).tolist()
    assert sides == [[64.0, 64]] * 6 + [[128.0, 128]] * 2


def test_anchors_first_made_for_inference_serve_training() -> None:
    with torch.inference_mode():
        grid_anchors([(3, 5)], [8])
    weight = torch.ones(4, requires_grad=True)
    (grid_anchors([(3, 5)], [8]) * weight).sum().backward()
    assert weight.grad is not None


def test_levels_and_strides_must_pair() -> None:
    with pytest.raises(ValueError, match="zip"):
        grid_anchors([(1, 1)], [8, 16])
