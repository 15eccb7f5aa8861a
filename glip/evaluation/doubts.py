"""Data that is evaluated on, and what is doubtful about it, so that no number is taken at its face
value.

Photos that were resized or turned after they were labelled give an average precision of nothing, or
of a sixth; the doctor sees it in their headers. Knows nothing about detectors or metrics.
"""

from __future__ import annotations

import logging
from pathlib import Path

from glip.choices import Split
from glip.data.doctor.examine import read_and_examine
from glip.data.faults import MAX_BAD
from glip.data.formats.recognise import Part, read_annotated
from glip.data.records import Annotated
from glip.distributed import broadcast_object, on_main
from glip.evaluation.config import TaskOptions

logger = logging.getLogger(__name__)


def read_evaluated(options: TaskOptions, part: Part) -> tuple[Annotated, list[str] | None]:
    """Data as a task wants it read, and what the doctor doubts about it; a collective call.

    Args:
        options: Which pictures, how much may be left out, and whether the doctor is asked.
        part: What of the data.
    Returns:
        The data, and None in the place of doubts where nobody asked.
    Raises:
        DataError: What `read_annotated` says.
    """

    def read() -> Annotated:
        return read_annotated(part.path, options.images, split=part.split, max_bad=options.max_bad)

    if not options.examine:
        return read(), None
    found = on_main(
        lambda: read_with_doubts(part.path, options.images, part.split, options.max_bad)
    )
    annotated, doubts = found or (read(), None)  # other processes than the main one
    return annotated, broadcast_object(doubts)


def read_with_doubts(
    data: Path,
    images: str | Path | None = None,
    split: Split | None = None,
    max_bad: float = MAX_BAD,
) -> tuple[Annotated, list[str]]:
    """The data as `read_annotated` gives it, and what the doctor's quick checks find in it.

    Read once. What the reader does not say by itself is logged.

    Args:
        data: Annotations that `glip.data.formats.recognise` reads.
        images: Folder or tar of the pictures; by default beside the annotations.
        split: Of a folder with several.
        max_bad: Share of entries that may be left out.
    Raises:
        DataError: What `read_annotated` says.
    """
    annotated, report = read_and_examine(data, images, quick=True, split=split, max_bad=max_bad)
    doubts = [finding for finding in report.findings if finding.level != "note"]
    for doubt in doubts:
        if not doubt.by_reader:
            logger.warning("%s: %s", data, doubt)
    if annotated is None:  # which says why not
        annotated = read_annotated(data, images, split=split, max_bad=max_bad)
    else:
        annotated.faults.close()
    return annotated, [str(doubt) for doubt in doubts]
