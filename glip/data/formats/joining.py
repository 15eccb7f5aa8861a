"""Parts of a data set that are files of their own -> one data set.

Classes are the same where their names are. Knows no format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

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
    of_image = [record.image_id for part in parts for record in part.records]
    clash = len(set(of_image)) < len(of_image)
    vocabularies = {
        name: tuple(sorted(row_of[part.names[row]] for row in rows))
        for part in parts
        for name, rows in part.vocabularies.items()
    }

    def records() -> Iterator[DetectionRecord]:
        number = 0
        for part, folder in zip(parts, above, strict=True):
            rows = np.array([row_of[name] for name in part.names], dtype=np.int64)
            for record in part.records:
                number += 1
                yield replace(
                    record,
                    image_id=number if clash else record.image_id,
                    file_name=folder + record.file_name,
                    labels=rows[record.labels],
                    absent=None
                    if record.absent is None
                    else tuple(sorted(rows[list(record.absent)].tolist())),
                    not_exhaustive=tuple(sorted(rows[list(record.not_exhaustive)].tolist()))
                    if record.not_exhaustive
                    else (),
                )

    return DetectionData(path, tuple(ids), tuple(ids.values()), Packed(records()), vocabularies)
