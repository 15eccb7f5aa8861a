"""What an exported folder says of itself: `glip.json`, beside the graphs that it names.

    glip.json             this: model config, runtime, number format, sizes
    image_encoder.onnx    pixels -> five maps          (.xml and .bin for OpenVINO)
    text_encoder.onnx     token ids -> their states; not there if the words are baked in
    head.onnx             maps and states -> logits, deltas, centerness
    tokenizer.json        of the text encoder
    words.prompt.safetensors   the baked words, if any (`glip.task_prompt`)
    MODEL_CARD.md         what the weights are and may be used for, if they came with one

Knows nothing about how graphs are made or run.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from glip.choices import ExportDType, Runtime
from glip.config import ModelConfig
from glip.errors import CheckpointError, ConfigError
from glip.files import read_json, write_json
from glip.settings import from_dict

FILE = "glip.json"
FORMAT = 1
TOKENIZER = "tokenizer.json"
WORDS = "words.prompt.safetensors"
CARD = "MODEL_CARD.md"
IMAGE_ENCODER, TEXT_ENCODER, HEAD = "image_encoder", "text_encoder", "head"

SUFFIXES: dict[Runtime, str] = {"onnx": ".onnx", "openvino": ".xml"}


@dataclass(frozen=True)
class Manifest:
    """An exported model, less its numbers."""

    model: ModelConfig
    """What the graphs were made from; pixels and threshold are used, the rest is for people."""
    runtime: Runtime
    """What runs the graphs."""
    dtype: ExportDType
    """How weights are stored; sums are float32 but for the int8 products."""
    fingerprint: str
    """Of the weights, see `glip.checkpoint.fingerprint`."""
    version: str
    """Of the glip that wrote it."""
    size_hw: tuple[int, int] | None = None
    """Height and width of every picture that goes in, if they are fixed; multiples of 32."""
    baked: bool = False
    """Whether it answers the words of `words.prompt.safetensors` only."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ConfigError(f"it has format {self.format}, this version of glip reads {FORMAT}")
        for name, choices in (("runtime", Runtime), ("dtype", ExportDType)):
            if getattr(self, name) not in get_args(choices):
                raise ConfigError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(choices))}"
                )
        if self.size_hw is not None and any(side < 32 or side % 32 for side in self.size_hw):
            raise ConfigError(f"size {self.size_hw} must be multiples of 32 pixels")

    def graph(self, folder: Path, name: str) -> Path:
        """The file of one of the graphs."""
        return folder / f"{name}{SUFFIXES[self.runtime]}"

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that the folder has."""
        return (IMAGE_ENCODER, HEAD) if self.baked else (IMAGE_ENCODER, TEXT_ENCODER, HEAD)


def is_exported(path: Path) -> bool:
    """Whether a path is a folder that `glip export` wrote."""
    return os.path.isfile(path / FILE)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Into the folder; written last, it makes the folder a model.

    Raises:
        StorageError: It cannot be written.
    """
    write_json(folder / FILE, dataclasses.asdict(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Of a folder, whose files are then all there.

    Raises:
        CheckpointError: No such folder, damaged, of a newer version, or a file is missing.
    """
    path = folder / FILE
    try:
        content: Any = read_json(path)
        manifest = from_dict(Manifest, content, where=FILE)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} is no exported model: it has no {FILE}; 'glip export' writes one"
        ) from error
    except (OSError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; export the model again") from error
    needed = [manifest.graph(folder, name) for name in manifest.graphs]
    needed += [folder / TOKENIZER] + ([folder / WORDS] if manifest.baked else [])
    for file in needed:
        if not os.path.isfile(file):
            raise CheckpointError(f"{file} is missing; export the model again")
    return manifest
