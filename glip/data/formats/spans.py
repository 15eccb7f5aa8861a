"""Character spans of phrases in a caption, checked, and records made of them.

Knows nothing about files. Letters: N boxes of one caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glip.data.formats.content import checked
from glip.data.records import GroundingRecord, ImageId, Phrase, Span


def checked_phrase(spans: Any, caption: str) -> Phrase | None:
    """Spans of one phrase in order, overlapping and touching ones joined; None if one is no
    span.
    """
    try:
        pairs = sorted(checked(spans, list[tuple[int, int]]))
    except ValueError:
        return None
    if any(not 0 <= start < end <= len(caption) for start, end in pairs):
        return None
    if not "".join(caption[start:end] for start, end in pairs).strip():
        return None
    joined: list[Span] = []
    for start, end in pairs:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def bad_spans(where: str, spans: Any, caption: str) -> str:
    """What to say of spans that are not in their caption."""
    return (
        f"{where} has tokens_positive {spans}, expected [[start, end], …] inside the "
        f"{len(caption)} characters of its caption"
    )


def sentence_record(
    image_id: ImageId, name: str, size: tuple[int, int], caption: str
) -> GroundingRecord:
    """A caption that nobody has drawn boxes for."""
    return grounding_record(image_id, name, size, caption, [], np.zeros((0, 4)))


def grounding_record(
    image_id: ImageId,
    name: str,
    size: tuple[int, int],
    caption: str,
    phrases: Sequence[Phrase],
    boxes: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float32] | None = None,
) -> GroundingRecord:
    """A record from one phrase for each box: boxes of equal spans share a phrase.

    Args:
        image_id: of the entry.
        name: of the picture.
        size: its height and width, pixels.
        caption: of the picture.
        phrases: N of them.
        boxes: (N, 4) xyxy, pixels.
        scores: (N,) in [0, 1], how sure a teacher was; None for boxes drawn by people.
    """
    rows: dict[Phrase, int] = {}
    owners = [rows.setdefault(phrase, len(rows)) for phrase in phrases]
    return GroundingRecord(
        image_id, name, size, caption, tuple(rows), boxes, np.array(owners, dtype=np.int64), scores
    )
