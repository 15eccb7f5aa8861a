"""The same for CVAT's command line, with no nuclio at all:

cvat-cli --server-host https://cvat.example task auto-annotate 137 \
    --function-file deploy/cvat/auto_annotation.py \
    -p url=str:http://localhost:8000 -p classes=str:"person,traffic light"
"""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.request
from typing import Any

import cvat_sdk.auto_annotation as cvataa
from PIL import Image


class Glip:
    """A function for cvat_sdk: the names are the labels."""

    def __init__(self, url: str, classes: str) -> None:
        self._url = url.rstrip("/") + "/v1/detect"
        self._names = [name.strip() for name in classes.split(",")]

    @property
    def spec(self) -> Any:
        """The labels that it gives."""
        labels = [
            cvataa.label_spec(name, number, type="rectangle")
            for number, name in enumerate(self._names)
        ]
        return cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Rectangles for a picture."""
        content = io.BytesIO()
        image.convert("RGB").save(content, format="PNG", compress_level=1)
        question: dict[str, Any] = {
            "image": base64.b64encode(content.getvalue()).decode(),
            "classes": self._names,
        }
        if context.conf_threshold is not None:
            question["threshold"] = context.conf_threshold
        headers = {"Content-Type": "application/json"}
        headers["X-API-Key"] = os.environ.get("GLIP_API_KEY", "")
        request = urllib.request.Request(self._url, json.dumps(question).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["detections"]
        return [cvataa.rectangle(self._names.index(one["phrase"]), one["box"]) for one in found]


def create(url: str = "http://localhost:8000", classes: str = "person") -> Glip:
    """What cvat-cli calls with the parameters of its command line."""
    return Glip(url, classes)
