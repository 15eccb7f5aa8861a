"""Labels that people have corrected, on their way back: exports of other tools -> pictures.

Whatever `glip.data.formats.recognise` reads comes back. Knows nothing about formats.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from glip.data.faults import MAX_BAD
from glip.data.formats.layout import flat_name
from glip.data.formats.recognise import read_annotated
from glip.data.labels import Label, Labelled
from glip.data.records import DetectionData, GroundingData
from glip.errors import DataError, StorageError
from glip.jobs.journal import read_journal
from glip.labelling.changes import Corrections, count_changes
from glip.text.characters import composed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corrected:
    """Pictures with the labels that people left on them."""

    names: tuple[str, ...]
    """Of all classes."""
    pictures: tuple[Labelled, ...]
    """In the order of their names."""
    root: Path
    """Folder that the names start from."""


def read_corrected(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    max_bad: float = MAX_BAD,
) -> Corrected:
    """Read an export.

    What nobody has looked at (Label Studio tasks without an annotation) is left out, and so are
    boxes around crowds; the log says how many.

    Args:
        path: file, folder or zip.
        images: folder of the pictures; by default beside the annotations.
        names: the classes and their order; by default those of the file.
        order: the classes as they stood before, unused ones with them; new ones come behind.
        max_bad: share of the entries that may be left out.
    Raises:
        DataError: the file cannot be read, or has a class that is not in `names`.
    """
    path = Path(path)
    images = None if images is None else Path(images)
    before = tuple(map(composed, names or order or ()))
    annotated = read_annotated(path, images, classes=before or None, max_bad=max_bad)
    data = annotated.data
    if isinstance(data, GroundingData):
        raise DataError(f"{path} has captions, not classes; corrected labels have classes")
    used = _used(data)
    if names is not None and (unknown := [name for name in used if name not in before]):
        raise DataError(
            f"{path}: class {unknown[0]!r} is not among those asked for, {', '.join(before)}; add "
            "it, or correct it there"
        )
    ordered = tuple(dict.fromkeys((*before, *(data.names if names is None else ()))))
    pictures = sorted(_pictures(data, path), key=lambda picture: picture.picture)
    return Corrected(ordered, tuple(pictures), annotated.pictures.root)


def changed_since(journal: str | os.PathLike[str], corrected: Corrected) -> Corrections | None:
    """What people changed in the labels that a model proposed.

    Pictures are found by their names, also where a format put them into other folders, and
    compared if their size is the same.

    Args:
        journal: folder of the records that `glip.labelling.label.label_photos` writes.
        corrected: what people made of them.
    Returns:
        None, with a warning, if the journal cannot be read: the labels of people do not need it.
    """
    try:
        known = {name for name, *_ in read_journal(journal, "done")}
        left = _by_known_name(corrected.pictures, known)
        proposed = (Labelled.from_json(name, one) for name, _, one in read_journal(journal, "done"))
        pairs = ((one, left[one.picture]) for one in proposed if one.picture in left)
        alike = (pair for pair in pairs if pair[0].image_hw == pair[1].image_hw)
        found = count_changes(alike, corrected.names)
    except StorageError as error:
        logger.warning("not compared with what the model proposed: %s", error)
        return None
    except (KeyError, TypeError, ValueError):  # the records of another kind of job
        logger.warning("not compared with what the model proposed: %s holds no labels", journal)
        return None
    return replace(found, not_compared=len(corrected.pictures) - found.pictures)


def _by_known_name(pictures: Collection[Labelled], known: Collection[str]) -> dict[str, Labelled]:
    """The pictures by the names that they had before; those of unknown ones are left out."""
    found = {one.picture: one for one in pictures if one.picture in known}
    flat = {str(flat_name(name)): name for name in known if name not in found}
    for one in pictures:
        name = flat.get(PurePosixPath(one.picture).name)
        if one.picture not in found and name is not None:
            found.setdefault(name, one)
    return found


def _used(data: DetectionData) -> list[str]:
    """Names of the classes that have a box."""
    rows = {row for record in data.records for row in record.labels.tolist()}
    return [name for row, name in enumerate(data.names) if row in rows]


def _pictures(data: DetectionData, path: Path) -> list[Labelled]:
    """Their boxes that have an extent and are around one thing; the log says what is left out."""
    pictures = []
    crowds = flat = 0
    for record in data.records:
        crowds += int(record.crowd.sum())
        rows = (~record.crowd).nonzero()[0].tolist()
        boxes = record.boxes.tolist()
        labels = [Label(data.names[record.labels[row]], tuple(boxes[row])) for row in rows]
        kept = tuple(label for label in labels if min(label.sides) > 0)
        flat += len(labels) - len(kept)
        pictures.append(Labelled(record.file_name, record.image_hw, kept))
    if crowds:
        logger.warning("%s: left out %d boxes around crowds or difficult objects", path, crowds)
    if flat:
        logger.warning("%s: left out %d boxes without an extent", path, flat)
    return pictures
