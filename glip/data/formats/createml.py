"""CreateML: one JSON list of pictures, boxes by centre and size in pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from glip.data.formats.content import checked
from glip.data.formats.entries import Entry, Request, Shape, annotated
from glip.data.records import Annotated


class _Coordinates(msgspec.Struct):
    x: float
    y: float
    width: float
    height: float


class _Box(msgspec.Struct):
    label: str
    coordinates: _Coordinates


class _Picture(msgspec.Struct):
    """A picture; newer versions call it `imagefilename` and its boxes `annotation`."""

    image: str = ""
    imagefilename: str = ""
    annotations: list[_Box] = msgspec.field(default_factory=list)
    annotation: list[_Box] = msgspec.field(default_factory=list)


def is_createml(content: Any) -> bool:
    """Whether the list of a JSON file holds such pictures."""
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        return False
    first = content[0]
    boxes = first.get("annotations", first.get("annotation"))
    return isinstance(boxes, list) and ("image" in first or "imagefilename" in first)


def read_createml(request: Request) -> Annotated:
    """Read such a file."""
    entries = []
    for number, item in enumerate(request.content):
        where = f"{request.path}: picture number {number}"
        try:
            picture = checked(item, _Picture)
        except ValueError as error:
            request.faults.count("images")
            request.faults.add("image fields", f"{where}: {error}")
            continue
        boxes = picture.annotations or picture.annotation
        shapes = [_shape(box) for box in boxes]
        entries.append(Entry(picture.image or picture.imagefilename, shapes, where=where))
    request.faults.close_if_nothing(entries)
    return annotated(request, entries)


def _shape(box: _Box) -> Shape:
    at = box.coordinates
    across, down = abs(at.width) / 2, abs(at.height) / 2
    return Shape(box.label.strip(), [(at.x - across, at.y - down), (at.x + across, at.y + down)])
