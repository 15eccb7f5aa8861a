"""The tiny model of all tests as a folder of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.checkpoint import Weights
from glip.hf.folder import convert_to_folder, model_of, processor_of


@pytest.fixture(scope="session")
def folder(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    path = tmp_path_factory.mktemp("hf") / "tiny"
    convert_to_folder(tiny_file, path)
    return path


@pytest.fixture
def model(tiny_weights: Weights) -> Any:
    """A copy of its own for each test."""
    clones = {name: tensor.clone() for name, tensor in tiny_weights.state.items()}
    return model_of(Weights(tiny_weights.config, clones))


@pytest.fixture(scope="session")
def processor(tiny_weights: Weights) -> Any:
    return processor_of(tiny_weights)
