"""GLIP: boxes for words. `glip.load()` gives a detector, its `predict(image, prompt)` the boxes."""

from glip.detector import Detector, load
from glip.errors import GlipError
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.version import __version__

__all__ = ["Detections", "Detector", "GlipError", "Prompt", "__version__", "load"]
