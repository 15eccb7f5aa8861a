"""Data sets to examine, made of records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from glip.data.doctor.subject import Check, Subject
from glip.data.faults import Faults
from glip.data.formats.spans import grounding_record
from glip.data.packed import Packed
from glip.data.pictures import PictureFolder
from glip.data.records import Annotated, DetectionData, DetectionRecord, GroundingData
from glip.text.tokenizer import Tokenizer


def detection(
    folder: Path,
    boxes: Sequence[Sequence[float]] = ((1, 2, 31, 22),),
    *,
    names: Sequence[str] = ("cat", "dog"),
    crowd: bool = False,
    quick: bool = True,
    **known: object,
) -> Subject:
    """One picture with boxes of the first class, which lies in the folder."""
    if not (folder / "a.png").exists():
        Image.new("RGB", (60, 40)).save(folder / "a.png")
    record = DetectionRecord(
        image_id=1,
        file_name="a.png",
        image_hw=(40, 60),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        labels=np.zeros(len(boxes), dtype=np.int64),
        crowd=np.full(len(boxes), crowd),
        **known,  # type: ignore[arg-type]
    )
    ids = tuple(range(1, len(names) + 1))
    data = DetectionData(folder, tuple(names), ids, Packed([record]), {"pets": (1,)})
    return _subject(folder, data, quick)


def grounding(folder: Path, caption: str) -> Subject:
    """One caption with a box of its first word."""
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    boxes = np.array([[1.0, 2, 31, 22]])
    record = grounding_record(1, "a.png", (40, 60), caption, [((0, 1),)], boxes)
    return _subject(folder, GroundingData(folder, Packed([record])), True)


def _subject(folder: Path, data: DetectionData | GroundingData, quick: bool) -> Subject:
    annotated = Annotated(data, PictureFolder(folder), Faults(folder))
    return Subject(folder, annotated, Tokenizer.bert_uncased(), 256, quick, lambda done: None)


def found(checks: Sequence[Check], subject: Subject) -> dict[str, list[str]]:
    """Check -> its cases, of those that find any."""
    cases = {check.name: list(check.find(subject)) for check in checks
             if subject.kind in check.kinds}  # fmt: skip
    return {name: lines for name, lines in cases.items() if lines}
