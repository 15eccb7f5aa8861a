"""Parts of a data set that are files of their own -> one data set.

Classes are the same where their names are. Knows no format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glip.data.faults import Faults
from glip.data.packed import Packed
from glip.data.pictures import PictureFolder, Pictures
from glip.data.records import (
    Annotated,
    DetectionData,
    DetectionRecord,
    GroundingData,
    GroundingRecord,
)
from glip.errors import DataError


def joined(path: Path, parts: Sequence[Annotated], faults: Faults) -> Annotated:
    """All parts as one.

    Args:
        path: Of the whole.
        parts: One or more, all with classes or all with captions.
        faults: Of all of them.
    Raises:
        DataError: Some have classes and others captions.
    """
    roots = list(dict.fromkeys(part.pictures.root for part in parts))
    pictures: Pictures = parts[0].pictures
    above: list[str] = [""] * len(parts)
    if len(roots) > 1:
        common = Path(os.path.commonpath([root.absolute() for root in roots]))
        pictures = PictureFolder(common)
        above = [f"{p.pictures.root.absolute().relative_to(common).as_posix()}/" for p in parts]
    detection = [part.data for part in parts if isinstance(part.data, DetectionData)]
    grounding = [part.data for part in parts if isinstance(part.data, GroundingData)]
    if detection and grounding:
        raise DataError(f"{path} has parts with classes and parts with captions; name one of them")
    data: DetectionData | GroundingData
    if detection:
        data = _detection(path, detection, above)
    else:
        data = GroundingData(path, Packed(_captions(grounding, above)))
    return Annotated(data, pictures, faults)


def _captions(parts: Sequence[GroundingData], above: Sequence[str]) -> Iterator[GroundingRecord]:
    for part, folder in zip(parts, above, strict=True):
        for record in part.records:
            yield replace(record, file_name=folder + record.file_name)


def _detection(path: Path, parts: Sequence[DetectionData], above: Sequence[str]) -> DetectionData:
    ids: dict[str, int] = {}
    for part in parts:
        for name, number in zip(part.names, part.category_ids, strict=True):
            ids.setdefault(name, number)
    if len(set(ids.values())) < len(ids):
        ids = {name: number for number, name in enumerate(ids, start=1)}
    row_of = {name: row for row, name in enumerate(ids)}
    rows = [np.array([row_of[name] for name in part.names], dtype=np.int64) for part in parts]
    vocabularies = {
        name: _moved(known, own)
        for part, own in zip(parts, rows, strict=True)
        for name, known in part.vocabularies.items()
    }
    numbered = [
        _record(record, folder, own)
        for part, folder, own in zip(parts, above, rows, strict=True)
        for record in part.records
    ]
    if len({record.image_id for record in numbered}) < len(numbered):
        numbered = [replace(record, image_id=n) for n, record in enumerate(numbered, start=1)]
    return DetectionData(path, tuple(ids), tuple(ids.values()), Packed(numbered), vocabularies)


def _record(record: DetectionRecord, folder: str, rows: npt.NDArray[np.int64]) -> DetectionRecord:
    """A record with its picture below a folder, and new class rows for old ones."""
    return replace(
        record,
        file_name=folder + record.file_name,
        labels=rows[record.labels],
        absent=None if record.absent is None else _moved(record.absent, rows),
        not_exhaustive=_moved(record.not_exhaustive, rows),
    )


def _moved(known: Sequence[int], rows: npt.NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(sorted(int(rows[row]) for row in known))
