"""CSV tables of boxes, a line each, as TensorFlow's examples, Roboflow and RetinaNet have them.

With a line of names: a picture, a class, and xmin, ymin, xmax, ymax (or x, y, width, height) in
pixels. Without one: picture, x1, y1, x2, y2, class, and a picture alone where nothing is on it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from glip.data.faults import Faults
from glip.data.formats.content import is_coordinate, read_text
from glip.data.formats.entries import Entry, Request, Shape, annotated, whole_size
from glip.data.records import Annotated
from glip.errors import DataError

PICTURE = ("filename", "file_name", "image", "image_name", "image_path", "path", "img", "name")
CLASS = ("class", "label", "class_name", "category", "label_name")
CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
SIDES = (("bbox_x", "bbox_y", "bbox_width", "bbox_height"), ("x", "y", "width", "height"))
"""Corner and size; a `width` beside corners is that of the picture."""
PLAIN = ("path", "x1", "y1", "x2", "y2", "class")
"""The cells of a table without a line of names."""


def read_table(request: Request) -> Annotated:
    """Read such a table, or the only one of a folder.

    Raises:
        DataError: its columns say nothing of boxes.
    """
    path, faults = request.path, request.faults
    rows = _rows(path, faults)
    if not rows:
        raise DataError(f"{path} has no lines")
    columns, named = _columns(path, rows[0][1])
    found: dict[str, list[Shape]] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
    for number, cells in rows[named:]:
        name, shape, size = _read(cells, columns)
        empty = name and shape is None and not any(cell.strip() for cell in cells[1:])
        if not name or (shape is None and not empty):
            faults.add("lines", f"{path}:{number} has no picture, class or box: {cells!s:.100}")
            continue
        found.setdefault(name, []).extend([] if shape is None else [shape])
        sizes.setdefault(name, size)
    faults.close_if_nothing(found)
    entries = [Entry(name, shapes, sizes[name]) for name, shapes in found.items()]
    return annotated(request, entries)


def _rows(path: Path, faults: Faults) -> list[tuple[int, list[str]]]:
    """Lines with their numbers; each line is a row of its own, so that a quotation mark that
    nobody closes spoils one line and not the rest of the file.
    """
    rows = []
    lines = read_text(path).splitlines()
    comma = max(",;\t", key=lines[0].count) if lines else ","
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        faults.count("lines")
        try:
            rows.append((number, next(csv.reader(io.StringIO(line), delimiter=comma, strict=True))))
        except csv.Error as error:
            faults.add("lines", f"{path}:{number}: {error}")
    return rows


def _columns(path: Path, cells: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Name -> place of each column, and whether the first line holds the names.

    Raises:
        DataError: they say nothing of boxes.
    """
    first = [cell.strip().lower() for cell in cells]
    columns = {name: place for place, name in reversed(list(enumerate(first)))}
    if _known(columns):
        return columns, True
    if _is_plain(cells):
        return {name: place for place, name in enumerate(PLAIN)}, False
    raise DataError(
        f"{path} has the columns {', '.join(first)[:200]}; boxes need a picture "
        f"({', '.join(PICTURE[:3])}), a class ({', '.join(CLASS[:2])}) and "
        f"{', '.join(CORNERS[0])} in pixels"
    )


def _known(columns: Mapping[str, int]) -> bool:
    """Whether a line of names has all that is needed."""
    return (
        any(name in columns for name in PICTURE)
        and any(name in columns for name in CLASS)
        and bool(_present(columns, (*CORNERS, *SIDES)))
    )


def _is_plain(cells: Sequence[str]) -> bool:
    return len(cells) == len(PLAIN) and all(_number(cell) is not None for cell in cells[1:5])


def _read(
    cells: Sequence[str], columns: Mapping[str, int]
) -> tuple[str, Shape | None, tuple[int, int] | None]:
    """Picture, shape and (height, width) of a line, as far as it has them."""
    values = {name: cells[place].strip() for name, place in columns.items() if place < len(cells)}
    corners = _present(columns, CORNERS)
    keys = corners or _present(columns, SIDES)
    numbers = [_number(values.get(key, "")) for key in keys]
    known = [number for number in numbers if number is not None]
    size = whole_size(values.get("width"), values.get("height")) if corners else None
    name, label = _first(values, PICTURE), _first(values, CLASS)
    if not label or len(known) != 4:
        return name, None, size
    a, b, c, d = known
    return name, Shape(label, [(a, b), (c, d) if corners else (a + c, b + d)]), size


def _present(columns: Mapping[str, int], choices: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first of several sets of columns that is there."""
    return next((keys for keys in choices if all(key in columns for key in keys)), ())


def _first(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """The first of several cells that is not blank."""
    return next((values[key] for key in keys if values.get(key)), "")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_coordinate(value) else None
