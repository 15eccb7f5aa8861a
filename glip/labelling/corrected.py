"""Labels that people have corrected, on their way back: exports of other tools -> pictures.

Reads Label Studio's JSON and JSON-MIN, "CVAT for images 1.1", and whatever
`glip.data.formats.recognise` reads (COCO, which FiftyOne, CVAT and Roboflow write, too; YOLO;
Pascal VOC).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glip.data.formats.coco import read_json
from glip.data.formats.cvat import read_cvat
from glip.data.formats.label_studio import read_label_studio
from glip.data.formats.recognise import read_annotated
from glip.data.labels import Label, Labelled
from glip.data.pictures import PictureFolder, open_pictures
from glip.data.records import GroundingData
from glip.errors import ConfigError, DataError

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
    path: str | Path, images: str | Path | None = None, *, names: Sequence[str] | None = None
) -> Corrected:
    """Read an export.

    What nobody has looked at (Label Studio tasks without an annotation) is left out, and so are
    shapes other than boxes; the log says how many.

    Args:
        path: file, or folder of a YOLO or VOC data set.
        images: folder of the pictures; needed for Label Studio and CVAT, else by default beside the
            annotations.
        names: the classes and their order; by default those of the file.
    Raises:
        DataError: the file cannot be read, or has a class that is not in `names`.
        ConfigError: `images` is needed and not given.
    """
    path = Path(path)
    if path.suffix == ".xml":
        found, pictures, root = *read_cvat(path), _folder(images, path)
    elif path.suffix == ".json" and isinstance(content := read_json(path), list):
        root = _folder(images, path)
        pictures = list(read_label_studio(content, path, PictureFolder(root)))
        found = tuple(sorted({label.name for picture in pictures for label in picture.labels}))
    else:
        found, pictures, root = _read_known(path, images)
    seen: set[str] = set()
    for picture in pictures:
        if picture.picture in seen:
            raise DataError(f"{path}: picture {picture.picture} occurs twice")
        seen.add(picture.picture)
    pictures = _there(pictures, root, path)
    if names is not None and (unknown := [name for name in found if name not in names]):
        raise DataError(
            f"{path}: class {unknown[0]!r} is not among those asked for, {', '.join(names)}; add "
            "it, or correct it there"
        )
    ordered = tuple(sorted(pictures, key=lambda picture: picture.picture))
    return Corrected(tuple(names or found), ordered, root)


def _there(pictures: Sequence[Labelled], root: Path, path: Path) -> list[Labelled]:
    """The pictures that exist, with their boxes that have an extent; the log says what is left
    out.
    """
    known = open_pictures(root)
    there = [picture for picture in pictures if picture.picture in known]
    if len(there) < len(pictures):
        gone = next(picture.picture for picture in pictures if picture.picture not in known)
        message = f"{path}: {len(pictures) - len(there)} pictures are not in {root}, such as {gone}"
        if not there:
            raise DataError(f"{message}; say where they are (--images)")
        logger.warning("%s: left out", message)
    kept = [replace(p, labels=tuple(box for box in p.labels if min(box.sides) > 0)) for p in there]
    flat = sum(len(one.labels) - len(other.labels) for one, other in zip(there, kept, strict=True))
    if flat:
        logger.warning("%s: left out %d boxes without an extent", path, flat)
    return kept


def _folder(images: str | Path | None, path: Path) -> Path:
    if images is None:
        raise ConfigError(
            f"{path} does not say where its pictures are; pass their folder, --images"
        )
    return PictureFolder(images).root


def _read_known(
    path: Path, images: str | Path | None
) -> tuple[tuple[str, ...], list[Labelled], Path]:
    annotated = read_annotated(path, images)
    data = annotated.data
    if isinstance(data, GroundingData):
        raise DataError(f"{path} has captions, not classes; corrected labels have classes")
    pictures = []
    crowds = 0
    for record in data.records:
        crowds += int(record.crowd.sum())
        rows = (~record.crowd).nonzero()[0].tolist()
        boxes = record.boxes.tolist()
        labels = tuple(Label(data.names[record.labels[row]], tuple(boxes[row])) for row in rows)
        pictures.append(Labelled(record.file_name, record.image_hw, labels))
    if crowds:
        logger.warning("%s: left out %d boxes around crowds or difficult objects", path, crowds)
    return data.names, pictures, annotated.pictures.root
