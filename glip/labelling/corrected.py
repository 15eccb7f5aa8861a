"""Labels that people have corrected, on their way back: exports of other tools -> pictures.

Reads Label Studio's JSON and JSON-MIN, "CVAT for images 1.1", and whatever
`glip.data.formats.recognise` reads (COCO, which FiftyOne, CVAT and Roboflow write, too; YOLO;
Pascal VOC).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from glip.data.formats.coco import read_json
from glip.data.formats.mdetr import GroundingData
from glip.data.formats.recognise import read_annotated
from glip.data.labels import Label, Labelled
from glip.data.pictures import PictureFolder, open_pictures
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
        found, pictures, root = *_read_cvat(path), _folder(images, path)
    elif path.suffix == ".json" and isinstance(content := read_json(path), list):
        root = _folder(images, path)
        pictures = list(_read_label_studio(content, path, PictureFolder(root)))
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


# CVAT


def _read_cvat(path: Path) -> tuple[tuple[str, ...], list[Labelled]]:
    """Class names and pictures of a "CVAT for images" file."""
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not valid XML: {error}") from error
    if root.tag != "annotations":
        raise DataError(f"{path} is no 'CVAT for images' file: its root is <{root.tag}>")
    names = [entry.text or "" for entry in root.findall("./meta//labels/label/name")]
    pictures = []
    others = 0
    for image in root.iter("image"):
        name = image.get("name", "")
        try:
            size = int(image.attrib["height"]), int(image.attrib["width"])
            labels = []
            for shape in image:
                if shape.tag != "box":
                    others += shape.tag != "tag"
                    continue
                x1, y1, x2, y2 = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
                turn = float(shape.get("rotation", "0"))
                box = _hull((x1, y1), (x2 - x1, y2 - y1), turn, ((x1 + x2) / 2, (y1 + y2) / 2))
                labels.append(Label(shape.attrib["label"], _clipped(box, size)))
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: image {name!r}: lacks or has a wrong {error}") from error
        names += [label.name for label in labels]
        pictures.append(Labelled(name, size, tuple(labels)))
    if others:
        logger.warning("%s: left out %d shapes that are no boxes", path, others)
    return tuple(dict.fromkeys(names)), pictures


# Label Studio


def _read_label_studio(
    tasks: Sequence[Any], path: Path, pictures: PictureFolder
) -> Iterator[Labelled]:
    unseen = others = 0
    for number, task in enumerate(tasks):
        where = f"{path}: task {task.get('id', number) if isinstance(task, Mapping) else number}"
        try:
            labelled, without_box = _label_studio_task(task, pictures, where)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where} is not as Label Studio exports it: {error!r}") from error
        others += without_box
        if labelled is None:
            unseen += 1
        else:
            yield labelled
    if unseen:
        logger.warning("%s: left out %d tasks that nobody has annotated", path, unseen)
    if others:
        logger.warning("%s: left out %d results that are no boxes", path, others)


def _label_studio_task(
    task: Mapping[str, Any], pictures: PictureFolder, where: str
) -> tuple[Labelled | None, int]:
    """The picture of a task, None if nobody has annotated it, and how many results are no boxes."""
    if not isinstance(task, Mapping):
        raise DataError(f"{where} is not an object")
    results = _results(task)
    if results is None:
        return None, 0
    name = _picture_name(task.get("data", task), pictures, where)
    size = next(
        (
            (int(r["original_height"]), int(r["original_width"]))
            for r in results
            if r.get("original_height") and r.get("original_width")
        ),
        None,
    )
    size = size or pictures.size_hw(name)
    labels: list[Label] = []
    others = 0
    for result in results:
        value = result.get("value", result)
        if "rectanglelabels" not in value:
            others += 1
            continue
        box = _percent_box(value, size, where)
        labels += [Label(str(label), box) for label in value["rectanglelabels"]]
    return Labelled(name, size, tuple(labels)), others


def _results(task: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """What the last person who submitted a task left there; None if nobody has."""
    if "annotations" in task:
        submitted = [a for a in task["annotations"] if not a.get("was_cancelled")]
        if not submitted:
            return None
        newest = max(submitted, key=lambda a: str(a.get("updated_at", "")))
        return list(newest["result"])
    if "predictions" in task:  # a task as it was made
        return None
    # JSON-MIN: results under the name that the labelling set-up gives them, none if there are none.
    return [
        result
        for value in task.values()
        if isinstance(value, list)
        for result in value
        if isinstance(result, Mapping)
    ]


def _picture_name(data: Mapping[str, Any], pictures: PictureFolder, where: str) -> str:
    """As it was written, or else what of the address is a picture in the folder."""
    if data.get("file_name"):
        return str(data["file_name"])
    address = str(data.get("image", ""))
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].strip("/")
    pieces = path.split("/")
    for first in range(len(pieces)):
        name = "/".join(pieces[first:])
        if name and name in pictures:
            return name
    raise DataError(f"{where}: no picture in {pictures.root} fits its address {address!r}")


def _percent_box(
    value: Mapping[str, Any], image_hw: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
        turn = float(value.get("rotation", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: a box lacks or has a wrong {error}") from error
    across, down = image_hw[1] / 100, image_hw[0] / 100
    corner = x * across, y * down
    box = _hull(corner, (width * across, height * down), turn, corner)
    return _clipped(box, image_hw)


# Both


def _hull(
    corner: tuple[float, float],
    sides: tuple[float, float],
    degrees: float,
    pivot: tuple[float, float],
) -> tuple[float, float, float, float]:
    """The upright box, xyxy, around one that is turned clockwise about a point."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    xs, ys = [], []
    for right in (0, sides[0]):
        for down in (0, sides[1]):
            x, y = corner[0] + right - pivot[0], corner[1] + down - pivot[1]
            xs.append(pivot[0] + x * cosine - y * sine)
            ys.append(pivot[1] + x * sine + y * cosine)
    return min(xs), min(ys), max(xs), max(ys)


def _clipped(
    box: tuple[float, float, float, float], image_hw: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Inside the picture, in thousandths of a pixel.

    Raises:
        ValueError: A corner is no number.
    """
    if not all(map(math.isfinite, box)):
        raise ValueError(f"corner in the box {box}")
    height, width = image_hw
    x1, y1, x2, y2 = box
    return (
        round(min(max(x1, 0), width), 3),
        round(min(max(y1, 0), height), 3),
        round(min(max(x2, 0), width), 3),
        round(min(max(y2, 0), height), 3),
    )
