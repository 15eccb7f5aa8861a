"""A detector -> a folder that runs without torch, its words still a run-time input.

    weights -> graphs for any size and prompt -> (8 bits | float16) -> (OpenVINO) -> glip.json

The folder is written under another name and takes its own when all of it is there. What it holds is
said in `glip.runtime.manifest`; `glip.load(folder)` runs it.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import SupportsIndex, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from glip.choices import ExportDType, Runtime
from glip.detector import Detector
from glip.errors import ExportError, PromptError, listed, shown
from glip.exporting.onnx_graphs import halve_weights, write_onnx
from glip.exporting.openvino_graphs import write_openvino
from glip.exporting.quantise import quantise_image_encoder, quantise_text_encoder
from glip.exporting.web import find_ort, write_page
from glip.files import whole_folder
from glip.images import list_images, load_image
from glip.model.glip import GLIP
from glip.model.text_encoder import Tokens
from glip.progress import Counter, Progress
from glip.runtime.manifest import (
    CARD,
    HEAD,
    IMAGE_ENCODER,
    TEXT_ENCODER,
    TOKENIZER,
    WORDS,
    Manifest,
    is_exported,
    write_manifest,
)
from glip.runtime.pictures import padded, prepare
from glip.task_prompt import TaskPrompt, save_prompt
from glip.text.prompt import Prompt
from glip.version import __version__

CALIBRATION_PICTURES = 64
"""Photos of which the ranges of 8-bit numbers are measured at most."""


def export(
    detector: Detector,
    out: str | os.PathLike[str],
    *,
    format: Runtime = "onnx",
    dtype: ExportDType = "float32",
    size_hw: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
    calibration: Iterable[Image.Image] = (),
    card: str | None = None,
    web: Path | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write a detector as graphs with pictures and words as inputs.

    Args:
        detector: float32, on the CPU. With a learned prompt (`Detector.with_prompt`), its words are
            baked in and there is no text encoder in the folder.
        out: The new folder; an exported one that stands there is replaced.
        format: What shall run it: "onnx" (ONNX Runtime) or "openvino".
        dtype: How weights are stored. "float16" halves the files and changes hardly any score;
            "int8" computes the image encoder's convolutions in 8 bits.
        size_hw: Height and width in pixels of the tensor that goes in, multiples of 32: each
            picture is then fitted into it. By default pictures keep their shape, and any will do.
        classes: Names to bake in: the folder answers these and no others, and needs no text
            encoder. They must fit one prompt.
        calibration: Upright RGB photos like those to come, for "int8"; some dozens.
        card: What the weights are and may be used for; goes into the folder as it is.
        web: The npm package onnxruntime-web, unpacked: the folder is then a page too, see
            `glip.exporting.web`.
        progress: Told of each part of the work.
    Raises:
        ExportError: An option out of range, a package is missing, or the folder is something else.
        PromptError: The classes need more than one prompt, or the text encoder cannot read one.
        StorageError: The folder cannot be written.
    """
    out = Path(out)
    photos = list(calibration)
    _check(detector, out, format, dtype, photos)
    size_hw = None if size_hw is None else _sides(size_hw)
    ort = None if web is None else _page_parts(web, format)
    task = detector.task
    if classes is not None:
        task = _baked(detector, classes)
        detector = detector.with_prompt(task)
    manifest = Manifest(
        model=detector.config,
        runtime=format,
        dtype=dtype,
        fingerprint=detector.fingerprint,
        version=__version__,
        size_hw=size_hw,
        baked=task is not None,
    )
    steps = len(manifest.graphs) + (dtype == "int8") + (format == "openvino")
    done = Counter(progress, "export", steps, unit="step").add
    pictures = _pixels(detector, photos[:CALIBRATION_PICTURES], size_hw)
    with whole_folder(out) as folder:
        _write_graphs(detector.model, folder, manifest, pictures, done)
        (folder / TOKENIZER).write_text(detector.tokenizer.to_json(), encoding="utf-8")
        if task is not None:
            save_prompt(folder / WORDS, task)
        if card is not None:
            (folder / CARD).write_text(card, encoding="utf-8")
        if ort is not None:
            write_page(folder, manifest, ort)
        write_manifest(folder, manifest)
    return manifest


def _write_graphs(
    model: GLIP,
    folder: Path,
    manifest: Manifest,
    pictures: Iterator[npt.NDArray[np.float32]],
    done: Callable[[], object],
) -> None:
    """The graphs, in the numbers and for the runtime that the manifest names."""
    names = write_onnx(model, folder, size_hw=manifest.size_hw, done=done)
    if manifest.dtype == "int8":
        _quantise(folder, names, pictures)
        done()
    elif manifest.dtype == "float16" and manifest.runtime == "onnx":
        for name in names:
            halve_weights(folder / f"{name}.onnx")
    if manifest.runtime == "openvino":
        write_openvino(folder, names, half=manifest.dtype != "float32")
        done()


