"""Grounded captions -> layouts for generators that take boxes, such as GLIGEN (arXiv 2301.07093).

A line for each caption: the caption, and phrases with boxes in shares of the picture, which are the
`prompt`, `gligen_phrases` and `gligen_boxes` of diffusers' pipelines. Knows nothing about models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glip.data.records import GroundingRecord
from glip.files import whole_file
from glip.settings import within

MOST_BOXES = 30
"""What GLIGEN was trained with; a pipeline cuts off the rest in the order of the file."""


def layout(
    record: GroundingRecord, *, min_score: float = 0.0, most: int = MOST_BOXES
) -> dict[str, Any] | None:
    """One caption as a layout, or None if no box is left.

    Args:
        record: a caption with boxes.
        min_score: boxes with a lower score are left out; those without a score were drawn by people
            and stay.
        most: boxes that are kept, the surest first, larger ones first where nothing is known.
    Returns:
        `{"image", "caption", "phrases": [...], "boxes": [[x1, y1, x2, y2], ...]}`, boxes clipped to
        the picture, in [0, 1].
    """
    height, width = record.image_hw
    rows = []
    for row, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
        score = 1.0 if record.scores is None else float(record.scores[row])
        box = [
            min(max(value / side, 0.0), 1.0)
            for value, side in zip((x1, y1, x2, y2), (width, height) * 2, strict=True)
        ]
        area = (box[2] - box[0]) * (box[3] - box[1])
        if score >= min_score and area > 0:
            spans = record.phrases[int(record.owners[row])]
            phrase = " ".join(record.caption[start:end] for start, end in spans)
            rows.append((-score, -area, phrase, box))
    rows.sort(key=lambda row: row[:2])
    if not rows:
        return None
    return {
        "image": record.file_name,
        "caption": record.caption,
        "phrases": [phrase for _, _, phrase, _ in rows[:most]],
        "boxes": [[round(value, 5) for value in box] for _, _, _, box in rows[:most]],
    }


def write_layouts(
    records: Iterable[GroundingRecord],
    path: str | os.PathLike[str],
    *,
    min_score: float = 0.0,
    most: int = MOST_BOXES,
) -> int:
    """Write the layouts of all captions that have one as JSON lines, whole or not at all.

    Args:
        records: run through once.
        path: of the file.
        min_score, most: see `layout`.
    Returns:
        How many were written.
    Raises:
        ConfigError: an option out of range.
        StorageError: the file cannot be written.
    """
    within("min_score", min_score, least=0, most=1)
    within("most", most, least=1)
    count = 0
    with whole_file(Path(path)) as file:
        for record in records:
            one = layout(record, min_score=min_score, most=most)
            if one is not None:
                file.write(json.dumps(one, ensure_ascii=False) + "\n")
                count += 1
    return count
