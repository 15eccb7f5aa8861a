"""Named models, models of other parts, and models without numbers."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import nn

from glip.checkpoint import Weights, assemble
from glip.config import BackboneConfig, ModelConfig, TextConfig
from glip.errors import ConfigError
from glip.model.presets import PRESETS, build, build_empty, configured, preset
from glip.model.text_encoder import Tokens

pytestmark = pytest.mark.whole

UNUSED = 256 * 80 + 80  # of the official classifier, which only gives a shape


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"), [("glip_tiny_a", 151.43), ("glip_tiny", 231.78), ("glip_large", 430.42)]
)
def test_released_models_have_their_size(name: str, millions: float) -> None:
    model = build_empty(preset(name))
    assert (count(model) + UNUSED) / 1e6 == pytest.approx(millions, abs=0.006)
    assert not model.training


def test_parts_of_the_tiny_model_have_their_size() -> None:
    model = build_empty(preset("glip_tiny"))
    fusion, text = model.head.stages[0].fusion, model.head.stages[0].text_layer
    parts = [model.backbone, model.neck, model.text, fusion, text, model.head.stages[0].block]
    sizes = [27.52, 3.30, 108.89, 6.30, 7.09, 1.92]
    assert [round(count(part) / 1e6, 2) for part in parts] == pytest.approx(sizes, abs=0.011)


def test_nano_fits_in_sixty_megabytes_of_half_precision() -> None:
    assert 2 * count(build_empty(preset("glip_nano"))) <= 60e6


def test_b_and_c_are_the_architecture_of_tiny() -> None:
    for name in ("glip_tiny_b", "glip_tiny_c"):
        assert preset(name) == replace(preset("glip_tiny"), name=name)
    assert all(config.name == name for name, config in PRESETS.items())


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'glip_tny'; there are .*glip_tiny,"):
        preset("glip_tny")


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_small_050"])
@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("roberta", {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}),
        ("distilbert", {"dim": 24, "n_layers": 1, "n_heads": 4, "hidden_dim": 32}),
    ],
)
def test_other_backbones_and_text_encoders_work_end_to_end(
    tiny_config: ModelConfig, backbone: str, text: str, options: dict[str, Any]
) -> None:
    config = replace(
        tiny_config,
        backbone=BackboneConfig(backbone),
        text=TextConfig(text, {**options, "vocab_size": 200}),
    )
    output = build(config)(torch.randn(1, 3, 64, 64), Tokens.pad([(101, 7, 8, 102)]))
    assert output.logits.shape == (1, 64 + 16 + 4 + 1 + 1, 4)
    assert all(part.isfinite().all() for part in output[:3])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"backbone": BackboneConfig("resnt18")}, "'resnt18' is not a model of timm"),
        ({"text": TextConfig("brt")}, "'brt' is not a model type"),
        (
            {"text": TextConfig(options={"max_position_embeddings": 100})},
            "max_tokens 256 exceeds the 100 positions",
        ),
    ],
)
def test_wrong_parts_are_named(
    tiny_config: ModelConfig, part: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_empty(replace(tiny_config, **part))


# ------------------------------------------------------------------------------ without numbers


def test_empty_model_has_the_shapes_but_no_numbers(tiny_config: ModelConfig) -> None:
    full, empty = build(tiny_config), build_empty(tiny_config)
    shapes = {key: tensor.shape for key, tensor in full.state_dict().items()}
    assert {key: tensor.shape for key, tensor in empty.state_dict().items()} == shapes
    real = [parameter for parameter in empty.parameters() if not parameter.is_meta]
    assert sum(map(torch.numel, real)) < 0.01 * sum(map(torch.numel, empty.parameters()))
    assert not any(buffer.is_meta for buffer in empty.buffers())
    assert all(parameter.requires_grad for parameter in empty.parameters())


@torch.no_grad()
def test_filled_empty_model_is_the_model(tiny_config: ModelConfig) -> None:
    full = build(tiny_config)
    filled = assemble(Weights(tiny_config, full.state_dict()))
    inputs = torch.randn(1, 3, 64, 64), Tokens.pad([(101, 7, 102)])
    for one, other in zip(full(*inputs)[:4], filled(*inputs)[:4], strict=True):
        assert one.equal(other)


def test_modules_made_afterwards_have_numbers_again(tiny_config: ModelConfig) -> None:
    build_empty(tiny_config)
    with pytest.raises(ConfigError):
        build_empty(replace(tiny_config, backbone=BackboneConfig("resnt18")))
    assert not nn.Linear(2, 2).weight.is_meta


def test_building_empty_leaves_gradients_on(tiny_config: ModelConfig) -> None:
    build_empty(tiny_config)
    assert torch.is_grad_enabled()


def test_building_empty_leaves_the_random_state_as_it_was(tiny_config: ModelConfig) -> None:
    before = torch.get_rng_state()
    build_empty(tiny_config)
    assert torch.get_rng_state().equal(before)


# ------------------------------------------------------------------------------ chosen by a run


@pytest.mark.parametrize(
    ("choice", "name", "backbone", "channels"),
    [
        ("glip_tiny", "glip_tiny", PRESETS["glip_tiny"].backbone.name, 256),
        ({}, "glip_nano", PRESETS["glip_nano"].backbone.name, 128),
        ({"backbone": {"name": "resnet50"}}, "glip_nano_changed", "resnet50", 128),
        (
            {"name": "glip_tiny", "backbone": {"name": "resnet50"}},
            "glip_tiny_changed",
            "resnet50",
            256,
        ),
        (
            {"name": "mine", "head": {"channels": 64}},
            "mine",
            PRESETS["glip_nano"].backbone.name,
            64,
        ),
        (asdict(PRESETS["glip_large"]), "glip_large", PRESETS["glip_large"].backbone.name, 256),
    ],
)
def test_a_run_names_a_model_or_its_parts(choice, name, backbone, channels) -> None:
    config = configured(choice)
    assert (config.name, config.backbone.name, config.head.channels) == (name, backbone, channels)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("glip_tinny", "no model is called 'glip_tinny'"),
        ({"name": "glip_tinny"}, "did you mean 'glip_tiny'"),
        ({"backbone": {"nam": "x"}}, "model: backbone: unknown key 'nam'; did you mean 'name'"),
        ({"head": {"channels": "many"}}, "model: head.channels: expected int, got 'many'"),
    ],
)
def test_models_that_a_run_cannot_have(choice, message) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(choice)
