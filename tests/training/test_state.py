"""Checkpoints: whole or not there, and a resumed run that equals one that never stopped."""

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from glip.errors import CheckpointError
from glip.training.freezing import FreezeConfig, freeze
from glip.training.optim import OptimizerConfig, Plateau, PlateauConfig
from glip.training.state import CheckpointFolder, _generators, _set_generators
from tests.toy import toy_model, toy_state

pytestmark = pytest.mark.whole

TOY = Path(__file__).parents[1] / "toy.py"


def run(folder: Path, *options: object, killed: bool = False) -> None:
    """Run the toy in a process of its own; a killed one is expected to die of signal 9."""
    done = subprocess.run(
        [sys.executable, TOY, folder, *map(str, options)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == (-9 if killed else 0), done.stderr


def content(folder: Path, step: int) -> dict:
    return torch.load(folder / f"step_{step:08d}.pt", weights_only=True)


def same(one: object, two: object) -> bool:
    """Equality to the last bit, through nested containers."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The end of six steps in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder)
    return content(folder, 6)


def test_run_killed_in_a_step_ends_with_the_same_weights(uninterrupted, tmp_path):
    run(tmp_path, "--die-in-step", 3, killed=True)
    assert [file.name for file in tmp_path.iterdir()] == ["step_00000002.pt"]
    run(tmp_path)
    assert same(content(tmp_path, 6), uninterrupted)


def test_run_killed_while_it_writes_ends_with_the_same_weights(uninterrupted, tmp_path):
    run(tmp_path, "--die-in-save", 4, killed=True)
    assert (tmp_path / "step_00000004.pt.part").exists()
    assert not (tmp_path / "step_00000004.pt").exists()
    run(tmp_path)
    assert same(content(tmp_path, 6), uninterrupted)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "step_00000004.pt",
        "step_00000006.pt",
    ]


def test_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    folder, state = CheckpointFolder(tmp_path), toy_state(toy_model())
    folder.save(state)
    before = (tmp_path / "step_00000000.pt").read_bytes()

    def fails(content, file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    for step in (0, 1):
        state.step = step
        with pytest.raises(CheckpointError, match="No space left on device; free some space"):
            folder.save(state)
    assert [file.name for file in tmp_path.iterdir()] == ["step_00000000.pt"]
    assert (tmp_path / "step_00000000.pt").read_bytes() == before


def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    folder, state = CheckpointFolder(tmp_path), toy_state(toy_model())
    for step in (1, 2):
        state.step = step
        folder.save(state)
    newest = tmp_path / "step_00000002.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert folder.load_newest(state)
    assert state.step == 1
    assert "step_00000002.pt is damaged" in caplog.text


def test_only_the_newest_checkpoints_stay(tmp_path):
    folder, state = CheckpointFolder(tmp_path, keep=2), toy_state(toy_model())
    for state.step in range(4):
        folder.save(state)
    assert sorted(file.name[-4:-3] for file in tmp_path.iterdir()) == ["2", "3"]


def test_nothing_to_resume(tmp_path):
    state = toy_state(toy_model())
    assert not CheckpointFolder(tmp_path / "not there").load_newest(state)
    assert state.step == 0


def test_average_that_begins_on_the_way_begins_with_the_weights_of_then(tmp_path):
    state = toy_state(toy_model(seed=0))
    state.ema = None
    CheckpointFolder(tmp_path).save(state)
    other = toy_state(toy_model(seed=1))
    CheckpointFolder(tmp_path).load_newest(other)
    weights = state.model.state_dict()
    assert all(torch.equal(mean, weights[name]) for name, mean in other.ema.average.items())


def test_everything_comes_back(tmp_path):
    state = toy_state(toy_model(seed=0))
    state.plateau = Plateau(PlateauConfig())
    state.plateau.update(0.7)
    state.step, state.best, state.best_step = 7, 0.7, 5
    state.history = [{"step": 5, "AP": 0.7}]
    state.ema.average["head.outputs.bias"].fill_(3.0)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    CheckpointFolder(tmp_path).save(state)
    expected = [random.random(), np.random.rand(), torch.rand(1).item()]  # noqa: NPY002

    other = toy_state(toy_model(seed=1))
    other.plateau = Plateau(PlateauConfig())
    assert CheckpointFolder(tmp_path).load_newest(other)
    other.restore_generators()
    found = [random.random(), np.random.rand(), torch.rand(1).item()]  # noqa: NPY002
    assert found == expected
    without = ("generators",)
    one, two = state.to_dict(), other.to_dict()
    assert same(*({k: v for k, v in d.items() if k not in without} for d in (one, two)))


def test_other_frozen_parts_are_refused(tmp_path):
    state = toy_state(toy_model())
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    CheckpointFolder(tmp_path).save(state)
    model = toy_model()
    freeze(model, FreezeConfig(), "language")
    with pytest.raises(CheckpointError, match="resume with the same frozen parts"):
        CheckpointFolder(tmp_path).load_newest(toy_state(model))


def test_other_rates_keep_what_the_optimizer_remembers_of_each_tensor(tmp_path):
    state = toy_state(toy_model(), OptimizerConfig(lr=1e-3, text_lr=1e-4))
    for number, parameter in enumerate(state.model.parameters()):
        parameter.grad = torch.full_like(parameter, number + 1)
    state.optimizer.step()
    CheckpointFolder(tmp_path).save(state)
    other = toy_state(toy_model(), OptimizerConfig(lr=1e-3, text_lr=1e-3, weight_decay=0.0))
    assert len(other.optimizer.param_groups) < len(state.optimizer.param_groups)
    CheckpointFolder(tmp_path).load_newest(other)
    for before, after in zip(state.model.parameters(), other.model.parameters(), strict=True):
        assert same(dict(state.optimizer.state[before]), dict(other.optimizer.state[after]))


@pytest.mark.parametrize("steps", [0, 1])
def test_checkpoints_that_number_what_they_train_are_read(tmp_path, steps):
    state = toy_state(toy_model())
    for _ in range(steps):
        for parameter in state.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        state.optimizer.step()
    numbered = state.to_dict() | {"optimizer": state.optimizer.state_dict()["state"]}
    other = toy_state(toy_model())
    other.load_dict(numbered)
    assert same(other.to_dict()["optimizer"], state.to_dict()["optimizer"])


def test_checkpoint_of_another_model_is_refused(tmp_path, make_tiny_model):
    CheckpointFolder(tmp_path).save(toy_state(toy_model()))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        CheckpointFolder(tmp_path).load_newest(toy_state(make_tiny_model()))


def test_generator_of_the_gpu_that_trains_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {torch.device("cuda", 0): torch.zeros(1), torch.device("cuda", 1): torch.ones(1)}
    kept = dict(states)
    monkeypatch.setattr(torch.cuda, "get_rng_state", kept.__getitem__)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: states.update({device: state})
    )
    found = _generators(torch.device("cuda", 1))
    states[torch.device("cuda", 1)] = torch.full((1,), 7.0)
    _set_generators(found, torch.device("cuda", 1))
    assert states == kept
    assert _generators(torch.device("cpu"))["cuda"] is None
