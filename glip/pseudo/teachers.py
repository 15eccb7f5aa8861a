"""A teacher from weights on this machine, of whichever kind they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from glip.checkpoint import file_sha256, find
from glip.choices import DType
from glip.detector import Detector, load
from glip.pixels import Prepared
from glip.pseudo.teacher import BoxConfig, Teacher
from glip.pseudo.transformers_teacher import TransformersTeacher
from glip.structures import Detections
from glip.text.prompt import Prompt


def load_teacher(
    source: str | None, *, device: str | torch.device | None = None, dtype: DType = "float32"
) -> Teacher:
    """A teacher from weights on this machine.

    Args:
        source: GLIP weights, a file or name as for `glip.load`; or a folder with a zero-shot
            detector as `save_pretrained` of transformers writes it.
        device: By default a GPU if there is one.
        dtype: Number format of the model.
    Raises:
        CheckpointError: No such weights, or of a kind that finds no boxes for texts.
        DeviceError: The device is not on this machine.
    """
    if source is not None and (Path(source) / "config.json").is_file():
        return TransformersTeacher(Path(source), device=device, dtype=dtype)
    path = find(source)
    detector = load(path, device=device, dtype=dtype)
    return GlipTeacher(detector, name=path.name, sha256=file_sha256(path))


class GlipTeacher:
    """GLIP. All captions of a picture share one pass of the backbone.

    Args:
        detector: The model.
        name: Of its weights.
        sha256: Of their file.
    """

    def __init__(self, detector: Detector, *, name: str, sha256: str) -> None:
        self._detector = detector
        self._identity = {
            "kind": "glip",
            "name": name,
            "model": detector.config.name,
            "sha256": sha256,
            "dtype": str(detector.dtype).removeprefix("torch."),
        }

    def identity(self) -> dict[str, Any]:
        """Name, kind, SHA-256."""
        return dict(self._identity)

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase."""
        prompt.passes(self._detector.tokenizer, self._detector.config.text.max_tokens)

    def prepare(self, image: Image.Image) -> Prepared:
        """Resized and normalised."""
        return self._detector.prepare(image)

    def ground(
        self, pictures: Sequence[Prepared], prompts: Sequence[Sequence[Prompt]], boxes: BoxConfig
    ) -> list[list[Detections]]:
        """Boxes of the phrases of each caption."""
        return self._detector.detect(pictures, prompts, options=boxes.options("mean"))
