"""A page for looking over labels before anyone trusts them: one HTML file that needs no server.

For each class its counts, the distribution of its scores, and crops of its least and most certain
boxes; the pictures that could not be used. Memory does not grow with the number of pictures.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from glip.data.labels import Label, Labelled
from glip.errors import ImageError
from glip.images import load_image
from glip.labelling.changes import Change, Corrections, Example, Kind
from glip.labelling.crop import crop
from glip.labelling.next import Doubt
from glip.report.page import html_grid, html_note, jpeg_url, write_page

BINS = 20
"""Bars of a histogram, over scores from 0 to 1."""
CROPS = 8
"""Shown of each class at either end."""
REJECTED = 500
"""Rejected pictures that are listed; all of them stand in the list beside the report."""
CHANGES: dict[Kind, str] = {
    "relabelled": "Relabelled, those that the model was surest of first",
    "deleted": "Deleted, those that the model was surest of first",
    "added": "Added, the largest first",
    "moved": "Moved, the furthest first",
    "accepted": "Accepted, those that the model was least sure of first",
}
"""Headings of what people changed, in the order of the page."""


@dataclass
class _ClassSummary:
    """What is counted of one class."""

    boxes: int = 0
    pictures: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    lowest: list[tuple[float, str, int, Label]] = field(default_factory=list)
    highest: list[tuple[float, str, int, Label]] = field(default_factory=list)

    def add(self, picture: str, row: int, label: Label) -> None:
        """One more box."""
        self.boxes += 1
        score = label.score
        if score is None:
            return
        self.bins[min(int(score * BINS), BINS - 1)] += 1
        for heap, value in ((self.lowest, -score), (self.highest, score)):
            heapq.heappush(heap, (value, picture, row, label))
            if len(heap) > CROPS:
                heapq.heappop(heap)


@dataclass(frozen=True)
class Rejected:
    """A picture that could not be used."""

    picture: str
    reason: str


def write_report(
    pictures: Iterable[Labelled],
    names: Sequence[str],
    root: Path,
    path: str | os.PathLike[str],
    *,
    title: str = "Labels",
    rejected: Iterable[Rejected] = (),
    doubts: Sequence[Doubt] = (),
    corrections: Corrections | None = None,
) -> Path:
    """Write the report, whole or not at all.

    Args:
        pictures: with their labels; run through once.
        names: of all classes, in order; one without boxes is shown as such.
        root: folder that the pictures' names start from. A picture that cannot be read any more
            leaves a gap in the gallery.
        path: of the HTML file.
        title: its heading.
        rejected: run through once.
        doubts: photos to look at next, in their order.
        corrections: what people changed, if these are their labels.
    Raises:
        StorageError: the file cannot be written.
    """
    summaries = {name: _ClassSummary() for name in names}
    total = empty = 0
    for picture in pictures:
        total += 1
        empty += not picture.labels
        for row, label in enumerate(picture.labels):
            summaries[label.name].add(picture.picture, row, label)
        for name in {label.name for label in picture.labels}:
            summaries[name].pictures += 1
    crops = _crops(root, summaries.values())
    links = _Links(Path(root), Path(path).parent)
    parts = chain(
        _overview(total, empty, summaries),
        _corrections(corrections, root, links) if corrections is not None else (),
        _classes(summaries, crops, links),
        _next_list(doubts, links),
        _rejected_list(rejected, links),
    )
    write_page(path, title, parts)
    return Path(path)


class _Links:
    """Addresses of photos, as a page in a folder has them: relative, so that both can move."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder

    def __call__(self, picture: str) -> str:
        """The name of a picture, leading to the whole of it."""
        try:
            address = quote(Path(os.path.relpath(self._root / picture, self._folder)).as_posix())
        except ValueError:  # on another drive of Windows
            address = (self._root / picture).absolute().as_uri()
        return f'<a href="{escape(address)}">{escape(picture)}</a>'


def _crops(root: Path, summaries: Iterable[_ClassSummary]) -> dict[tuple[str, int], str]:
    """For each label that is shown its crop as a data URL, each picture read once."""
    wanted: dict[str, dict[int, Label]] = {}
    for summary in summaries:
        for _, picture, row, label in (*summary.lowest, *summary.highest):
            wanted.setdefault(picture, {})[row] = label
    crops = {}
    for picture, labels in sorted(wanted.items()):
        try:
            image = load_image(root / picture)
        except ImageError:
            continue
        for row, label in labels.items():
            crops[picture, row] = jpeg_url(crop(image, label.box), quality=80)
    return crops


def _overview(total: int, empty: int, summaries: dict[str, _ClassSummary]) -> Iterator[str]:
    boxes = sum(summary.boxes for summary in summaries.values())
    yield f"<p>{total:,} pictures, {boxes:,} boxes; {empty:,} pictures without any box.</p>"
    yield (
        '<table><tr><th>class</th><th class="number">boxes</th>'
        '<th class="number">pictures</th></tr>'
    )
    scored = any(summary.lowest for summary in summaries.values())
    for number, (name, summary) in enumerate(summaries.items()):
        shown = f'<a href="#class{number}">{escape(name)}</a>' if scored else escape(name)
        yield (
            f"<tr><td>{shown}</td>"
            f'<td class="number">{summary.boxes:,}</td>'
            f'<td class="number">{summary.pictures:,}</td></tr>'
        )
    yield "</table>"


