"""Output layers by hand, and the tower's stages."""

import math

import pytest
import torch
from torch import Tensor

from glip.model.dyhead import DyHeadBlock
from glip.model.fusion import BiAttention
from glip.model.head import Head, HeadStage, Outputs
from glip.model.text_encoder import TextLayer, Words


def words(*states: tuple[float, ...]) -> Words:
    return Words(torch.tensor([states]), torch.ones(1, len(states), dtype=torch.bool))


def a_stage(fused: bool) -> HeadStage:
    block = DyHeadBlock(8, groups=4)
    if not fused:
        return HeadStage(block)
    return HeadStage(block, BiAttention(8, 6, 8, 2), TextLayer(6, 2, 12))


def pyramid() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, 8, 4, 6), torch.randn(1, 8, 2, 3)]


@torch.no_grad()
def test_alignment_by_hand() -> None:
    outputs = Outputs(visual_dim=2, text_dim=2, levels=1)
    outputs.project.weight.copy_(torch.tensor([[1.0, 2], [3, 4]]))
    outputs.project.bias.copy_(torch.tensor([0.5, -0.5]))
    outputs.log_scale.fill_(math.log(4))
    outputs.word_bias.copy_(torch.tensor([10.0, 20]))
    outputs.bias.fill_(-1)
    # (3, 4) becomes (0.6, 0.8); half of it projects to (1.1 + 0.5, 2.5 - 0.5).
    found = outputs.align(torch.tensor([[[5.0, 7]]]), words((3.0, 4.0)))
    expected = (5 * 1.6 + 7 * 2.0) / 4 + 10 * 0.6 + 20 * 0.8 - 1
    torch.testing.assert_close(found, torch.tensor([[[expected]]]))


@torch.no_grad()
def test_token_of_zeros_gets_the_plain_bias() -> None:
    outputs = Outputs(visual_dim=2, text_dim=2, levels=1)
    outputs.project.bias.zero_()
    found = outputs.align(torch.randn(1, 3, 2), words((0.0, 0.0)))
    torch.testing.assert_close(found.sigmoid(), torch.full((1, 3, 1), 0.01))


@torch.no_grad()
def test_each_level_scales_its_deltas() -> None:
    outputs = Outputs(visual_dim=3, text_dim=2, levels=2)
    outputs.scales.copy_(torch.tensor([2.0, 5.0]))
    outputs.deltas.bias.copy_(torch.tensor([1.0, 2, 3, 4]))
    outputs.centerness.bias.fill_(7)
    deltas, centerness = outputs.locate(torch.zeros(1, 3, 3), (1, 2))
    assert deltas.tolist() == [[[2, 4, 6, 8], [5, 10, 15, 20], [5, 10, 15, 20]]]
    assert centerness.tolist() == [[7, 7, 7]]


@torch.no_grad()
def test_outputs_are_float32_whatever_comes_in() -> None:
    outputs = Outputs(visual_dim=3, text_dim=2, levels=1)
    half = words((1.0, 2.0))._replace(states=torch.ones(1, 1, 2).bfloat16())
    regions = torch.ones(1, 4, 3).bfloat16()
    found = [outputs.align(regions, half), *outputs.locate(regions, (4,))]
    assert {tensor.dtype for tensor in found} == {torch.float32}


def test_outputs_are_computed_in_float32_under_autocast() -> None:
    outputs, regions = Outputs(8, 6, levels=1), torch.randn(1, 5, 8)
    asked = words((1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    expected = outputs.align(regions, asked), *outputs.locate(regions, [5])
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs.align(regions, asked), *outputs.locate(regions, [5])
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


def test_outputs_begin_as_officially() -> None:
    outputs = Outputs(visual_dim=256, text_dim=8, levels=5)
    assert outputs.bias.sigmoid().item() == pytest.approx(0.01)
    assert outputs.scales.eq(1).all() and outputs.log_scale.eq(0).all()
    for layer in (outputs.deltas, outputs.centerness):
        assert 0.005 < layer.weight.std() < 0.015 and layer.bias.eq(0).all()


@torch.no_grad()
def test_words_pass_a_tower_without_fusion_unchanged() -> None:
    head = Head([a_stage(False), a_stage(False)], Outputs(8, 6, 2)).eval()
    text = words((1.0, 2, 3, 4, 5, 6))
    tower = head.tower(pyramid(), text)
    assert not head.fused and tower.words is text
    assert tower.regions.shape == (1, 30, 8)


@torch.no_grad()
def test_fusion_comes_before_text_layer_and_block() -> None:
    stage, text = a_stage(True).eval(), words((1.0, -2, 3, -4, 5, 6), (0.0, 1, 0, 1, 0, 1))
    tower = Head([stage], Outputs(8, 6, 2)).tower(pyramid(), text)
    assert stage.fusion is not None and stage.text_layer is not None
    rows = torch.cat([level.flatten(2).mT for level in pyramid()], 1)
    regions, fused = stage.fusion(rows, text)
    assert tower.regions.equal(stage.block(regions, [(4, 6), (2, 3)]))
    assert tower.words.states.equal(stage.text_layer(fused).states)


def test_text_layer_and_fusion_come_together() -> None:
    with pytest.raises(AssertionError):
        HeadStage(DyHeadBlock(8, 4), text_layer=TextLayer(6, 2, 12))
