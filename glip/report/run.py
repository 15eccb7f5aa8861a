"""The report of a run: one HTML file with curves, AP of each class, and sample pictures.

Knows nothing about training or evaluation; it is handed numbers and pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from glip.report.page import curve, html_table, per_cent, picture, write_page


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
    ordered = sorted(per_class.items(), key=lambda pair: -(pair[1] or 0.0))
    parts = [
        html_table(summary),
        *_shares("Evaluation", list(metrics.items())),
        *_curves("Losses", "loss/", records),
        *_curves("Evaluations", "evaluation/", records),
        *_curves("Steps", "", records),
        *_shares("AP of each class", ordered),
    ]
    if pictures:
        parts.append("<h2>Pictures: the truth, and what was found</h2>")
    for sample in pictures:
        truth = picture(sample.truth, f"{sample.name}: truth")
        parts.append(f"<div>{truth}{picture(sample.found, f'{sample.name}: found')}</div>")
    parts += ["<h2>Settings</h2>", f"<pre>{escape(settings)}</pre>"]
    write_page(path, title, parts)


def _shares(heading: str, values: Sequence[tuple[str, float | None]]) -> list[str]:
    """A heading and a table of shares in per cent; nothing without any."""
    rows = {name: per_cent(value) for name, value in values}
    return [f"<h2>{heading}</h2>", html_table(rows)] if rows else []


def _curves(heading: str, prefix: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A heading and the curves of all columns with a prefix; nothing without two points of one.

    Without a prefix, those whose names have none.
    """
    names = dict.fromkeys(name for row in records for name in row if name != "step")
    figures = []
    for name in names:
        points = [(row["step"], row[name]) for row in records if row.get(name) is not None]
        if len(points) > 1 and name.startswith(prefix) and ("/" in name) == bool(prefix):
            figures.append(curve(name.removeprefix(prefix), points))
    if not figures:
        return []
    return [f"<h2>{heading}</h2>", f'<div class="curves">{"".join(figures)}</div>']
