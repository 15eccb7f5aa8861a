"""Backbones and encoders of many families, each built, trained for a step, saved and loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glip.checkpoint import Weights, assemble, read, save
from glip.config import BackboneConfig, ModelConfig, TextConfig
from glip.errors import ConfigError
from glip.model.backbone import Backbone
from glip.model.presets import build
from glip.model.text_encoder import Tokens

BACKBONES = (
    "resnet18.a1_in1k", "resnetv2_50", "resnext50_32x4d", "seresnet50", "res2net50_26w_4s",
    "regnety_002", "densenet121", "dla34", "hrnet_w18_small", "ese_vovnet19b_dw",
    "mobilenetv2_050", "mobilenetv3_small_100", "mobilenetv4_conv_small", "ghostnet_050",
    "efficientnet_b0", "tf_efficientnet_lite1", "tf_efficientnetv2_b0", "mnasnet_small",
    "rexnet_100", "lcnet_050", "convnext_atto", "convnextv2_atto", "focalnet_tiny_srf",
    "pvt_v2_b0", "edgenext_xx_small", "davit_tiny", "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_224", "swin_tiny_patch4_window7_224", "mambaout_femto",
)  # fmt: skip
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FULL = {**SMALL, "intermediate_size": 64, "max_position_embeddings": 300}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {**FULL, "hidden_act": "relu"},
    "roberta": FULL,
    "xlm-roberta": FULL,
    "camembert": FULL,
    "electra": {**FULL, "embedding_size": 32},
    "mpnet": FULL,
    "albert": {**FULL, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "ernie": FULL,
}


def lives(config: ModelConfig, folder: Path) -> None:
    """Build, one step, save, load, and the same numbers again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config)
        pixels, tokens = torch.randn(2, 3, 64, 96), Tokens.pad([(5, 6, 7), (5, 8, 9)], 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        output = model.train()(pixels, tokens)
        sum(part.square().mean() for part in output[:3]).backward()
        optimizer.step()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    expected = model.eval()(pixels, tokens)
    save(folder / "x.safetensors", Weights(config, model.state_dict()))
    again = assemble(read(folder / "x.safetensors"))
    with torch.no_grad():
        found = again(pixels, tokens)
    for one, other in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_of_many_families_live(
    name: str, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    lives(replace(tiny_config, backbone=BackboneConfig(name)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ENCODERS)
def test_encoders_of_many_families_live(
    model_type: str, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    lives(replace(tiny_config, text=TextConfig(model_type, ENCODERS[model_type])), tmp_path)


@pytest.mark.parametrize("name", ["coat_tiny", "maxvit_tiny_tf_224"])
def test_a_backbone_for_one_size_is_refused_when_it_is_built(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=f"backbone '{name}' (takes pictures of one size only|gives no feature maps)",
    ):
        Backbone(name)


def test_maps_that_end_in_channels_are_turned() -> None:
    backbone = Backbone("mambaout_femto").eval()
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [(1, 96, 8, 12), (1, 192, 4, 6), (1, 288, 2, 3)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18.none_such", "backbone 'resnet18.none_such' gives no feature maps"),
        ("resnet19.a1_in1k", "did you mean 'resnet18'"),
    ],
)
def test_tags_are_those_of_timm(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name)


def test_where_first_weights_came_from_is_not_saved(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    backbone = BackboneConfig("tf_efficientnet_lite0", options={"pretrained": False})
    config = replace(tiny_config, backbone=backbone)
    save(tmp_path / "x.safetensors", Weights(config, build(config).state_dict()))
    assert read(tmp_path / "x.safetensors").config.backbone.options == {}
