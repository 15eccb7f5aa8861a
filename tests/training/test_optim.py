"""Groups, schedules and the plateau, by numbers worked out by hand."""

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from glip.convert import rename_table
from glip.errors import ConfigError
from glip.training.optim import (
    OptimizerConfig,
    Plateau,
    PlateauConfig,
    Schedule,
    ScheduleConfig,
    build_optimizer,
    clip_gradients,
    parameter_groups,
    set_rates,
)

RATES = OptimizerConfig(lr=1e-4, text_lr=1e-5, backbone_factor=0.5, weight_decay=0.01)


@pytest.mark.parametrize(
    ("name", "lr", "decay"),
    [
        ("head.outputs.project.weight", 1e-4, 0.01),
        ("head.stages.0.text_layer.query.weight", 1e-4, 0.01),
        ("head.stages.0.text_layer.norm.weight", 1e-4, 0.01),
        ("head.stages.0.fusion.visual_gamma", 1e-4, 0.01),
        ("head.outputs.bias", 2e-4, 0.0),
        ("head.outputs.word_bias", 2e-4, 0.0),
        ("neck.lateral.0.weight", 1e-4, 0.01),
        ("text.model.encoder.layer.0.output.dense.weight", 1e-5, 0.01),
        ("text.model.encoder.layer.0.output.dense.bias", 2e-5, 0.0),
        ("backbone.body.patch_embed.proj.weight", 5e-5, 0.01),
        ("backbone.body.layers.0.blocks.0.attn.relative_position_bias_table", 1e-4, 0.0),
    ],
)
def test_rate_and_decay_of_a_tensor(name: str, lr: float, decay: float) -> None:
    (group,) = parameter_groups([(name, nn.Parameter(torch.zeros(1)))], RATES)
    assert group["lr"] == group["base_lr"] == pytest.approx(lr)
    assert group["weight_decay"] == group["base_weight_decay"] == decay


def test_our_names_have_bias_where_the_official_ones_do() -> None:
    packed = (Path(__file__).parent / "golden" / "glip_tiny_keys.json.gz").read_bytes()
    table = rename_table(json.loads(gzip.decompress(packed)))
    assert len(table) > 700
    assert not [pair for pair in table.items() if len({"bias" in name for name in pair}) > 1]


def test_each_trained_tensor_is_in_one_group() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = parameter_groups(model.named_parameters(), RATES)
    members = [parameter for group in groups for parameter in group["params"]]
    assert {id(p) for p in members} == {id(p) for p in model[1].parameters()}
    assert len(members) == 2


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ConfigError, match="everything is frozen"):
        parameter_groups(nn.Linear(1, 1).requires_grad_(False).named_parameters(), RATES)


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.001),
        (500, 0.25 * 0.999 + 0.001),
        (1999, 0.001 + 0.999 * 1999 / 2000),
        (2000, 1.0),
        (66_999, 1.0),
        (67_000, 0.1),
        (88_999, 0.1),
        (89_000, 0.01),
        (99_999, 0.01),
    ],
)
def test_official_schedule_of_100_000_steps(step: int, factor: float) -> None:
    assert Schedule(ScheduleConfig(), 100_000).lr_factor(step) == pytest.approx(factor)


def test_cosine_falls_from_one_to_what_is_left() -> None:
    schedule = Schedule(ScheduleConfig("cosine", warmup_steps=10, final_factor=0.2), 110)
    assert schedule.lr_factor(10) == 1
    assert schedule.lr_factor(60) == pytest.approx(0.6)
    assert schedule.lr_factor(35) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule.lr_factor(110) == pytest.approx(0.2)


def test_weight_decay_of_the_large_model_drops_before_the_rates() -> None:
    schedule = Schedule(ScheduleConfig(weight_decay_gamma=0.1), 1000)  # milestones 670 and 890
    factors = [schedule.decay_factor(step) for step in (0, 446, 447, 593, 594, 999)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_rates_are_set_for_each_group() -> None:
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model.named_parameters(), OptimizerConfig(lr=1.0))
    largest = set_rates(optimizer, Schedule(ScheduleConfig(warmup_steps=0), 100), step=70)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.2])
    assert largest == pytest.approx(0.2)


def test_plateau_shrinks_rates_and_stops() -> None:
    plateau = Plateau(PlateauConfig(patience=1, stop_patience=4))
    stops = [plateau.update(metric) for metric in (0.5, 0.5, 0.6, 0.4, 0.6, 0.5)]
    assert (stops, plateau.factor) == ([False] * 6, 1.0)  # equal to the best counts as better
    assert not plateau.update(0.5)
    assert plateau.factor == pytest.approx(0.1)  # two below the best
    assert not plateau.update(0.5)
    assert plateau.update(0.59)  # four


def test_plateau_remembers() -> None:
    first, second = (Plateau(PlateauConfig(patience=1, stop_patience=3)) for _ in range(2))
    first.update(0.5)
    first.update(0.4)
    second.load_state_dict(first.state_dict())
    assert second.update(0.4) == first.update(0.4) is False
    assert second.factor == first.factor == pytest.approx(0.1)


def test_rates_on_a_plateau_have_a_floor() -> None:
    optimizer = build_optimizer([("a", nn.Parameter(torch.ones(1)))], OptimizerConfig(lr=1e-4))
    plateau = Plateau(PlateauConfig(patience=0, min_lr=1e-6))
    for metric in (1.0, 0.0, 0.0, 0.0):
        plateau.update(metric)
    schedule = Schedule(ScheduleConfig("constant", warmup_steps=0), 10)
    assert set_rates(optimizer, schedule, 5, plateau) == 1e-6
    warming_up = Schedule(ScheduleConfig("constant", warmup_steps=1000), 10)
    assert set_rates(optimizer, warming_up, 0, plateau) == pytest.approx(1e-7)


def test_clipping_scales_all_gradients_together() -> None:
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, two.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients([one, two, nn.Parameter(torch.zeros(1))], 1.0) == 5
    assert one.grad.item() == pytest.approx(0.6)
    assert two.grad.item() == pytest.approx(0.8)
    assert clip_gradients([one, two], None).item() == pytest.approx(1)
    assert one.grad.item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (OptimizerConfig, {"lr": -1}, "lr must be at least 0"),
        (OptimizerConfig, {"clip_norm": 0}, "clip_norm must be above 0"),
        (ScheduleConfig, {"kind": "stairs"}, "kind must be one of"),
        (ScheduleConfig, {"milestones": (0.9, 0.5)}, "must rise"),
        (ScheduleConfig, {"milestones": (5,)}, r"lie in \[0, 1\], got 5"),
        (ScheduleConfig, {"warmup_steps": -1}, "warmup_steps must be at least 0"),
        (PlateauConfig, {"factor": 2}, r"factor must lie in \(0, 1\), got 2"),
    ],
)
def test_impossible_values_are_refused(kind: type, values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**values)
