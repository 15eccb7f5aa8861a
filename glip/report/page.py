"""Pages for people to look at: HTML that needs no other file, so that it can be mailed.

Their style and their pieces are templates in `page.html`. Drawings are SVG, pictures JPEG inside
the page.
"""

from __future__ import annotations

import base64
import functools
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from glip.files import whole_file

CURVE_SIZE = (300, 130)  # pixels
MARGIN = 50  # left of a curve, for its marks, pixels
LONG_SIDE = 640  # of sample pictures, pixels


@functools.cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True).get_template("page.html")


def _piece(name: str, *values: Any) -> str:
    """A macro of the template, filled in."""
    return str(getattr(_template().module, name)(*values))


def write_page(path: str | os.PathLike[str], title: str, parts: Iterable[str]) -> None:
    """Write an HTML page that needs no other file, whole or not at all.

    Args:
        path: Of the file.
        title: Plain text.
        parts: HTML of the body below the title; run through once, written as they come.
    Raises:
        StorageError: the file cannot be written.
    """
    with whole_file(path) as file:
        file.writelines(_template().generate(title=title, parts=parts))


def picture(image: Image.Image, caption: str) -> str:
    """An HTML figure with the picture inside it.

    Args:
        image: Of any size; shown at most `LONG_SIDE` pixels long.
        caption: Plain text.
    """
    small = image.copy()
    small.thumbnail((LONG_SIDE, LONG_SIDE))
    return _piece("figure", jpeg_url(small), caption)


def curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    """An SVG figure of a line through (step, value) points, its least and greatest value marked."""
    width, height = CURVE_SIZE
    left, right = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)

    def place(step: float, value: float) -> tuple[str, str]:
        x = 0.5 if right == left else (step - left) / (right - left)
        y = 0.5 if high == low else (value - low) / (high - low)
        return f"{MARGIN + x * (width - MARGIN - 6):.1f}", f"{height - 6 - y * (height - 12):.1f}"

    line = " ".join(",".join(place(*point)) for point in points)
    text = f"{name}: {points[0][1]:.4g} to {points[-1][1]:.4g}, steps {left:g} to {right:g}"
    marks = [("6", "14", f"{high:.4g}"), ("6", str(height - 6), f"{low:.4g}")]
    return _piece("curve", CURVE_SIZE, line, place(*points[-1]), marks, text)


def html_table(rows: Mapping[str, Any]) -> str:
    """An HTML table of names and values, both plain text."""
    return _piece("table", rows.items())


def html_grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """An HTML table with a header; all cells plain text, those behind the first `texts` numbers."""
    return _piece("grid", header, rows, texts)


def html_matrix(down: Sequence[str], across: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """An HTML table of counts by two names, darker where they are a larger share of their row."""
    cells = [[(count, count / max(1, sum(row))) for count in row] for row in counts]
    return _piece("matrix", across, list(zip(down, cells, strict=True)))


def html_note(text: str) -> str:
    """A line of small print, plain text."""
    return _piece("note", text)


def html_side_by_side(*parts: str) -> str:
    """HTML pieces beside one another where there is room."""
    return f'<div class="charts">{"".join(parts)}</div>'


def per_cent(value: float | None) -> str:
    """A share in per cent, "-" for one that is not known."""
    return "-" if value is None else f"{100 * value:.1f}"


def jpeg_url(image: Image.Image, quality: int = 85) -> str:
    """The picture as an address that holds all of it."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
