"""torch and both runtimes in one process: an ordinary use, which must not end it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs pip install 'glip[onnx]'")
pytest.importorskip("openvino", reason="needs pip install 'glip[openvino]'")
pytest.importorskip("onnx", reason="needs pip install 'glip[export]'")
pytestmark = pytest.mark.whole

# Each prepares, runs, and runs again when all the others have: in threads of its own, and of ours.
SCRIPT = """
import sys, threading
from pathlib import Path
import numpy as np

def torch_runs():
    import torch
    weight = torch.randn(16, 3, 3, 3)
    return lambda x: torch.nn.functional.conv2d(torch.from_numpy(x), weight).relu().sum().item()

def onnx_graph():
    from onnx import TensorProto, helper, numpy_helper
    weight = numpy_helper.from_array(np.ones((16, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, None, None])
              for n, c in (("x", 3), ("y", 16))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()

def onnx_runs():
    import onnxruntime
    session = onnxruntime.InferenceSession(onnx_graph(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0].sum()

def openvino_runs():
    import io, openvino
    core = openvino.Core()
    model = core.compile_model(core.read_model(io.BytesIO(onnx_graph())), "CPU")
    return lambda x: model.create_infer_request().infer({"x": x})[0].sum()

known = {"torch": torch_runs, "onnx": onnx_runs, "openvino": openvino_runs}
x = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
running = []
for name in sys.argv[1:]:
    running.append(known[name]())
    for run in running:
        run(x)
threads = [threading.Thread(target=run, args=[x]) for run in running * 4]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("all ran")
"""


@pytest.mark.parametrize(
    "order",
    ["torch onnx openvino", "openvino onnx torch", "onnx torch openvino", "openvino torch onnx"],
)
def test_runtimes_live_side_by_side(order: str, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, *order.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "all ran\n"), done.stderr[-3000:]
