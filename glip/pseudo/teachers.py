"""A teacher from weights on this machine, of whichever kind they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from glip.choices import DType
from glip.detector import Detector, load
from glip.jobs.batches import Pace
from glip.model_files import find_model, model_sha256
from glip.pixels import Prepared
from glip.pseudo.teacher import BoxConfig, Teacher
from glip.structures import Detections
from glip.text.prompt import Prompt


def load_teacher(
    source: str | None, *, device: str | torch.device | None = None, dtype: DType = "float32"
) -> Teacher:
    """A teacher from weights.

    Args:
        source: As for `glip.load`: GLIP weights, an exported folder, or a zero-shot detector of
            transformers.
        device: By default a GPU if there is one.
        dtype: Number format of the model.
    Raises:
        CheckpointError: No such weights, or of a kind that finds no boxes for texts.
        DeviceError: The device is not on this machine.
    """
    path = find_model(source)
    detector = load(source if source is not None else path, device=device, dtype=dtype)
    return DetectorTeacher(detector, name=path.name, sha256=model_sha256(path))


class DetectorTeacher:
    """A detector. All captions of a picture share one look at it, where the model can do that.

    Args:
        detector: The model.
        name: Of its weights.
        sha256: Of them.
    """

    def __init__(self, detector: Detector, *, name: str, sha256: str) -> None:
        self._detector = detector
        self._identity = {
            "kind": detector.engine.kind,
            "name": name,
            "model": detector.config.name,
            "sha256": sha256,
            "dtype": str(detector.dtype).removeprefix("torch."),
        }

    @property
    def pace(self) -> Pace:
        """See `Detector.pace`."""
        return self._detector.pace

    def identity(self) -> dict[str, Any]:
        """Name, kind, SHA-256."""
        return dict(self._identity)

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase."""
        self._detector.engine.passes.check(prompt)

    def prepare(self, image: Image.Image) -> Prepared:
        """As the model takes it."""
        return self._detector.engine.prepare(image)

    def ground(
        self, pictures: Sequence[Prepared], prompts: Sequence[Sequence[Prompt]], boxes: BoxConfig
    ) -> list[list[Detections]]:
        """Boxes of the phrases of each caption."""
        return self._detector.detect(pictures, prompts, options=boxes.options())