def calibration_photos(folder: Path) -> Iterator[Image.Image]:
    """Photos of a folder for 8-bit numbers, spread evenly over it.

    Raises:
        ImageError: It holds none, or one that cannot be read.
    """
    paths = list_images(folder)
    step = max(1, len(paths) // CALIBRATION_PICTURES)
    return (load_image(path) for path in paths[::step][:CALIBRATION_PICTURES])


def _check(
    detector: Detector,
    out: Path,
    format: Runtime,
    dtype: ExportDType,
    photos: Sequence[Image.Image],
) -> None:
    for name, value, choices in (("format", format, Runtime), ("dtype", dtype, ExportDType)):
        if value not in get_args(choices):
            raise ExportError(f"{name} {value!r} is not one of {', '.join(get_args(choices))}")
    _ = detector.model  # an exported one has none, and says so
    if str(detector.device) != "cpu" or detector.dtype != torch.float32:
        raise ExportError(
            f"the detector is in {detector.dtype} on {detector.device}; load it with "
            "device='cpu', dtype='float32' to export it"
        )
    if dtype == "int8" and not photos:
        raise ExportError(
            "int8 needs photos to measure on: name a folder of some dozens like those to come "
            "(--calibration)"
        )
    if (
        os.path.exists(out)
        and not is_exported(out)
        and (not os.path.isdir(out) or any(out.iterdir()))
    ):
        raise ExportError(f"{out} is there and is no exported model; choose another name")


def _sides(size_hw: Sequence[SupportsIndex]) -> tuple[int, int]:
    """Height and width as integers of Python, also of what numpy counted."""
    try:
        height, width = map(operator.index, size_hw)
    except (TypeError, ValueError) as error:
        raise ExportError(f"size must be (height, width) in pixels, got {size_hw!r}") from error
    nearest = max(32, round(height / 32) * 32), max(32, round(width / 32) * 32)
    if nearest != (height, width):
        raise ExportError(
            f"size {height}x{width} (height x width) must be multiples of 32; "
            f"the nearest is {nearest[0]}x{nearest[1]}"
        )
    return nearest


def _page_parts(package: Path, format: Runtime) -> dict[str, Path]:
    if format != "onnx":
        raise ExportError(f"a page runs graphs for ONNX Runtime, format is {format!r}")
    return find_ort(package)


def _baked(detector: Detector, classes: Sequence[str]) -> TaskPrompt:
    """The words of some classes as the text encoder says them, as a learned prompt of no learning.

    Raises:
        PromptError: No name, one that cannot be read, or more than one prompt holds.
        ExportError: The detector answers a learned prompt.
    """
    if detector.task is not None:
        raise ExportError("a learned prompt has its classes already; leave `classes` out")
    prompt = Prompt.from_classes(list(classes))
    passes = detector.torch_engine.passes.of(prompt)
    read = {row for part in passes for row in part.rows}
    if strange := [shown(name) for row, name in enumerate(prompt.names) if row not in read]:
        raise PromptError(
            f"the text encoder cannot read {listed(strange, 5)}, and so nothing would be found for "
            "that; leave it out, or use words of the language it was trained on"
        )
    if len(passes) != 1:
        raise PromptError(
            f"{len(classes)} names need {len(passes)} prompts of {detector.config.text.max_tokens} "
            "tokens, one can be baked in; export with the text encoder, which takes any number"
        )
    (part,) = passes
    tokens = Tokens.pad([part.token_ids], detector.tokenizer.pad_id)
    with torch.inference_mode():
        states = detector.model.encode_text(tokens).states[0].numpy()
    order = np.argsort(part.rows)
    return TaskPrompt(
        prompt=prompt,
        token_ids=part.token_ids,
        token_map=part.token_map[order],
        states=states,
        offsets=np.zeros_like(states),
        base=detector.config.name,
        fingerprint=detector.fingerprint,
    )


def _pixels(
    detector: Detector, photos: Sequence[Image.Image], size_hw: tuple[int, int] | None
) -> Iterator[npt.NDArray[np.float32]]:
    """(1, 3, H, W) of each photo as the graphs will see it."""
    for photo in photos:
        yield padded([prepare(photo, detector.config.pixels, size_hw)], size_hw)


def _quantise(
    folder: Path, names: Sequence[str], pictures: Iterable[npt.NDArray[np.float32]]
) -> None:
    quantise_image_encoder(folder / f"{IMAGE_ENCODER}.onnx", pictures)
    if TEXT_ENCODER in names:
        quantise_text_encoder(folder / f"{TEXT_ENCODER}.onnx")
    halve_weights(folder / f"{HEAD}.onnx")
