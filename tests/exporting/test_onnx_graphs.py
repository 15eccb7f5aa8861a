"""Graphs in ONNX: their inputs, any size of them, and half of their bytes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from glip.errors import ExportError
from glip.exporting.onnx_graphs import LEVELS, OPSET, halve_weights, write_onnx
from tests.toy import toy_model

onnx = pytest.importorskip("onnx", reason="needs pip install 'glip[export]'")
pytest.importorskip("onnxscript", reason="writing graphs needs pip install 'glip[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'glip[onnx]'")
pytestmark = pytest.mark.export


def shapes(path: Path) -> dict[str, list[int | str]]:
    """Input -> its sides, those that may change by name."""
    return {
        one.name: [side.dim_param or side.dim_value for side in one.type.tensor_type.shape.dim]
        for one in onnx.load(path).graph.input
    }


def test_batch_sides_and_tokens_may_be_any(toy_graphs: Path) -> None:
    batch, channels, height, width = shapes(toy_graphs / "image_encoder.onnx")["pixels"]
    assert channels == 3
    assert all(isinstance(side, str) for side in (batch, height, width))
    head = shapes(toy_graphs / "head.onnx")
    assert [*head] == [*LEVELS, "states", "mask"]
    assert all(isinstance(head[name][place], str) for name in LEVELS for place in (0, 2, 3))
    assert isinstance(head["mask"][1], str)
    text = shapes(toy_graphs / "text_encoder.onnx")
    assert [*text] == ["ids", "mask"] and isinstance(text["ids"][1], str)


def test_each_graph_is_told_of(toy_graphs: Path) -> None:
    names = [path.stem for path in sorted(toy_graphs.iterdir())]
    assert names == ["head", "image_encoder", "text_encoder"]


def test_what_is_sampled_is_one_operator_of_the_standard(toy_graphs: Path) -> None:
    graph = onnx.load(toy_graphs / "head.onnx")
    onnx.checker.check_model(graph)
    assert [one.version for one in graph.opset_import if one.domain == ""] == [OPSET]
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert any(node.op_type == "DeformConv" for node in graph.graph.node)


def test_maps_are_those_of_the_model_at_another_size_and_batch(toy_graphs: Path) -> None:
    model = toy_model().eval()
    pixels = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(toy_graphs / "image_encoder.onnx")
    with torch.inference_mode():
        expected = model.encode_image(pixels).levels
    for one, other in zip(session.run(None, {"pixels": pixels.numpy()}), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-3)


def test_what_torch_cannot_trace_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise RuntimeError("this depends on the numbers\nand here is a page of advice")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    before = logging.root.manager.disable
    with pytest.raises(ExportError) as caught:
        write_onnx(toy_model().eval(), tmp_path)
    assert str(caught.value) == (
        "torch cannot turn this model into an ONNX graph (image_encoder): "
        "this depends on the numbers"
    )
    assert logging.root.manager.disable == before, "others' warnings are heard again"
    assert list(tmp_path.iterdir()) == []


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"needs two more packages: pip install 'glip\[export\]'"):
        write_onnx(toy_model().eval(), tmp_path)


def test_large_weights_are_halved_and_small_ones_stay(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    noise = np.random.default_rng(0)
    large = noise.normal(size=(32, 16)).astype(np.float32)
    small = noise.normal(size=(16,)).astype(np.float32)
    counts = np.arange(300, dtype=np.int64)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "large"], ["product"]),
            helper.make_node("Add", ["product", "small"], ["y"]),
            helper.make_node("Identity", ["counts"], ["z"]),
        ],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16]),
            helper.make_tensor_value_info("z", TensorProto.INT64, [300]),
        ],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("large", large), ("small", small), ("counts", counts))
        ],
    )
    path = tmp_path / "sum.onnx"
    opset = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    before = path.stat().st_size
    halve_weights(path)
    onnx.checker.check_model(onnx.load(path))
    kinds = {one.name: one.data_type for one in onnx.load(path).graph.initializer}
    assert kinds == {
        "large.half": TensorProto.FLOAT16,
        "small": TensorProto.FLOAT,
        "counts": TensorProto.INT64,
    }
    assert before - path.stat().st_size > large.nbytes / 2 - 100
    given = noise.normal(size=(1, 32)).astype(np.float32)
    got, same = onnxruntime.InferenceSession(path).run(None, {"x": given})
    np.testing.assert_allclose(got, given @ large.astype(np.float16) + small, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(same, counts)
