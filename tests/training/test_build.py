"""What a run is built of."""

import pytest
import torch

from glip.checkpoint import Weights, save
from glip.errors import ConfigError
from glip.evaluation.config import EvaluationConfig
from glip.model.presets import PRESETS
from glip.training.build import starting_point, steps_between_evaluations, steps_of, tokenizer_json
from glip.training.run_config import RunConfig
from tests.toy import CONFIG, toy_model

CPU = torch.device("cpu")


def test_length_is_in_steps_or_in_parts_of_epochs():
    assert steps_of(RunConfig(steps=7), epoch=100) == 7
    assert steps_of(RunConfig(epochs=2.5), epoch=100) == 250
    assert steps_of(RunConfig(epochs=0.001), epoch=100) == 1
    with pytest.raises(ConfigError, match="the run has no length: set epochs or steps"):
        steps_of(RunConfig(), epoch=100)


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"every_epochs": 0.5}, 50),
        ({"every_epochs": 0.001}, 1),
        ({"every_epochs": 1.0, "every_steps": 30}, 30),
        ({"every_epochs": None}, None),
    ],
)
def test_steps_between_evaluations(values, steps):
    assert steps_between_evaluations(EvaluationConfig("a.json", **values), 100) == steps


def test_run_starts_from_its_weights_or_its_seed(tmp_path, monkeypatch):
    save(tmp_path / "toy.safetensors", Weights(CONFIG, toy_model(seed=3).state_dict()))
    given = starting_point(RunConfig(weights=str(tmp_path / "toy.safetensors")), CPU)
    assert given.config == CONFIG and tokenizer_json(given.tokenizer) is None
    monkeypatch.setitem(PRESETS, "glip_tiny", CONFIG)
    one, same, other = (
        starting_point(RunConfig(model="glip_tiny", seed=seed), CPU).model.state_dict()
        for seed in (3, 3, 4)
    )
    name = "head.outputs.project.weight"
    assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])
