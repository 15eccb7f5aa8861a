"""What a job of pseudo labelling has done, in counts, as text and as a page.

Reads the journal of the job; knows nothing about teachers.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glip.errors import ImageError
from glip.jobs.journal import Journal
from glip.pseudo.captions import CaptionSet
from glip.pseudo.config import DONE, REFUSED, REJECTED, GroundingConfig
from glip.pseudo.filters import FILTERS
from glip.report.page import html_table, picture, write_page
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.visualize import draw

logger = logging.getLogger(__name__)
CONFIDENT = 0.5
"""Boxes above this are sure ones, as the paper counts them; the others are educated guesses."""
BINS = 10
"""Of the histogram of scores."""
OTHER_REFUSALS = {
    "no_phrase": "no noun phrase",
    "unreadable": "a phrase that the teacher cannot read",
    "repeated": "the same text as another caption of the picture",
}


@dataclass(frozen=True)
class Summary:
    """What a job has done, all its runs together."""

    entries: dict[str, int]
    """Number of each status."""
    captions: int
    """That were asked for."""
    refused: dict[str, int]
    """Captions that each filter refused."""
    phrases: int
    grounded_phrases: int
    """With a box at all."""
    confident_phrases: int
    """With a box above 0.5."""
    boxes: int
    confident_boxes: int
    scores: list[int]
    """Boxes by score, in ten equal steps from 0 to 1."""
    rejected: list[str]
    """The first bad pictures and lines."""
    newly_rejected: int = 0
    """Entries, in the last run."""

    def text(self) -> str:
        """One page."""
        done, refused = self.entries.get(DONE, 0), self.entries.get(REFUSED, 0)
        lines = [
            f"pictures   {done:>10,} grounded, {refused:,} refused by the filters, "
            f"{self.entries.get(REJECTED, 0):,} bad",
            f"captions   {self.captions:>10,} grounded, {sum(self.refused.values()):,} refused",
            *(
                f"             {count:>8,} {name}: {_why(name)}"
                for name, count in self.refused.items()
            ),
            f"phrases    {self.phrases:>10,}, {_share(self.grounded_phrases, self.phrases)} with a "
            f"box, {_share(self.confident_phrases, self.phrases)} with one above {CONFIDENT:g}",
            f"boxes      {self.boxes:>10,}, {_share(self.confident_boxes, self.boxes)} above "
            f"{CONFIDENT:g}",
        ]
        for step, count in enumerate(self.scores):
            if count:
                lines.append(f"  score {step / BINS:.1f} to {(step + 1) / BINS:.1f} {count:>10,}")
        if self.rejected:
            lines += ["bad, for example", *(f"  {line}" for line in self.rejected)]
        return "\n".join(lines)


def _why(name: str) -> str:
    return {**FILTERS, **OTHER_REFUSALS}[name]


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def summarise(journal: Journal, examples: int = 20) -> Summary:
    """Count over all records of a job.

    Args:
        journal: Of the job.
        examples: Of bad pictures and lines, how many are named.
    """
    entries: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    scores = np.zeros(BINS, dtype=np.int64)
    rejected: list[str] = []
    for _, status, record in journal.read():
        entries[status] += 1
        if status == REJECTED:
            rejected += [str(record)] if len(rejected) < examples else []
            continue
        refused.update(record["refused"])
        for caption in record.get("captions", ()):
            found = np.array(caption["scores"])
            sure = found > CONFIDENT
            owners = np.array(caption["owners"], dtype=np.int64)
            counts["captions"] += 1
            counts["phrases"] += len(caption["phrases"])
            counts["grounded_phrases"] += len(set(owners.tolist()))
            counts["confident_phrases"] += len(set(owners[sure].tolist()))
            counts["boxes"] += len(found)
            counts["confident_boxes"] += int(sure.sum())
            scores += np.histogram(found, bins=BINS, range=(0, 1))[0]
    order = [name for name in (*FILTERS, *OTHER_REFUSALS) if refused[name]]
    return Summary(
        entries=dict(entries),
        refused={name: refused[name] for name in order},
        scores=scores.tolist(),
        rejected=rejected,
        **{
            name: counts[name]
            for name in (
                "captions", "phrases", "grounded_phrases", "confident_phrases", "boxes",
                "confident_boxes",
            )
        },
    )  # fmt: skip


def write_summary_page(
    captions: CaptionSet,
    config: GroundingConfig,
    job: dict[str, Any],
    journal: Journal,
    report: Summary,
    path: Path,
) -> None:
    """The report as HTML, with captions from all over the input drawn."""
    counts = {
        "pictures grounded": f"{report.entries.get(DONE, 0):,}",
        "pictures refused by the filters": f"{report.entries.get(REFUSED, 0):,}",
        "bad pictures or lines": f"{report.entries.get(REJECTED, 0):,}",
        "captions": f"{report.captions:,}",
        "phrases": f"{report.phrases:,}",
        "with a box": _share(report.grounded_phrases, report.phrases),
        f"with a box above {CONFIDENT:g}": _share(report.confident_phrases, report.phrases),
        "boxes": f"{report.boxes:,}",
        f"boxes above {CONFIDENT:g}": _share(report.confident_boxes, report.boxes),
    }
    body = [html_table(counts)]
    if report.refused:
        body.append("<h2>Captions refused</h2>")
        body.append(html_table({_why(name): f"{n:,}" for name, n in report.refused.items()}))
    body.append("<h2>Boxes by score</h2>")
    steps = (f"{step / BINS:.1f} to {(step + 1) / BINS:.1f}" for step in range(BINS))
    body.append(html_table(dict(zip(steps, (f"{n:,}" for n in report.scores), strict=True))))
    body.append("<h2>Captions from all over the input</h2>")
    body += list(_samples(captions, journal, report.captions, config.sample_pictures))
    if report.rejected:
        body += [
            "<h2>Bad pictures and lines</h2>",
            html_table({str(n): line for n, line in enumerate(report.rejected, 1)}),
        ]
    body += ["<h2>Settings</h2>", html_table({key: json.dumps(job[key]) for key in job})]
    write_page(path, "Captions grounded by a teacher", body)


def _samples(captions: CaptionSet, journal: Journal, total: int, count: int) -> Iterator[str]:
    """Figures of every n-th caption with its sure boxes and the best one of each phrase."""
    if not count or not total:
        return
    step, place, shown = max(1, total // count), 0, 0
    for _, _, record in journal.read(DONE):
        for caption in record["captions"]:
            place += 1
            if (place - 1) % step or shown == count:
                continue
            shown += 1
            try:
                image = captions.picture(record["picture"])
            except ImageError as error:
                logger.warning("no sample picture: %s", error)
                continue
            prompt = Prompt(caption["caption"], tuple((tuple(s),) for s in caption["phrases"]))
            found = Detections(
                np.array(caption["boxes"], np.float32).reshape(-1, 4),
                np.array(caption["scores"], np.float32),
                np.array(caption["owners"], np.int64),
                prompt,
                (image.height, image.width),
            )
            owners = found.phrase_ids.tolist()
            best = np.array([owners.index(row) == n for n, row in enumerate(owners)], np.bool_)
            found = found[best | (found.scores > CONFIDENT)]
            yield picture(draw(image, found), f"{caption['caption']} ({record['picture']})")