def _classes(
    summaries: dict[str, _ClassSummary], crops: dict[tuple[str, int], str], links: _Links
) -> Iterator[str]:
    """How sure the model was of each; nothing for labels that only people have made."""
    if not any(summary.lowest for summary in summaries.values()):
        return
    for number, (name, summary) in enumerate(summaries.items()):
        yield f'<h2 id="class{number}">{escape(name)}</h2>'
        if not summary.boxes:
            yield '<p class="note">No box.</p>'
            continue
        if not summary.lowest:
            yield f'<p class="note">{summary.boxes:,} boxes, none with a score.</p>'
            continue
        yield _histogram(summary.bins)
        for words, heap in (("Lowest", summary.lowest), ("Highest", summary.highest)):
            yield f'<p class="note">{words} scores</p>\n<div class="crops">'
            for _, picture, row, label in sorted(heap, reverse=True):
                yield _figure(links(picture), label, crops.get((picture, row)))
            yield "</div>"


def _corrections(corrections: Corrections, root: Path, links: _Links) -> Iterator[str]:
    yield "<h2>What people changed</h2>"
    missing = corrections.not_compared
    yield html_note(
        f"{corrections.pictures:,} pictures compared with what the model proposed."
        + (f" {missing:,} that it has not labelled are not counted here." if missing else "")
    )
    header, *rows = corrections.rows()
    yield html_grid(header, rows)
    if corrections.relabelled:
        pairs = corrections.relabelled.items()
        shown = ", ".join(f"{old} → {new} ({count:,})" for (old, new), count in pairs)
        yield html_note(f"Relabelled: {shown}")
    if any(corrections.examples.values()):
        yield html_note("Dashed: as the model proposed it. Solid: as it was left.")
    for kind, heading in CHANGES.items():
        if examples := corrections.examples.get(kind):
            yield f'<h3>{heading}</h3>\n<div class="crops">'
            for one in examples:
                yield _changed_figure(one, root, links)
            yield "</div>"


def _changed_figure(one: Example, root: Path, links: _Links) -> str:
    """A crop with the box before and after."""
    change = one.change
    solid = None if change.after is None else change.after.box
    dashed = None if change.before is None or change.kind == "accepted" else change.before.box
    try:
        address = jpeg_url(crop(load_image(root / one.picture), solid, dashed), quality=80)
        image = f'<img src="{address}" alt="">'
    except ImageError:
        image = "<em>cannot be read any more</em>"
    text = escape(_said_of(change))
    return f"<figure>{image}<figcaption>{text}<br>{links(one.picture)}</figcaption></figure>"


def _said_of(change: Change) -> str:
    """Its class, the score, and what became of it."""
    words = [label.name for label in (change.before, change.after) if label is not None]
    if change.before is not None and change.before.score is not None:
        words[0] += f" {change.before.score:.3f}"
    if change.kind == "relabelled":
        return " → ".join(words)
    return words[0] + (f", IoU {change.iou:.2f}" if change.kind == "moved" else "")


def _histogram(bins: Sequence[int]) -> str:
    """How many boxes there are of which score, as a drawing."""
    most = max(bins)
    bars = []
    for number, count in enumerate(bins):
        low, high = number / BINS, (number + 1) / BINS
        tall = 60 * count / most
        bars.append(
            f'<rect x="{16 * number + 1}" y="{64 - tall:.1f}" width="14" height="{tall:.1f}" '
            f'fill="#3b6ea5"><title>{low:.2f} to {high:.2f}: {count:,}</title></rect>'
        )
    width = 16 * BINS
    ticks = "".join(
        f'<text x="{min(width * share + 1, width - 12):.0f}" y="78" font-size="11" fill="#555">'
        f"{share:g}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg width="{width}" height="82" role="img" aria-label="scores">{"".join(bars)}'
        f'<line x1="0" y1="64.5" x2="{width}" y2="64.5" stroke="#999"/>{ticks}</svg>'
    )


def _figure(link: str, label: Label, crop: str | None) -> str:
    image = f'<img src="{crop}" alt="">' if crop else "<em>cannot be read any more</em>"
    phrase = f", found as “{escape(label.phrase)}”" if label.phrase else ""
    return f"<figure>{image}<figcaption>{label.score:.3f}{phrase}<br>{link}</figcaption></figure>"


def _next_list(doubts: Sequence[Doubt], links: _Links) -> Iterator[str]:
    if doubts:
        yield "<h2>Look at these next</h2>\n<ol>"
        for doubt in doubts:
            yield f"<li>{links(doubt.picture)}: {escape(doubt.name)} {doubt.score:.3f}</li>"
        yield "</ol>"


def _rejected_list(rejected: Iterable[Rejected], links: _Links) -> Iterator[str]:
    count = 0
    for one in rejected:
        count += 1
        if count == 1:
            yield "<h2>Rejected pictures</h2>\n<table>"
        if count <= REJECTED:
            reason = f'<td class="text">{escape(one.reason)}</td>'
            yield f"<tr><td>{links(one.picture)}</td>{reason}</tr>"
    if count:
        yield "</table>"
    if count > REJECTED:
        yield f'<p class="note">and {count - REJECTED:,} more</p>'
