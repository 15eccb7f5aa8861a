"""The way between official names and ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from glip.checkpoint import Weights, assemble
from glip.convert import (
    convert,
    has_fusion,
    is_official,
    recognise,
    rename,
    rename_table,
    to_official,
    without_effect,
)
from glip.errors import CheckpointError
from glip.model.glip import GLIP

State = dict[str, Tensor]


def test_there_and_back_is_the_same(tiny_weights: Weights) -> None:
    back = convert(to_official(tiny_weights.state))
    assert back.keys() == tiny_weights.state.keys()
    for key, tensor in tiny_weights.state.items():
        assert torch.equal(back[key], tensor), key


def test_each_official_key_has_one_key_of_ours(tiny_official_state: State) -> None:
    table = rename_table(tiny_official_state)
    assert len(set(table.values())) == len(table)
    dropped = tiny_official_state.keys() - table.keys()
    assert dropped and all(map(without_effect, dropped))


def test_converted_weights_give_the_same_output(
    make_tiny_model: Callable[[], GLIP], tiny_weights: Weights, tiny_official_state: State
) -> None:
    model = assemble(Weights(tiny_weights.config, convert(tiny_official_state)))
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(
            model.encode_image(pixels).levels[0], make_tiny_model().encode_image(pixels).levels[0]
        )


def test_prefix_of_parallel_training_is_taken_off(tiny_official_state: State) -> None:
    prefixed = {f"module.{key}": tensor for key, tensor in tiny_official_state.items()}
    assert is_official(prefixed)
    assert convert(prefixed).keys() == convert(tiny_official_state).keys()


NAMES = [
    ("backbone.fpn.fpn_inner2.weight", "neck.lateral.0.weight"),
    ("backbone.fpn.fpn_layer4.bias", "neck.smooth.2.bias"),
    ("backbone.fpn.top_blocks.p6.weight", "neck.p6.weight"),
    ("backbone.body.norm1.weight", "backbone.body.norms.0.weight"),
    (
        "backbone.body.layers.0.downsample.norm.bias",
        "backbone.body.layers.1.downsample.norm.bias",
    ),
    (
        "backbone.body.layers.2.blocks.5.attn.qkv.bias",
        "backbone.body.layers.2.blocks.5.attn.qkv.bias",
    ),
    (
        "language_backbone.body.model.encoder.layer.3.output.dense.weight",
        "text.model.encoder.layer.3.output.dense.weight",
    ),
    ("rpn.head.dyhead_tower.3.b_attn.gamma_v", "head.stages.1.fusion.visual_gamma"),
    (
        "rpn.head.dyhead_tower.3.b_attn.attn.values_l_proj.bias",
        "head.stages.1.fusion.text_value.bias",
    ),
    (
        "rpn.head.dyhead_tower.4.attention.output.LayerNorm.weight",
        "head.stages.1.text_layer.attention_norm.weight",
    ),
    ("rpn.head.dyhead_tower.5.DyConv.0.bn.weight", "head.stages.1.block.coarser.norm.weight"),
    ("rpn.head.dyhead_tower.5.relu.fc.2.bias", "head.stages.1.block.excite.bias"),
    ("rpn.head.bias_lang", "head.outputs.word_bias"),
    ("rpn.head.bbox_pred.weight", "head.outputs.deltas.weight"),
    ("rpn.head.scales.4.scale", "head.outputs.scales.4"),
]


@pytest.mark.parametrize(("official", "ours"), NAMES)
def test_name_of_a_key(official: str, ours: str) -> None:
    assert rename(official, fused=True) == ours


def test_without_fusion_each_entry_of_the_tower_is_a_stage() -> None:
    key = "rpn.head.dyhead_tower.5.offset.weight"
    assert rename(key, fused=False) == "head.stages.5.block.offset.weight"
    assert rename(key, fused=True) == "head.stages.1.block.offset.weight"


@pytest.mark.parametrize(
    "key",
    [
        "backbone.body.layers.0.blocks.1.attn_mask",
        "backbone.body.layers.0.blocks.0.attn.relative_position_index",
        "language_backbone.body.model.embeddings.position_ids",
        "language_backbone.body.model.pooler.dense.weight",
        "rpn.anchor_generator.cell_anchors.3",
        "rpn.head.cls_logits.weight",
        "rpn.head.mlm_head.bias",
    ],
)
def test_keys_without_effect_are_known(key: str) -> None:
    assert without_effect(key)


def test_unknown_keys_are_listed(tiny_official_state: State) -> None:
    more = {"rpn.head.surprise": torch.zeros(1), "backbone.extra.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"2 keys .*rpn\.head\.surprise, backbone\.extra"):
        convert({**tiny_official_state, **more})


def test_missing_level_is_an_error(tiny_official_state: State) -> None:
    state = dict(tiny_official_state)
    del state["rpn.head.scales.2.scale"]
    with pytest.raises(CheckpointError, match="4 levels, 5 are needed"):
        convert(state)


@pytest.mark.parametrize(
    ("width", "fused", "name"),
    [(96, True, "glip_tiny"), (96, False, "glip_tiny_a"), (192, True, "glip_large")],
)
def test_variant_is_recognised_by_its_keys(width: int, fused: bool, name: str) -> None:
    shapes = {"backbone.body.patch_embed.proj.weight": (width, 3, 4, 4)}
    if fused:
        shapes["rpn.head.dyhead_tower.0.b_attn.gamma_v"] = (256,)
    assert has_fusion(shapes) == fused
    assert recognise(shapes) == name


@pytest.mark.parametrize(
    "shapes",
    [{}, {"backbone.body.patch_embed.proj.weight": (128, 3, 4, 4)}],
    ids=["no backbone", "Swin-B"],
)
def test_unknown_variant_says_what_is_known(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(CheckpointError, match=r"Swin-T \(96\).*Swin-L \(192\)"):
        recognise(shapes)
