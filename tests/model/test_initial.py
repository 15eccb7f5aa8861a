"""First numbers, and none where there is no memory for them."""

import torch

from glip.model.initial import normal_


def test_numbers_have_their_spread() -> None:
    weight = torch.zeros(100, 100)
    normal_(weight, std=0.5)
    assert abs(weight.std().item() - 0.5) < 0.05


def test_a_tensor_without_memory_is_left_alone() -> None:
    weight = torch.zeros(3, device="meta")
    normal_(weight, std=0.5)
    assert weight.is_meta
