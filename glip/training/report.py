"""The report of a run: one HTML file with curves, AP of each class, and sample pictures.

Everything is inside the file, drawn as SVG and JPEG, so that it can be mailed. Knows nothing about
training or evaluation; it is handed numbers and pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

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
table { border-collapse: collapse; } td, th { padding: 2px 12px 2px 0; text-align: left; }
td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 460px; } pre { background: #f4f4f4; padding: 1em; overflow-x: auto; }
"""


class SamplePicture(NamedTuple):
    """A picture with what should be found on it and what was."""

    name: str
    truth: Image.Image
    found: Image.Image


def write_report(
    path: Path,
    records: Sequence[Mapping[str, Any]],
    *,
    title: str,
    summary: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    per_class: Mapping[str, float | None],
    pictures: Sequence[SamplePicture],
    settings: str,
) -> None:
    """Write the report.

    Args:
        path: Of the HTML file.
        records: Rows of `glip.training.record.read_records`.
        title: Of the page.
        summary: What to say first, such as the number of steps.
        metrics: Of the last evaluation, in [0, 1]; may be empty.
        per_class: AP by class, in [0, 1]; may be empty.
        pictures: May be empty.
        settings: The configuration, as text.
    """
    parts = [f"<h1>{escape(title)}</h1>", html_table(summary)]
    if metrics:
        parts += ["<h2>Evaluation</h2>", html_table({k: _per_cent(v) for k, v in metrics.items()})]
    names = list(dict.fromkeys(name for row in records for name in row if name != "step"))
    for heading, prefix in (("Losses", "loss/"), ("Evaluations", "evaluation/"), ("Steps", "")):
        figures = []
        for name in names:
            points = [(row["step"], row[name]) for row in records if row.get(name) is not None]
            if len(points) > 1 and name.startswith(prefix) and ("/" in name) == bool(prefix):
                figures.append(curve(name.removeprefix(prefix), points))
        if figures:
            parts += [f"<h2>{heading}</h2>", f'<div class="curves">{"".join(figures)}</div>']
    if per_class:
        ordered = sorted(per_class.items(), key=lambda pair: -(pair[1] or 0.0))
        parts += ["<h2>AP of each class</h2>", html_table({n: _per_cent(v) for n, v in ordered})]
    if pictures:
        parts.append("<h2>Pictures: the truth, and what was found</h2>")
    for sample in pictures:
        truth = picture(sample.truth, f"{sample.name}: truth")
        parts.append(f"<div>{truth}{picture(sample.found, f'{sample.name}: found')}</div>")
    parts += ["<h2>Settings</h2>", f"<pre>{escape(settings)}</pre>"]
    write_page(path, title, parts)


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Write an HTML page that needs no other file, whole or not at all.

    Args:
        path: Of the file.
        title: Plain text.
        parts: HTML of the body.
    """
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    with whole_file(path) as file:
        file.write(page)


def picture(image: Image.Image, caption: str) -> str:
    """An HTML figure with the picture inside it.

    Args:
        image: Of any size; shown at most `LONG_SIDE` pixels long.
        caption: Plain text.
    """
    return (
        f'<figure><img src="{_data_url(image)}" alt="{escape(caption)}">'
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


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _data_url(image: Image.Image) -> str:
    image = image.convert("RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
