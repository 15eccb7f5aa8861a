"""Graphs with 8-bit weights, through ONNX Runtime's own quantiser (extra `export`).

Convolutions of the image encoder multiply 8-bit numbers whose ranges are measured on photos, and
their clipping is done in the same numbers: ranges are then those of what is left after it. Its
first convolutions stay as they are, since their rounding is in all that follows. Of the text
encoder only the weights are stored so. The head stays as it is: most of its work is sampling, and
its last products decide about scores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glip.errors import ExportError

IN_FLOAT = 3
"""So many first convolutions are not rounded. In glip_nano they are 4 % of the sums, and in 8 bits
two thirds of the noise in the finest map came from them."""


def quantise_image_encoder(path: Path, pictures: Iterable[npt.NDArray[np.float32]]) -> None:
    """Convolutions in 8 bits, in place.

    Args:
        path: image_encoder.onnx.
        pictures: Some dozens of (1, 3, H, W) as the graph takes them, of photos like those to come.
    Raises:
        ExportError: onnxruntime is missing or refuses the graph.
    """
    quantization = _quantization()

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Pictures one after the other."""

        def __init__(self) -> None:
            self._pictures = iter(pictures)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            """The next one under the name of the graph's input."""
            pixels = next(self._pictures, None)
            return None if pixels is None else {"pixels": pixels}

    with tempfile.TemporaryDirectory() as folder:
        prepared, done = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            quantization.quant_pre_process(path, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                done,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Clip", "Relu"],
                nodes_to_exclude=_first_convolutions(prepared),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        except Exception as error:  # the quantiser raises what it meets
            raise ExportError(f"the image encoder cannot be quantised: {error}") from error
        path.write_bytes(done.read_bytes())


def _first_convolutions(path: Path) -> list[str]:
    """Names of the nodes that stay in float32."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type == "Conv"][:IN_FLOAT]


def quantise_text_encoder(path: Path) -> None:
    """Weights of products and embeddings in 8 bits, in place.

    Raises:
        ExportError: onnxruntime is missing or refuses the graph.
    """
    quantization = _quantization()
    with tempfile.TemporaryDirectory() as folder:
        done = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_dynamic(
                path,
                done,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:
            raise ExportError(f"the text encoder cannot be quantised: {error}") from error
        path.write_bytes(done.read_bytes())


def _quantization() -> Any:
    try:
        import onnxruntime.quantization
        import onnxruntime.quantization.shape_inference
    except ImportError as error:
        raise ExportError(
            "8-bit graphs need ONNX Runtime and onnx: pip install 'glip[export]'"
        ) from error
    return onnxruntime.quantization
