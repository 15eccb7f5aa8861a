"""Data sets as trees of files, and what was read of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from glip.data.records import Annotated, DetectionData

Found = dict[str, list[tuple[str, tuple[float, ...]]]]

SIZE = (60, 40)
"""Width and height of every picture."""


def grow(root: Path, files: Mapping[str, Any]) -> Path:
    """Write files by name: pictures where the value is None, JSON of lists and objects, or text."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", SIZE, "grey").save(path, "PNG")
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def boxes_of(annotated: Annotated) -> Found:
    """Picture -> class names and boxes xyxy."""
    data = annotated.data
    assert isinstance(data, DetectionData)
    return {
        record.file_name: [
            (data.names[row], tuple(round(value, 3) for value in box))
            for row, box in zip(record.labels.tolist(), record.boxes.tolist(), strict=True)
        ]
        for record in data.records
    }


def coco(*names: str, **changes: Any) -> dict[str, Any]:
    """A COCO file with a cat in each picture; changes go into every annotation."""
    box = {"category_id": 1, "bbox": [1, 2, 30, 20]}
    return {
        "images": [
            {"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(names)
        ],
        "annotations": [{"id": n, "image_id": n, **box, **changes} for n in range(len(names))],
        "categories": [{"id": 1, "name": "cat"}],
    }


CAT = [("cat", (1.0, 2.0, 31.0, 22.0))]
"""What is in each of its pictures."""
