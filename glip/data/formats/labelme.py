"""LabelMe: a JSON file of polygons, boxes and circles beside each picture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from glip.data.formats.content import checked, read_json
from glip.data.formats.entries import Entry, Point, Request, Shape, annotated, whole_size
from glip.data.formats.layout import DataSet, flat_name, place_picture, text_file, unused_name
from glip.data.labels import Labelled
from glip.data.records import Annotated


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None


class _File(msgspec.Struct):
    """A picture and its shapes; `imageData`, the picture itself as text, is passed over."""

    shapes: list[_Shape]
    imagePath: str = ""
    imageHeight: float | None = None
    imageWidth: float | None = None


def is_labelme(content: Any) -> bool:
    """Whether the content of a JSON file is one of these."""
    return isinstance(content, Mapping) and "shapes" in content and "imagePath" in content


def json_files(path: Path) -> list[Path]:
    """The JSON files of a data set, or the one that was named, sub-folders with them."""
    return [path] if os.path.isfile(path) else sorted(path.rglob("*.json"))


def read_labelme(request: Request) -> Annotated:
    """Read the JSON files of a folder, or one of them."""
    path, faults = request.path, request.faults
    folder = path if os.path.isdir(path) else path.parent
    entries = []
    for file in json_files(path):
        faults.count("files")
        try:
            entries.append(_entry(file, folder))
        except ValueError as error:
            where = "" if str(file) in str(error) else f"{file}: "
            faults.add("files", f"{where}{error}")
    faults.close_if_nothing(entries)
    return annotated(request, entries)


def _entry(file: Path, folder: Path) -> Entry:
    """What one file says; its picture may also go by the name of the file itself.

    Raises:
        ValueError: it is no such file.
    """
    content = checked(read_json(file), _File)
    below = PurePosixPath(file.relative_to(folder).as_posix())
    named = PurePosixPath(content.imagePath.replace("\\", "/"))
    beside = str(below.with_name(named.name or below.stem))
    also = (str(named), str(below.with_suffix("")), below.stem)
    size = whole_size(content.imageWidth, content.imageHeight)
    shapes = [Shape(shape.label.strip(), _points(shape)) for shape in content.shapes]
    return Entry(beside, shapes, size, also=also, where=str(file))


def _points(shape: _Shape) -> list[Point]:
    """Of a circle, its box; else as they are."""
    if shape.shape_type != "circle" or len(shape.points) != 2:
        return list(shape.points)
    (x, y), (edge_x, edge_y) = shape.points
    radius = math.hypot(edge_x - x, edge_y - y)
    return [(x - radius, y - radius), (x + radius, y + radius)]


def write_labelme(data: DataSet, folder: Path) -> None:
    """Write a JSON file for each picture, beside it; parts have folders of their own."""
    for part in data.parts:
        place = folder / part if part else folder
        place.mkdir(exist_ok=True)
        for picture in data.of(part):
            name = unused_name(flat_name(picture.picture), lambda p: place / f"{p.stem}.json")  # noqa: B023
            with text_file(place / f"{name.stem}.json", mode="x") as file:
                json.dump(_content(picture, str(name)), file, ensure_ascii=False, indent=2)
            place_picture(data, picture.picture, place / name)


def _content(picture: Labelled, name: str) -> dict[str, Any]:
    height, width = picture.image_hw
    shapes: list[dict[str, Any]] = [
        {
            "label": label.name,
            "points": [list(label.box[:2]), list(label.box[2:])],
            "group_id": None,
            "description": "" if label.score is None else f"score {label.score:g}",
            "shape_type": "rectangle",
            "flags": {},
        }
        for label in picture.labels
    ]
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
