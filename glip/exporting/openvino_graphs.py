"""ONNX graphs -> OpenVINO's own files. Needs `pip install 'glip[openvino]'`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glip.errors import ExportError


def write_openvino(folder: Path, names: Sequence[str], *, half: bool) -> None:
    """Turn NAME.onnx into NAME.xml and NAME.bin; the ONNX files go.

    Args:
        folder: Where they are.
        names: Of the graphs.
        half: Store weights in float16; sums are as the processor likes them in any case.
    Raises:
        ExportError: openvino is not installed or refuses a graph.
    """
    try:
        import openvino
        from openvino.frontend.onnx import ConversionExtension
    except ImportError as error:
        raise ExportError(
            "writing OpenVINO graphs needs one more package: pip install 'glip[openvino]'"
        ) from error
    known = ConversionExtension("DeformConv", _deformable)
    for name in names:
        source = folder / f"{name}.onnx"
        try:
            graph = openvino.convert_model(source, extension=known)
            openvino.save_model(graph, folder / f"{name}.xml", compress_to_fp16=half)
        except Exception as error:  # openvino has one class for all that goes wrong
            raise ExportError(f"openvino cannot convert {name}: {str(error)[:300]}") from error
        source.unlink()


def _deformable(node: Any) -> Any:
    """ONNX's DeformConv, which OpenVINO has under another name, its bias apart."""
    from openvino import opset13 as ops

    maps, weight, offsets, bias, mask = (node.get_input(place) for place in range(5))
    strides, pads = list(node.get_attribute("strides")), [1, 1]
    result = ops.deformable_convolution(
        maps, offsets, weight, strides, pads, pads, [1, 1],
        mask=mask, bilinear_interpolation_pad=True,
    )  # fmt: skip
    return ops.add(result, ops.reshape(bias, ops.constant([1, -1, 1, 1]), False)).outputs()
