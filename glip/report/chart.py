"""A chart of several lines with their spread, as an SVG file: no plotting library is asked for.

Knows nothing about what the numbers mean. The sparklines of a run's report are
`glip.report.page.curve`; this one has axes, as it stands in a document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from glip.files import whole_file

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # for all eyes
SIZE = (560, 340)  # pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 130, 34, 46
TICKS = 5


class Point(NamedTuple):
    """A point of a line."""

    x: float
    label: str
    """On the axis below."""
    y: float
    spread: float
    """Drawn as a bar from y - spread to y + spread."""


class Line(NamedTuple):
    """A line of a chart."""

    name: str
    points: tuple[Point | tuple[float, str, float, float], ...]
    """In the order of x."""


def write_chart(path: Path, lines: Sequence[Line], *, title: str, x: str, y: str) -> None:
    """Write a chart as an SVG file, whole or not at all; without a point there is none.

    Args:
        path: Of the file.
        lines: At most as many as there are colours tell apart well.
        title: Above the chart.
        x: Name of the axis below.
        y: Name of the axis on the left.
    """
    drawn = [(line.name, [Point(*point) for point in line.points]) for line in lines]
    every = [point for _, points in drawn for point in points]
    if not every:
        return
    low, high = _range(every)
    right = max(1.0, max(point.x for point in every))
    width, height = SIZE

    def at(value_x: float, value_y: float) -> tuple[float, float]:
        return (
            LEFT + value_x / right * (width - LEFT - RIGHT),
            height - BOTTOM - (value_y - low) / (high - low) * (height - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 20, title, size=14),
        _text((LEFT + width - RIGHT) / 2, height - 8, x, anchor="middle"),
        f'<g transform="rotate(-90 14 {height / 2})">'
        + _text(14, height / 2, y, anchor="middle")
        + "</g>",
    ]
    for number in range(TICKS + 1):
        value = low + (high - low) * number / TICKS
        place = at(0, value)[1]
        parts.append(
            f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" '
            'stroke="#ddd"/>'
        )
        parts.append(_text(LEFT - 6, place + 4, f"{value:g}", anchor="end"))
    for place, label in dict.fromkeys((point.x, point.label) for point in every):
        parts.append(_text(at(place, low)[0], height - BOTTOM + 18, label, anchor="middle"))
    for number, (name, points) in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(point.x, point.y) for point in points]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
        for point, (a, b) in zip(points, places, strict=True):
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>')
            if point.spread > 0:
                ends = [at(point.x, point.y + sign * point.spread)[1] for sign in (-1, 1)]
                parts.append(
                    f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" '
                    f'stroke="{colour}"/>'
                )
        below = TOP + 16 + 18 * number
        parts.append(f'<circle cx="{width - RIGHT + 16}" cy="{below}" r="4" fill="{colour}"/>')
        parts.append(_text(width - RIGHT + 26, below + 4, name))
    with whole_file(path) as file:
        file.write("\n".join([*parts, "</svg>\n"]))


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """Round ends of an axis that holds all points with their spread."""
    low = min(point.y - point.spread for point in points)
    high = max(point.y + point.spread for point in points)
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-3)))
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high) if high > low else (low, low + step)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222">'
        f"{escape(text)}</text>"
    )
