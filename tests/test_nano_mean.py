"""The mean of weights files of one model."""

import sys

import pytest
import torch

from glip.checkpoint import Weights, read, save
from glip.model.presets import preset


@pytest.fixture(scope="module")
def tool():
    import nano_mean

    return nano_mean


def test_mean_of_two_files(tool, tmp_path, monkeypatch, capsys):
    for number in (1, 2):
        state = {"a": torch.full((3,), 2.0 * number), "count": torch.tensor(number)}
        save(tmp_path / f"{number}.safetensors", Weights(preset("glip_nano"), state))
    paths = [str(tmp_path / f"{number}.safetensors") for number in (1, 2)]
    output = tmp_path / "mean.safetensors"
    monkeypatch.setattr(sys, "argv", ["nano_mean", *paths, "--output", str(output), "--half"])
    assert tool.main() == 0
    state = read(output).state
    assert state["a"].tolist() == [3.0] * 3 and state["a"].dtype == torch.float16
    assert state["count"].item() == 1
    save(tmp_path / "2.safetensors", Weights(preset("glip_tiny"), {"a": torch.zeros(3)}))
    assert tool.main() == 2
    assert "not of one model" in capsys.readouterr().err
