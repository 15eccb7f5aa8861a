"""Exported graphs, run by ONNX Runtime or OpenVINO: arrays in, arrays out, no torch.

Letters: B pictures, T tokens, D text width, C channels, A regions of all levels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from glip.errors import DeviceError, ExportError
from glip.processors import THREADS
from glip.runtime.manifest import HEAD, IMAGE_ENCODER, TEXT_ENCODER, Manifest
from glip.settings import within

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


class RegionOutput(NamedTuple):
    """What the head says, see `glip.model.head.HeadOutput`."""

    logits: Floats
    """(B, A, T)."""
    deltas: Floats
    """(B, A, 4)."""
    centerness: Floats
    """(B, A)."""


class Session(Protocol):
    """One graph, ready to run."""

    def __call__(self, inputs: Mapping[str, Array]) -> list[Floats]:
        """All outputs, in the graph's order."""
        ...


class Graphs:
    """The graphs of an exported folder.

    Args:
        folder: What `glip export` wrote.
        manifest: Of that folder.
        device: "cpu", or what the runtime knows beside it: "cuda" (ONNX Runtime), "gpu" (OpenVINO).
        threads: Processor threads of one prediction; by default those of OMP_NUM_THREADS, as
            torch takes them, and where it is not set the runtime's choice.
    Raises:
        ConfigError: `threads` below 1.
        ExportError: The runtime is not installed or cannot read a graph.
        DeviceError: It cannot run on the device.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        within("threads", threads, least=1)
        threads = threads or _said_threads()
        opened = {"onnx": _open_onnx, "openvino": _open_openvino}[manifest.runtime]
        self._sessions: dict[str, Session] = {
            name: opened(manifest.graph(folder, name), device, threads) for name in manifest.graphs
        }

    def encode_image(self, pixels: Floats) -> list[Floats]:
        """(B, 3, H, W), normalised, to five maps (B, C, H_l, W_l), finest first."""
        return self._sessions[IMAGE_ENCODER]({"pixels": pixels})

    def encode_text(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_]) -> Floats:
        """(B, T) ids and mask to (B, T, D) states."""
        return self._sessions[TEXT_ENCODER]({"ids": ids, "mask": mask})[0]

    def predict_regions(
        self, levels: Sequence[Floats], states: Floats, mask: npt.NDArray[np.bool_]
    ) -> RegionOutput:
        """Five (B, C, H_l, W_l) and (B, T, D) words to the head's output."""
        inputs: dict[str, Array] = {f"p{number}": maps for number, maps in enumerate(levels, 3)}
        return RegionOutput(*self._sessions[HEAD](inputs | {"states": states, "mask": mask}))


def _said_threads() -> int | None:
    """What the environment says, which neither runtime reads."""
    first = os.environ.get(THREADS, "").partition(",")[0].strip()
    return int(first) or None if first.isdecimal() else None


def _open_onnx(path: Path, device: str, threads: int | None) -> Session:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            "this exported model runs by ONNX Runtime: pip install onnxruntime"
        ) from error
    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    kind = device.partition(":")[0]
    if providers.get(kind) not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"device {device!r}: ONNX Runtime as installed here runs on "
            f"{', '.join(onnxruntime.get_available_providers())}; 'cpu' always works"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[providers[kind]])
    except Exception as error:  # ONNX Runtime's own classes are not public
        raise ExportError(f"{path} cannot be read: {str(error)[:300]}") from error
    return lambda inputs: list(session.run(None, dict(inputs)))


def _open_openvino(path: Path, device: str, threads: int | None) -> Session:
    try:
        import openvino
    except ImportError as error:
        raise ExportError("this exported model runs by OpenVINO: pip install openvino") from error
    core = openvino.Core()
    kind = device.upper()
    if kind.partition(".")[0] not in core.available_devices:
        raise DeviceError(
            f"device {device!r}: OpenVINO finds {', '.join(core.available_devices)} on this "
            "machine; 'cpu' always works"
        )
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = core.compile_model(path, kind, settings)
    except Exception as error:  # one class for all that goes wrong
        raise ExportError(f"{path} cannot be read: {str(error)[:300]}") from error

    def run(inputs: Mapping[str, Array]) -> list[Floats]:
        # A request of its own for each call: they hold results, and threads may share a model.
        results = compiled.create_infer_request().infer(dict(inputs))
        return [np.array(results[output]) for output in compiled.outputs]

    return run
