"""GLIP: boxes for words. `glip.load()` gives a detector, its `predict(image, prompt)` the boxes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glip.errors import GlipError
from glip.version import __version__

if TYPE_CHECKING:
    from glip.api import (
        doctor,
        evaluate,
        export,
        ground_captions,
        label,
        models,
        track,
        train,
        tune,
    )
    from glip.detector import Detector, load
    from glip.samples import copy_samples
    from glip.structures import Detections
    from glip.text.prompt import Prompt

__all__ = [
    "Detections",
    "Detector",
    "GlipError",
    "Prompt",
    "__version__",
    "copy_samples",
    "doctor",
    "evaluate",
    "export",
    "ground_captions",
    "label",
    "load",
    "models",
    "track",
    "train",
    "tune",
]

_HOMES = {
    "doctor": "glip.api",
    "evaluate": "glip.api",
    "export": "glip.api",
    "ground_captions": "glip.api",
    "label": "glip.api",
    "models": "glip.api",
    "track": "glip.api",
    "train": "glip.api",
    "tune": "glip.api",
    "Detections": "glip.structures",
    "Detector": "glip.detector",
    "Prompt": "glip.text.prompt",
    "copy_samples": "glip.samples",
    "load": "glip.detector",
}


def __getattr__(name: str) -> Any:
    """The names above on first use: importing torch takes seconds, and `glip --help` needs none."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glip' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
