"""A data set to tune on, and a model to be tuned."""

from pathlib import Path

import pytest
from parity.chance import without_chance

from glip.checkpoint import Weights, save
from glip.detector import Detector
from tests.training.squares import write_set


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train and val parts of two classes, ids from 0."""
    folder = tmp_path_factory.mktemp("squares")
    names = {0: "red square", 1: "green square"}
    write_set(folder / "train.json", names, [(0, [0]), (1, [1]), (2, [0, 1]), (3, [0]), (4, [])])
    write_set(folder / "val.json", names, [(0, [0, 1]), (1, [1])])
    return folder


@pytest.fixture(scope="session")
def calm_file(tiny_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout, as a file; read only."""
    path = tmp_path_factory.mktemp("weights") / "calm.safetensors"
    config = without_chance(tiny_detector.config)
    save(path, Weights(config, tiny_detector.model.state_dict()))
    return path
