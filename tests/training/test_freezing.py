from dataclasses import replace

import pytest
import torch

from glip.config import BackboneConfig
from glip.errors import ConfigError
from glip.training.freezing import (
    FreezeConfig,
    freeze,
    moving_statistics,
    statistics_stay,
    to_training,
)
from tests.toy import CONFIG, toy_model


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_full_trains_everything():
    model = toy_model()
    assert freeze(model, FreezeConfig()) == ()
    assert trained(model) == {name for name, _ in model.named_parameters()}


def test_linear_probe_trains_the_output_layers():
    model = toy_model()
    resting = freeze(model, FreezeConfig(), "linear_probe")
    assert trained(model) == {
        "head.outputs.deltas.weight",
        "head.outputs.deltas.bias",
        "head.outputs.centerness.weight",
        "head.outputs.centerness.bias",
        "head.outputs.project.weight",
        "head.outputs.project.bias",
        "head.outputs.log_scale",
        "head.outputs.word_bias",
        "head.outputs.bias",
    }
    to_training(model, resting)
    assert not model.backbone.training
    assert not model.text.training
    assert model.head.stages[0].fusion.training  # official


def test_language_trains_the_text_encoder():
    model = toy_model()
    resting = freeze(model, FreezeConfig(), "language")
    assert trained(model) == {n for n, _ in model.named_parameters() if n.startswith("text.")}
    to_training(model, resting)
    assert model.text.training
    assert not model.head.stages[0].fusion.training


def test_parts_by_name_rest_in_evaluation_mode():
    model = toy_model()
    resting = freeze(model, FreezeConfig(parts=("backbone", "head.outputs.log_scale")))
    to_training(model, resting)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert not model.head.outputs.log_scale.requires_grad
    assert model.head.outputs.bias.requires_grad
    assert not any(module.training for module in model.backbone.modules())
    assert model.neck.training


def test_later_choice_replaces_the_earlier_one():
    model = toy_model()
    freeze(model, FreezeConfig(), "language")
    freeze(model, FreezeConfig())
    assert len(trained(model)) == len(list(model.named_parameters()))


@pytest.mark.parametrize(
    ("parts", "tune", "message"),
    [
        (("bakbone",), "full", "no part 'bakbone'; did you mean 'backbone'?"),
        (("text",), "language", "leave nothing"),
        ((), "prompt", "leave nothing"),  # no learned prompt in the model
        ((), "lora", "leave nothing"),  # no products in it
        ((), "some", "tune must be one of"),
    ],
)
def test_impossible_choices_are_refused(parts, tune, message):
    with pytest.raises(ConfigError, match=message):
        freeze(toy_model(), FreezeConfig(parts=parts), tune)


def test_head_trains_all_behind_the_encoders():
    model = toy_model()
    to_training(model, freeze(model, FreezeConfig(), "head"))
    assert trained(model) == {n for n, _ in model.named_parameters() if n.startswith("head.")}
    assert not model.text.training
    assert model.head.training


def test_batch_norms_keep_their_statistics_unless_told_otherwise():
    model = toy_model(replace(CONFIG, backbone=BackboneConfig("test_efficientnet")))
    to_training(model, freeze(model, FreezeConfig()))
    norms = [m for m in model.backbone.modules() if hasattr(m, "running_mean")]
    assert norms
    assert not any(module.training for module in norms)
    assert moving_statistics(model) == []
    assert all(module.weight.requires_grad for module in norms)
    to_training(model, freeze(model, FreezeConfig(batch_norm="batch")))
    assert all(module.training for module in norms)
    moving = {id(tensor) for tensor in moving_statistics(model)}
    assert moving == {id(tensor) for module in norms for tensor in module.buffers()}


def test_pass_that_is_made_again_moves_no_statistics():
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3, momentum=None))
    pixels = torch.randn(2, 3, 4, 4)
    expected = model(pixels)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with statistics_stay(model):
        assert model(pixels).equal(expected)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert (model[0].momentum, model[1].momentum) == (0.1, None)
    model(pixels)
    assert model[0].num_batches_tracked == 2 and not model[0].running_mean.equal(
        before["0.running_mean"]
    )
