"""What is doubtful about data that is evaluated on, so that no number is taken at its face value.

Photos that were resized or turned after they were labelled give an average precision of nothing, or
of a sixth; the doctor sees it in their headers. Knows nothing about detectors or metrics.
"""

from __future__ import annotations

import logging
from pathlib import Path

from glip.choices import Split
from glip.data.doctor.examine import Report, examine, read_and_examine
from glip.data.faults import MAX_BAD
from glip.data.formats.recognise import read_annotated
from glip.data.records import Annotated

logger = logging.getLogger(__name__)


def doubts_about(
    data: Path,
    images: str | Path | None = None,
    split: Split | None = None,
    max_bad: float = MAX_BAD,
) -> list[str]:
    """What the doctor's quick checks find; what the reader of the data does not say is logged.

    Args:
        data: Annotations that `glip.data.formats.recognise` reads.
        images: Folder or tar of the pictures; by default beside the annotations.
        split: Of a folder with several.
        max_bad: Share of entries that may be left out.
    """
    return _logged(examine(data, images, quick=True, split=split, max_bad=max_bad), data)


def read_with_doubts(
    data: Path,
    images: str | Path | None = None,
    split: Split | None = None,
    max_bad: float = MAX_BAD,
) -> Annotated:
    """The data as `read_annotated` gives it, read once, when `doubts_about` it have been logged.

    Raises:
        DataError: What `read_annotated` says.
    """
    annotated, report = read_and_examine(data, images, quick=True, split=split, max_bad=max_bad)
    _logged(report, data)
    if annotated is None:
        return read_annotated(data, images, split=split, max_bad=max_bad)  # which says why not
    annotated.faults.close()
    return annotated


def _logged(report: Report, data: Path) -> list[str]:
    doubts = [finding for finding in report.findings if finding.level != "note"]
    for doubt in doubts:
        if not doubt.by_reader:
            logger.warning("%s: %s", data, doubt)
    return [str(doubt) for doubt in doubts]
