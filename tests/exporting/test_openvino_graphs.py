"""Graphs in OpenVINO's own files, of which one operator needs a translation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.ops import deform_conv2d

import glip
from glip.detector import Detector
from glip.errors import ExportError
from glip.exporting.export import export
from glip.exporting.openvino_graphs import write_openvino
from tests.exporting.conftest import assert_same, picture

onnx = pytest.importorskip("onnx", reason="needs pip install 'glip[export]'")
openvino = pytest.importorskip("openvino", reason="needs pip install 'glip[openvino]'")
pytestmark = pytest.mark.export


def deformable(folder: Path, stride: int, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
    """A graph of one deformable convolution; its weights are in it."""
    from onnx import TensorProto, helper, numpy_helper

    inputs = ["maps", "weight", "offsets", "bias", "mask"]
    node = helper.make_node(
        "DeformConv", inputs, ["y"], kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2
    )
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, arrays[name].shape)
        for name in ("maps", "offsets", "mask")
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    kept = [numpy_helper.from_array(arrays[name], name) for name in ("weight", "bias")]
    graph = helper.make_graph([node], "g", values, [y], kept)
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "one.onnx")


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution_is_that_of_torchvision(tmp_path: Path, stride: int) -> None:
    noise = np.random.default_rng(0)
    high, wide = 8 // stride, 10 // stride
    shapes = {
        "maps": (1, 16, 8, 10),
        "weight": (24, 16, 3, 3),
        "offsets": (1, 18, high, wide),
        "bias": (24,),
        "mask": (1, 9, high, wide),
    }
    arrays = {name: noise.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["offsets"] *= 2  # far enough to reach over the border
    deformable(tmp_path, stride, arrays)
    write_openvino(tmp_path, ["one"], half=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.bin", "one.xml"]
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    run = openvino.Core().compile_model(tmp_path / "one.xml", "CPU", exact)
    [got] = run({name: arrays[name] for name in ("maps", "offsets", "mask")}).values()
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    expected = deform_conv2d(
        tensors["maps"],
        tensors["offsets"],
        tensors["weight"],
        tensors["bias"],
        stride=stride,
        padding=1,
        mask=tensors["mask"],
    )
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)


def test_half_numbers_take_half_the_bytes(tmp_path: Path) -> None:
    sizes = []
    for half in (False, True):
        folder = tmp_path / str(half)
        folder.mkdir()
        shapes = {"maps": (1, 64, 4, 4), "weight": (64, 64, 3, 3), "offsets": (1, 18, 4, 4)}
        arrays = {
            name: np.full(shape, 0.37, np.float32)
            for name, shape in (shapes | {"bias": (64,), "mask": (1, 9, 4, 4)}).items()
        }
        deformable(folder, 1, arrays)
        write_openvino(folder, ["one"], half=half)
        sizes.append((folder / "one.bin").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def test_what_cannot_be_converted_is_named_and_stays(tmp_path: Path) -> None:
    (tmp_path / "head.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="openvino cannot convert head: "):
        write_openvino(tmp_path, ["head"], half=False)
    assert (tmp_path / "head.onnx").read_bytes() == b"no graph"


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"one more package: pip install 'glip\[openvino\]'"):
        write_openvino(tmp_path, [], half=False)


def test_openvino_gives_the_same(make_small: Callable[[], Detector], tmp_path: Path) -> None:
    detector = make_small()
    export(detector, tmp_path / "ov", format="openvino")
    [expected] = detector.predict(picture((96, 96)), ["red", "green"], threshold=0.0)
    [found] = glip.load(tmp_path / "ov").predict(picture((96, 96)), ["red", "green"], threshold=0.0)
    assert_same(found, expected)
