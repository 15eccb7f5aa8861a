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


class _Frame:
    """A chart with a title and axes, that lines are drawn into.

    Args:
        ends: Of the axis below, and of the axis on the left.
        title, x, y: Above, below, and on the left.
    """

    def __init__(
        self, ends: tuple[tuple[float, float], tuple[float, float]], title: str, x: str, y: str
    ) -> None:
        (self._low_x, self._high_x), (low, high) = ends
        self._low, self._high = low, high
        width, height = SIZE
        self.parts = [
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
            place = self.at(self._low_x, value)[1]
            self.parts.append(
                f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" '
                'stroke="#ddd"/>'
            )
            self.parts.append(_text(LEFT - 6, place + 4, f"{value:g}", anchor="end"))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point."""
        width, height = SIZE
        across = (x - self._low_x) / (self._high_x - self._low_x)
        up = (y - self._low) / (self._high - self._low)
        return LEFT + across * (width - LEFT - RIGHT), height - BOTTOM - up * (
            height - TOP - BOTTOM
        )

    def below(self, x: float, label: str) -> None:
        """A mark on the axis below."""
        place = self.at(x, self._low)[0]
        self.parts.append(_text(place, SIZE[1] - BOTTOM + 18, label, anchor="middle"))

    def line(self, number: int, name: str, points: Sequence[tuple[float, float]]) -> str:
        """Draw a line and name it in the legend; its colour."""
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*self.at(x, y)) for x, y in points)
        self.parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>'
        )
        place = TOP + 16 + 18 * number
        left = SIZE[0] - RIGHT + 16
        self.parts.append(f'<circle cx="{left}" cy="{place}" r="4" fill="{colour}"/>')
        self.parts.append(_text(left + 10, place + 4, name))
        return colour

    def mark(self, x: float, y: float, colour: str, radius: int = 3) -> tuple[float, float]:
        """Draw a point; its pixel."""
        across, down = self.at(x, y)
        self.parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{radius}" fill="{colour}"/>'
        )
        return across, down

    def svg(self) -> str:
        """The whole chart."""
        return "\n".join([*self.parts, "</svg>\n"])


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
    right = max(1.0, max(point.x for point in every))
    frame = _Frame(((0.0, right), _range(every)), title, x, y)
    for place, label in dict.fromkeys((point.x, point.label) for point in every):
        frame.below(place, label)
    for number, (name, points) in enumerate(drawn):
        colour = frame.line(number, name, [(point.x, point.y) for point in points])
        for point in points:
            a, _ = frame.mark(point.x, point.y, colour)
            if point.spread > 0:
                ends = [frame.at(point.x, point.y + sign * point.spread)[1] for sign in (-1, 1)]
                frame.parts.append(
                    f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" '
                    f'stroke="{colour}"/>'
                )
    with whole_file(path) as file:
        file.write(frame.svg())


class Shares(NamedTuple):
    """A line of a chart of shares."""

    name: str
    points: Sequence[tuple[float, float]]
    """In the order of the line."""
    mark: tuple[float, float]
    """A point that is pointed out."""


def share_chart(lines: Sequence[Shares], *, title: str, x: str, y: str) -> str:
    """A chart of shares against shares, both axes from 0 to 1, as SVG to stand in a page.

    Args:
        lines: At most as many as colours tell apart well.
        title: Above the chart.
        x: Name of the axis below.
        y: Name of the axis on the left.
    """
    frame = _Frame(((0.0, 1.0), (0.0, 1.0)), title, x, y)
    for number in range(TICKS + 1):
        frame.below(number / TICKS, f"{number / TICKS:g}")
    for number, line in enumerate(lines):
        frame.mark(*line.mark, frame.line(number, line.name, line.points), radius=5)
    return frame.svg()


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
