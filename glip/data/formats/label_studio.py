"""Label Studio: tasks with corners and sizes in per cent, to be annotated or annotated.

Reads its JSON, JSON-MIN, and what versions before 1.0 wrote ("completions").
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from glip.data.faults import Faults
from glip.data.formats.content import checked
from glip.data.formats.entries import Entry, Point, Request, Shape, annotated, whole_size
from glip.data.formats.layout import (
    LABEL_STUDIO_PREFIX,
    DataSet,
    XmlFile,
    place_all,
    text_file,
    write_array,
)
from glip.data.labels import Labelled
from glip.data.pictures import PICTURE_SUFFIXES
from glip.data.records import Annotated
from glip.errors import DataError

LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "keypointlabels", "labels")
"""Where a result has its classes, by its type."""


def is_label_studio(content: Any) -> bool:
    """Whether the list of a JSON file holds tasks."""
    if not isinstance(content, list) or not content:
        return False
    first = content[0]
    if not isinstance(first, Mapping):
        return False
    if {"annotations", "completions", "predictions"} & first.keys() and "data" in first:
        return True
    return any(isinstance(value, list) and any(map(_is_result, value)) for value in first.values())


def read_label_studio(request: Request) -> Annotated:
    """Read the tasks that somebody has annotated; the log says how many nobody has.

    Shapes other than boxes count as the boxes around them.
    """
    path, faults = request.path, request.faults
    entries = []
    for number, task in enumerate(request.content):
        try:
            entry = _entry(task, number, path, faults)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            faults.count("images")
            faults.add("image fields", f"{_called(task, number, path)}: {error}")
            continue
        if entry is None:
            faults.note("tasks that nobody has annotated are left out")
        else:
            entries.append(entry)
    if not entries and not faults.counts:
        raise DataError(f"{path} has no picture that anybody has looked at")
    faults.close_if_nothing(entries)
    return annotated(request, entries, clip=True)


def _called(task: Any, number: int, path: Path) -> str:
    shown = task.get("id", number) if isinstance(task, Mapping) else number
    return f"{path}: task {shown!s:.40}"


def _entry(task: Any, number: int, path: Path, faults: Faults) -> Entry | None:
    """The picture of a task, None if nobody has annotated it.

    Raises:
        ValueError: it is not as Label Studio exports it.
    """
    where = _called(task, number, path)
    if not isinstance(task, Mapping):
        raise DataError("is no object")
    results = _results(task)
    if results is None:
        return None
    sizes = [whole_size(r.get("original_width"), r.get("original_height")) for r in results]
    size = next((size for size in sizes if size is not None), None)
    if any(result.get("image_rotation") for result in results):
        faults.note("pictures were turned in Label Studio; boxes are taken as on the unturned one")
    data = task.get("data", task)
    address = _address(data)
    shapes = list(_shapes(results, where, faults))
    name = str(data.get("file_name") or address)
    return Entry(name, shapes, size, shares=True, also=(address,), where=where)


def _results(task: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """What the last person who submitted a task left there; None if nobody has."""
    for key in ("annotations", "completions"):
        if key in task:
            submitted = [one for one in task[key] if not one.get("was_cancelled")]
            if not submitted:
                return None
            newest = max(submitted, key=lambda one: str(one.get("updated_at", "")))
            return [result for result in newest["result"] if isinstance(result, Mapping)]
    if "predictions" in task:  # a task as it was made
        return None
    # JSON-MIN: results under the name that the labelling set-up gives them, none if there are none.
    lists = [value for value in task.values() if isinstance(value, list)]
    return [result for value in lists for result in value if isinstance(result, Mapping)]


def _is_result(value: Any) -> bool:
    return isinstance(value, Mapping) and any(key in value for key in LABELS)


def _address(data: Mapping[str, Any]) -> str:
    """Where the picture of a task is, whatever the set-up calls it."""
    words = {key: value for key, value in data.items() if isinstance(value, str)}
    if "image" in words:
        return words["image"]
    for value in words.values():
        if any(suffix in value.lower() for suffix in PICTURE_SUFFIXES):
            return value
    raise DataError(f"no value of {', '.join(data) or 'its data'} is the address of a picture")


def _shapes(results: Sequence[Mapping[str, Any]], where: str, faults: Faults) -> Iterator[Shape]:
    """The shapes of a task; some set-ups give a shape and its classes as two results of one id."""
    classes: dict[Any, list[str]] = {}
    for result in results:
        value = result.get("value", result)
        if labels := _classes(value):
            classes.setdefault(str(result.get("id", id(result))), []).extend(labels)
    seen: set[str] = set()
    for result in results:
        value = result.get("value", result)
        key = str(result.get("id", id(result)))
        points = _points(value)
        if points is None:
            if _classes(value) or "brushlabels" in value:
                faults.count("boxes")
                faults.add("no boxes", f"{where}: a result lacks or has a wrong corner")
        elif key in classes and key not in seen:
            seen.add(key)
            if "width" not in value:
                faults.note("shapes that are no boxes count as the boxes around them")
            turn = checked(value.get("rotation", 0), float)
            yield from (_turned(label, points, turn) for label in classes[key])


def _classes(value: Mapping[str, Any]) -> list[str]:
    lists = (value[key] for key in LABELS if isinstance(value.get(key), list))
    found: list[Any] = next(lists, [])
    return [str(label) for label in found]


def _points(value: Mapping[str, Any]) -> list[Point] | None:
    """Corners of a box, a polygon or an ellipse in shares of the picture, None if it is none."""
    try:
        if "points" in value:
            pairs = checked(value["points"], list[tuple[float, float]])
            return [(x / 100, y / 100) for x, y in pairs] or None
        if "radiusX" in value:
            x, y, across, down = (_share(value, key) for key in ("x", "y", "radiusX", "radiusY"))
            return [(x - across, y - down), (x + across, y + down)]
        x, y, width, height = (_share(value, key) for key in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return None
    return [(x, y), (x + width, y + height)]


def _share(value: Mapping[str, Any], key: str) -> float:
    return checked(value[key], float) / 100


def _turned(label: str, points: list[Point], degrees: float) -> Shape:
    """A box turned about its corner, as Label Studio turns them."""
    if not degrees or len(points) != 2:
        return Shape(label, points)
    return Shape(label, points, degrees=degrees, pivot=points[0])


def write_label_studio(data: DataSet, folder: Path) -> None:
    """Write `tasks.json`, or one for each part, and `label_config.xml`."""
    with text_file(folder / "label_config.xml") as file:
        xml = XmlFile(file, declaration=False)  # Label Studio refuses one
        with xml.element("View"):
            xml.text("Image", name="image", value="$image")
            with xml.element("RectangleLabels", name="label", toName="image"):
                for row, name in enumerate(data.names):
                    xml.text("Label", value=name, background=_colour(row))
    for part in data.parts:
        with text_file(folder / f"{part or 'tasks'}.json") as file:
            write_array(file, (_task(data, picture) for picture in data.of(part)))
            file.write("\n")
    place_all(data, folder)


def _colour(row: int) -> str:
    """Of a class: hues a golden angle apart, so that neighbours differ however many there are."""
    parts = colorsys.hls_to_rgb(row * 0.618034 % 1, 0.5, 0.8)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _task(data: DataSet, picture: Labelled) -> dict[str, Any]:
    height, width = picture.image_hw
    results = []
    for number, label in enumerate(picture.labels):
        x1, y1, x2, y2 = label.box
        result: dict[str, Any] = {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": 100 * x1 / width,
                "y": 100 * y1 / height,
                "width": 100 * (x2 - x1) / width,
                "height": 100 * (y2 - y1) / height,
                "rotation": 0,
                "rectanglelabels": [label.name],
            },
        }
        if label.score is not None:
            result["score"] = label.score
        results.append(result)
    scores = [label.score for label in picture.labels if label.score is not None]
    prediction: dict[str, Any] = {"model_version": data.source, "result": results}
    if scores:
        prediction["score"] = min(scores)  # sorts the doubtful pictures to one end
    below = f"{data.root.resolve().name}/" if data.prefix == LABEL_STUDIO_PREFIX else ""
    address = data.prefix + quote(below + picture.picture)
    # `file_name` comes back with the corrections, whatever the address has become.
    return {"data": {"image": address, "file_name": picture.picture}, "predictions": [prediction]}
