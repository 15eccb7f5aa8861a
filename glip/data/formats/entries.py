"""What the readers of box formats have in common: shapes of a picture -> records.

A reader says what its file calls a picture and which shapes are in it, in pixels or in shares of
the picture. Here the picture is found, its size asked where the file does not say it, polygons and
turned boxes become upright boxes, and what cannot be used is counted. Knows no format. Letters: N
boxes of one picture.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from glip.choices import Split
from glip.data.faults import Faults
from glip.data.formats.content import is_coordinate
from glip.data.matching import match_names, pictures_for
from glip.data.packed import Packed
from glip.data.pictures import Pictures
from glip.data.records import Annotated, DetectionData, DetectionRecord
from glip.errors import DataError, ImageError
from glip.text.characters import composed

Point = tuple[float, float]
Box = tuple[float, float, float, float]

SAMPLE = 10
"""Names by which the place of the pictures is found."""


@dataclass(frozen=True)
class Request:
    """What a reader is asked for."""

    path: Path
    faults: Faults
    images: Path | None = None
    """Folder or tar of the pictures; None: beside the annotations."""
    split: Split | None = None
    """Part of a data set that has several; None: all of it."""
    classes: tuple[str, ...] | None = None
    """Order of the classes, for formats that have none of their own."""
    label_map: Path | None = None
    """Names of numbered classes, where they are not beside the annotations."""
    content: Any = None
    """Of a JSON file, which was read to recognise it."""


class Shape(NamedTuple):
    """Something that is drawn on a picture."""

    label: Hashable
    """A class, as the file refers to it."""
    points: Sequence[Point]
    """Corners x, y of a polygon, or two opposite ones of a box."""
    crowd: bool = False
    degrees: float = 0.0
    """By which a box of two corners is turned clockwise."""
    pivot: Point | None = None
    """Of the turn; None: its middle."""


@dataclass(frozen=True)
class Entry:
    """What a file says of one picture."""

    name: str
    """As the file calls it."""
    shapes: Sequence[Shape]
    size: tuple[int, int] | None = None
    """Height and width, pixels; None: the file does not say."""
    shares: bool = False
    """Whether points are shares of the picture and not pixels."""
    also: tuple[str, ...] = ()
    """Other names the picture may have."""
    where: str = ""
    """File and place, for messages; by default the name."""


def annotated(
    request: Request,
    entries: Sequence[Entry],
    *,
    classes: Mapping[Any, str] | None = None,
    pictures: Pictures | None = None,
    clip: bool = False,
) -> Annotated:
    """Entries of a file as records, together with their pictures.

    Args:
        request: What was asked for.
        entries: Of all pictures.
        classes: What shapes refer to -> class name, in order, where the file has a list; else
            the names are in the order that was asked for, and others behind it by alphabet.
        pictures: Where they are, if the reader knows.
        clip: Cut boxes at the border of their picture, as their tool does.
    Raises:
        DataError: There is no picture at all.
    """
    faults = request.faults
    if not entries:
        raise DataError(f"{request.path} has no picture with labels")
    if pictures is None:
        some = [name for entry in entries[:SAMPLE] for name in (entry.name, *entry.also)]
        pictures = pictures_for(request.path, request.images, some)
    if classes is None:
        classes = _order(request, entries)
    classes = {_label(label): name for label, name in classes.items()}
    rows = {label: row for row, label in enumerate(classes)}
    found = match_names(pictures, {entry.name: entry.also for entry in entries}, faults)
    faults.count("images", len(entries))
    faults.count("boxes", sum(len(entry.shapes) for entry in entries))
    records = (
        _record(number, name, size, list(_boxes(entry, size, rows, faults, clip=clip)))
        for number, (entry, name, size) in enumerate(
            _placed(request, entries, found, pictures), start=1
        )
    )
    numbers = [key if isinstance(key, int) else row for row, key in enumerate(classes, start=1)]
    data = DetectionData(request.path, tuple(classes.values()), tuple(numbers), Packed(records))
    return Annotated(data, pictures, faults)


def upright(shape: Shape, image_hw: tuple[int, int] | None = None) -> Box | None:
    """The box xyxy around a shape; None if a point is none of any picture.

    Args:
        shape: To look at.
        image_hw: Height and width of its picture where points are shares of it; the box is in
            pixels.
    """
    height, width = image_hw or (1, 1)
    points = [(x * width, y * height) for x, y in shape.points]
    if not math.isfinite(shape.degrees):
        return None
    if shape.degrees:
        (x1, y1), (x2, y2) = points
        pivot = shape.pivot and (shape.pivot[0] * width, shape.pivot[1] * height)
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        points = turned(corners, shape.degrees, pivot or ((x1 + x2) / 2, (y1 + y2) / 2))
    if not points or not all(is_coordinate(value) for point in points for value in point):
        return None
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def turned(points: Iterable[Point], degrees: float, pivot: Point) -> list[Point]:
    """Points turned clockwise about another one, y pointing down."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    away = [(x - pivot[0], y - pivot[1]) for x, y in points]
    return [(pivot[0] + x * cosine - y * sine, pivot[1] + x * sine + y * cosine) for x, y in away]


