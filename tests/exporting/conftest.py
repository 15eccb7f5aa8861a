"""A detector that is exported in seconds, and what its copies are compared by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glip.detector import Detector
from glip.engine import Engine
from glip.exporting.onnx_graphs import write_onnx
from glip.structures import Detections
from glip.text.tokenizer import Tokenizer
from tests.toy import CONFIG, toy_model


@pytest.fixture
def make_small() -> Callable[[], Detector]:
    """Untrained, but loud enough to find something."""

    def make() -> Detector:
        model = toy_model()
        with torch.no_grad():
            model.head.outputs.bias.fill_(-0.5)
            model.head.outputs.log_scale.fill_(-2.0)
        return Detector(Engine(model, CONFIG, Tokenizer.bert_uncased()))

    return make


@pytest.fixture(scope="session")
def toy_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of the toy model, for any size; read only."""
    pytest.importorskip("onnxscript", reason="writing graphs needs pip install 'glip[export]'")
    folder = tmp_path_factory.mktemp("graphs")
    told: list[None] = []
    names = write_onnx(toy_model().eval(), folder, done=lambda: told.append(None))
    assert len(names) == len(told) == 3
    return folder


def picture(size: tuple[int, int]) -> Image.Image:
    with Image.open(Path(__file__).parents[2] / "demo" / "images" / "chelsea.jpg") as photo:
        return photo.resize(size)


def assert_same(one: Detections, other: Detections) -> None:
    """Up to rounding, which may swap neighbours of almost equal score."""
    assert len(one) == len(other)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
    columns = [np.column_stack([d.boxes / 100, d.scores, d.phrase_ids]) for d in (one, other)]
    distances = np.abs(columns[0][:, None] - columns[1][None]).max(-1)
    assert not len(one) or distances.min(1).max() < 1e-2
