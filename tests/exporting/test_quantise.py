"""8-bit weights: which of them, and what it costs in exactness."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glip.errors import ExportError
from glip.exporting.quantise import IN_FLOAT, quantise_image_encoder, quantise_text_encoder

onnx = pytest.importorskip("onnx", reason="needs pip install 'glip[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'glip[onnx]'")
pytest.importorskip("onnxscript", reason="writing graphs needs pip install 'glip[export]'")
pytestmark = pytest.mark.export

CONVOLUTIONS = 5


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A graph of five convolutions with clipping between them, its input named as ours."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for number in range(CONVOLUTIONS):
        layers += [nn.Conv2d(16 if number else 3, 16, 3, padding=1), nn.ReLU6()]
    path = tmp_path / "image_encoder.onnx"
    torch.onnx.export(
        nn.Sequential(*layers).eval(),
        (torch.zeros(1, 3, 24, 24),),
        path,
        dynamo=True,
        input_names=["pixels"],
        external_data=False,
        verbose=False,
    )
    return path


def photos(number: int) -> list[np.ndarray]:
    noise = np.random.default_rng(number)
    return [noise.normal(size=(1, 3, 24, 24)).astype(np.float32) for _ in range(8)]


def test_all_but_the_first_convolutions_are_rounded(encoder: Path) -> None:
    [seen] = photos(1)[:1]
    before = onnxruntime.InferenceSession(encoder).run(None, {"pixels": seen})[0]
    quantise_image_encoder(encoder, photos(0))
    graph = onnx.load(encoder).graph
    made_by = {output: node for node in graph.node for output in node.output}
    weights = [made_by.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    rounded = [one is not None and one.op_type == "DequantizeLinear" for one in weights]
    assert rounded == [False] * IN_FLOAT + [True] * (CONVOLUTIONS - IN_FLOAT)
    after = onnxruntime.InferenceSession(encoder).run(None, {"pixels": seen})[0]
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()


def test_ranges_are_measured_on_all_photos(encoder: Path) -> None:
    asked: list[int] = []

    def watched():  # type: ignore[no-untyped-def]
        for number, photo in enumerate(photos(0)):
            asked.append(number)
            yield photo

    quantise_image_encoder(encoder, watched())
    assert asked == [*range(8)]


def test_text_weights_are_a_quarter_and_nearly_the_same(toy_graphs: Path, tmp_path: Path) -> None:
    path = tmp_path / "text_encoder.onnx"
    path.write_bytes((toy_graphs / path.name).read_bytes())
    size = path.stat().st_size
    given = {
        "ids": np.array([[101, 2711, 1012, 4937, 1012, 102]], np.int64),
        "mask": np.ones((1, 6), np.bool_),
    }
    [before] = onnxruntime.InferenceSession(path).run(None, given)
    quantise_text_encoder(path)
    assert path.stat().st_size < 0.4 * size
    kinds = Counter(one.data_type for one in onnx.load(path).graph.initializer)
    assert kinds[onnx.TensorProto.INT8] >= 3
    [after] = onnxruntime.InferenceSession(path).run(None, given)
    assert 0 < np.abs(after - before).mean() < 0.05 * np.abs(before).mean()


@pytest.mark.parametrize(
    ("quantise", "message"),
    [
        (lambda path: quantise_image_encoder(path, photos(0)), "the image encoder cannot be"),
        (quantise_text_encoder, "the text encoder cannot be quantised"),
    ],
)
def test_damaged_graphs_are_named_and_left(tmp_path: Path, quantise, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ExportError, match=message):
        quantise(path)
    assert path.read_bytes() == b"no graph"


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(ExportError, match=r"pip install 'glip\[export\]'"):
        quantise_text_encoder(tmp_path / "graph.onnx")
