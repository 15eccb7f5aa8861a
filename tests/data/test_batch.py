"""What the model is trained on."""

import pytest
import torch

from glip.data.batch import Target

BOXES = torch.tensor([[0.0, 0, 9, 9], [1, 2, 3, 4]])


def test_target_moves_with_all_its_parts():
    target = Target(BOXES, torch.tensor([0, 1]), torch.tensor([1.0, 0.5]), torch.tensor([2]))
    moved = target.to("meta")
    assert len(moved) == 2
    for part in ("boxes", "phrases", "weights", "unsure"):
        assert getattr(moved, part).device.type == "meta"
        assert getattr(moved, part).dtype == getattr(target, part).dtype
    assert Target(BOXES, torch.tensor([0, 1])).to("cpu").weights is None


def test_nothing_is_a_target():
    assert len(Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))) == 0


@pytest.mark.parametrize(
    ("boxes", "phrases", "weights"),
    [
        (BOXES[:, :3], torch.tensor([0, 1]), None),
        (BOXES, torch.tensor([0]), None),
        (BOXES, torch.tensor([0, 1]), torch.ones(3)),
    ],
)
def test_parts_have_one_row_for_each_box(boxes, phrases, weights):
    with pytest.raises(AssertionError):
        Target(boxes, phrases, weights)
