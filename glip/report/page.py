"""Pages for people to look at: HTML that needs no other file, so that it can be mailed.

The one home of their style. Drawings are SVG, pictures JPEG inside the page.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from glip.files import whole_file

CURVE_SIZE = (300, 130)  # pixels
MARGIN = 50  # left of a curve, for its marks, pixels
LONG_SIDE = 640  # of sample pictures, pixels

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em;
       color: #222; background: #fff; }
figure { display: inline-block; margin: 0 1em 1em 0; vertical-align: top; }
figcaption { font-size: 13px; color: #555; overflow-wrap: anywhere; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, 300px); gap: 1em; }
.curves figure { margin: 0; } svg text { font-size: 11px; fill: #777; }
.crops { display: flex; flex-wrap: wrap; gap: .6em; } .crops figure { margin: 0; width: 160px; }
.crops img { max-width: 100%; }
table { border-collapse: collapse; } td, th { padding: 2px 12px 2px 0; text-align: left; }
td:last-child, .number { text-align: right; font-variant-numeric: tabular-nums; }
td.text { text-align: left; } p.note { color: #555; margin: .3em 0; }
img { max-width: 460px; } pre { background: #f4f4f4; padding: 1em; overflow-x: auto; }
"""


def write_page(path: str | os.PathLike[str], title: str, parts: Iterable[str]) -> None:
    """Write an HTML page that needs no other file, whole or not at all.

    Args:
        path: Of the file.
        title: Plain text.
        parts: HTML of the body below the title; run through once, written as they come.
    Raises:
        StorageError: the file cannot be written.
    """
    heading = escape(title)
    with whole_file(path) as file:
        file.write(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{heading}</title><style>{_STYLE}</style></head>\n<body>\n<h1>{heading}</h1>\n"
        )
        file.writelines(f"{part}\n" for part in parts)
        file.write("</body></html>\n")


def picture(image: Image.Image, caption: str) -> str:
    """An HTML figure with the picture inside it.

    Args:
        image: Of any size; shown at most `LONG_SIDE` pixels long.
        caption: Plain text.
    """
    small = image.copy()
    small.thumbnail((LONG_SIDE, LONG_SIDE))
    return (
        f'<figure><img src="{jpeg_url(small)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    """An SVG figure of a line through (step, value) points, its least and greatest value marked."""
    width, height = CURVE_SIZE
    left, right = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)

    def place(step: float, value: float) -> str:
        x = 0.5 if right == left else (step - left) / (right - left)
        y = 0.5 if high == low else (value - low) / (high - low)
        return f"{MARGIN + x * (width - MARGIN - 6):.1f},{height - 6 - y * (height - 12):.1f}"

    line = " ".join(place(step, value) for step, value in points)
    x, y = place(*points[-1]).split(",")
    text = f"{escape(name)}: {points[0][1]:.4g} to {points[-1][1]:.4g}, steps {left:g} to {right:g}"
    ends = (("6", "14", high), ("6", str(height - 6), low))
    marks = "".join(f'<text x="{x}" y="{y}">{value:.4g}</text>' for x, y, value in ends)
    return (
        f'<figure><svg width="{width}" height="{height}" role="img" aria-label="{text}">'
        f'<rect width="{width}" height="{height}" fill="#f7f7f7"/>'
        f'<polyline fill="none" stroke="#0072b2" stroke-width="1.5" points="{line}"/>'
        f'<circle cx="{x}" cy="{y}" r="3" fill="#0072b2"/>{marks}</svg>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def html_table(rows: Mapping[str, Any]) -> str:
    """An HTML table of names and values, both plain text."""
    cells = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>"


def html_grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """An HTML table with a header; all cells plain text, those behind the first `texts` numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{"text" if place < texts else "number"}">{escape(cell)}</{tag}>'
            for place, cell in enumerate(row)
        )

    lines = [cells(header, "th"), *(cells(row, "td") for row in rows)]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def per_cent(value: float | None) -> str:
    """A share in per cent, "-" for one that is not known."""
    return "-" if value is None else f"{100 * value:.1f}"


def jpeg_url(image: Image.Image, quality: int = 85) -> str:
    """The picture as an address that holds all of it."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
