"""GLIP as ONNX graphs for pictures and prompts of any size, through `torch.export`.

Knows nothing about folders; what runs the graphs is `glip.runtime`. Needs `pip install
'glip[export]'`.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from glip.errors import ExportError
from glip.exporting.graphs import HeadGraph, ImageGraph, TextGraph
from glip.model.fpn import LEVEL_STRIDES
from glip.model.glip import GLIP
from glip.model.text_encoder import TextEncoder
from glip.runtime.manifest import HEAD, IMAGE_ENCODER, TEXT_ENCODER

OPSET = 20
"""The first with an exact GELU; deformable convolution came with 19."""
LEVELS = tuple(f"p{number}" for number, _ in enumerate(LEVEL_STRIDES, 3))
_SIDE = 32  # what a picture's sides are multiples of
_EXAMPLE_HW = (256, 320)  # several windows of a Swin at every stage: one would be taken for all
_EXAMPLE_TOKENS = 11


def write_onnx(
    model: GLIP,
    folder: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    done: Callable[[], object] = lambda: None,
) -> list[str]:
    """Write the graphs of a model.

    Args:
        model: In evaluation mode, float32, on the CPU.
        folder: Gets image_encoder.onnx, head.onnx and, if the model has one, text_encoder.onnx.
        size_hw: Height and width that pictures shall have, multiples of 32; by default any.
        done: Called after each graph.
    Returns:
        Names of the graphs.
    Raises:
        ExportError: A package is missing, or torch cannot trace the model.
    """
    torch.manual_seed(0)
    height, width = size_hw or _EXAMPLE_HW
    pixels = torch.randn(2, 3, height, width)
    ids = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.int64)
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    image = ImageGraph(model)
    with torch.no_grad():
        levels = list(image(pixels))
    states = torch.randn(2, _EXAMPLE_TOKENS, model.text.width)
    batch_and_tokens = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    batch_and_map = {0: Dim.DYNAMIC} if size_hw else dict.fromkeys((0, 2, 3), Dim.DYNAMIC)
    graphs: dict[str, tuple[nn.Module, Any, Any, Sequence[str], Sequence[str]]] = {
        IMAGE_ENCODER: (image, (pixels,), (_picture(size_hw),), ["pixels"], LEVELS),
        HEAD: (
            HeadGraph(model),
            (levels, states, mask),
            ([batch_and_map] * len(levels), batch_and_tokens, batch_and_tokens),
            [*LEVELS, "states", "mask"],
            ["logits", "deltas", "centerness"],
        ),
    }
    if isinstance(model.text, TextEncoder):
        shapes = (batch_and_tokens, batch_and_tokens)
        graphs[TEXT_ENCODER] = (
            TextGraph(model.text), (ids, mask), shapes, ["ids", "mask"], ["states"]
        )  # fmt: skip
    for name, graph in graphs.items():
        _write(folder / f"{name}.onnx", *graph)
        done()
    return list(graphs)


def _picture(size_hw: tuple[int, int] | None) -> dict[int, Any]:
    batch = Dim("batch", min=1)
    if size_hw:
        return {0: batch}
    # One symbol for 32 pixels: that all maps divide is then known without a proof.
    high, wide = Dim("high", min=1, max=256), Dim("wide", min=1, max=256)
    return {0: batch, 2: _SIDE * high, 3: _SIDE * wide}


def _write(
    path: Path,
    module: nn.Module,
    example: tuple[Any, ...],
    shapes: tuple[Any, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> None:
    try:
        from onnxscript import opset20
    except ImportError as error:
        raise ExportError(
            "writing ONNX graphs needs two more packages: pip install 'glip[export]'"
        ) from error

    def deformable(maps: Any, offsets: Any, mask: Any, weight: Any, bias: Any, stride: int) -> Any:
        return opset20.DeformConv(
            maps, weight, offsets, bias, mask,
            kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride],
        )  # fmt: skip

    operator = torch.ops.glip.deformable_map.default
    with _quiet():
        try:
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                custom_translation_table={operator: deformable},
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # of many kinds: whatever torch or a backbone of timm raises
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ExportError(
                f"torch cannot turn this model into an ONNX graph ({path.stem}): {reason[0]}"
            ) from error
    assert program is not None
    program.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def halve_weights(path: Path) -> None:
    """Store the weights of a graph in float16; a runtime turns them back when it loads them.

    Half the size on disk, and sums as before: processors without float16 lose no time.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = onnx.load(path)
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or numpy_helper.to_array(tensor).size < 256:
            continue
        name, halved = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(halved, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.graph.node.insert(0, cast)
    onnx.save(graph, path)