def clipped(box: Box, image_hw: tuple[int, int]) -> Box:
    """The part of a box inside its picture, in thousandths of a pixel."""
    height, width = image_hw
    x1, y1, x2, y2 = box
    return (
        round(min(max(x1, 0), width), 3),
        round(min(max(y1, 0), height), 3),
        round(min(max(x2, 0), width), 3),
        round(min(max(y2, 0), height), 3),
    )


def whole_size(width: Any, height: Any) -> tuple[int, int] | None:
    """Height and width as a file says them, None where it does not, as by 0, -1 or nothing."""
    try:
        size = round(float(height)), round(float(width))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def picture_size(name: str, pictures: Pictures, faults: Faults) -> tuple[int, int] | None:
    """Height and width of a picture, from its header; None and a fault if it has none."""
    try:
        return pictures.size_hw(name)
    except ImageError as error:
        faults.add("unreadable pictures", str(error))
        return None


def _placed(
    request: Request, entries: Iterable[Entry], found: Mapping[str, str], pictures: Pictures
) -> Iterator[tuple[Entry, str, tuple[int, int]]]:
    """Entries whose picture is there, with its name, height and width; each picture once."""
    faults = request.faults
    seen: set[str] = set()
    for entry in entries:
        where = entry.where or request.path
        name = found.get(entry.name)
        if name is None:
            faults.add("missing pictures", f"{where}: {entry.name}")
        elif name in seen:
            faults.add("pictures twice", f"{where}: {name}")
        elif (size := entry.size or picture_size(name, pictures, faults)) is not None:
            seen.add(name)
            yield entry, name, size


def _order(request: Request, entries: Iterable[Entry]) -> dict[Hashable, str]:
    """The classes of a file that has no list of them: as asked for, then by alphabet."""
    there = {composed(str(shape.label)) for entry in entries for shape in entry.shapes}
    known = tuple(map(composed, request.classes or ()))
    if request.classes is None and len(there) > 1:
        request.faults.note("has no list of classes, so they are in the order of the alphabet")
    return {name: name for name in (*known, *sorted(there.difference(known)))}


def _boxes(
    entry: Entry,
    size: tuple[int, int],
    rows: Mapping[Hashable, int],
    faults: Faults,
    *,
    clip: bool,
) -> Iterator[tuple[Box, int, bool]]:
    """Box, class row and whether it is a crowd, of the shapes that can be used."""
    where = entry.where or entry.name
    for shape in entry.shapes:
        box = upright(shape, size if entry.shares else None)
        if box is None:
            faults.add("no boxes", f"{where}: {list(shape.points)[:4]}")
        elif (label := _label(shape.label)) not in rows:
            faults.add("unknown categories", f"{where}: class {shape.label} is not in the list")
        else:
            yield clipped(box, size) if clip else box, rows[label], shape.crowd


def _label(label: Hashable) -> Hashable:
    """A class as the file refers to it, by name in whichever Unicode form."""
    return composed(label) if isinstance(label, str) else label


def _record(
    number: int, name: str, size: tuple[int, int], kept: Sequence[tuple[Box, int, bool]]
) -> DetectionRecord:
    boxes: npt.NDArray[np.float64] = np.array([box for box, _, _ in kept], dtype=np.float64)
    return DetectionRecord(
        image_id=number,
        file_name=name,
        image_hw=size,
        boxes=boxes.reshape(-1, 4),
        labels=np.array([row for _, row, _ in kept], dtype=np.int64),
        crowd=np.array([crowd for _, _, crowd in kept], dtype=np.bool_),
    )
