"""Which format an annotation file or folder has, and readers for those that are folders.

* COCO, LVIS, MDETR, ODVG and COCO captions are files (`detection.py`, `grounding.py`).
* ODinW and Roboflow exports are a folder with `_annotations.coco.json` beside its pictures.
* YOLO: `data.yaml` with the names, a text file of labels for each picture.
* Pascal VOC: an XML file for each picture.
* Flickr30k Entities: `Annotations` and `Sentences` (`flickr.py`).
* ODVG in several parts, as pseudo labels are written: a folder of `*.jsonl`. With `label_map.json`
  beside them the lines have class labels, without it captions.

YOLO and VOC are read here, in a page, as the converters that could do it either ask for a computer
vision library or say less of what is wrong. Knows nothing about prompts or tokens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree

import numpy as np
import yaml

from glip.data.formats.coco import DetectionData, DetectionRecord, parse_detection, read_json
from glip.data.formats.flickr import read_flickr
from glip.data.formats.mdetr import (
    GroundingData,
    parse_grounding,
    read_grounding,
    read_odvg_detection,
)
from glip.data.packed import Packed
from glip.data.pictures import PictureFolder, Pictures, pictures_for
from glip.errors import DataError

Format = Literal["coco", "mdetr", "odvg", "odvg_labels", "yolo", "voc", "flickr"]
"""LVIS counts as "coco"; COCO captions as "mdetr", captions without boxes."""

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Annotated:
    """Annotations together with their pictures."""

    data: DetectionData | GroundingData
    pictures: Pictures


def read_annotated(
    path: str | Path,
    images: str | Path | None = None,
    *,
    split: Split | None = None,
    label_map: str | Path | None = None,
) -> Annotated:
    """Read annotations in any format that is known, and find their pictures.

    Args:
        path: a file or folder, see the head of this module.
        images: folder or uncompressed tar with the pictures; by default beside the annotations.
        split: part of a YOLO, VOC or Flickr30k folder; by default all of it.
        label_map: names of the labels of an ODVG file, where they are not beside it.
    Raises:
        DataError: no known format, or what its reader says.
    """
    path = annotations_in(Path(path))
    kind, content = recognise(path)
    if kind == "yolo":
        return read_yolo(path, split=split)
    if kind == "voc":
        return read_voc(path, split=split)
    data: DetectionData | GroundingData
    if kind == "flickr":
        data = read_flickr(path, split=split).grounding()
    elif kind == "odvg_labels" or label_map is not None:
        data = read_odvg_detection(path, label_map or label_map_of(path))
    elif kind == "odvg":
        data = read_grounding(path)
    elif kind == "coco":
        data = parse_detection(content, path)
    else:
        data = parse_grounding(content, path)
    some = [data.records[row].file_name for row in range(min(10, len(data)))]
    return Annotated(data, pictures_for(path, images, some))


def label_map_of(path: Path) -> Path:
    """Where the names of the labels of an ODVG file or folder are by habit."""
    return (path if path.is_dir() else path.parent) / "label_map.json"


PATTERNS = ("{}/_annotations.coco.json", "{}.json", "annotations/{}.json", "{}.jsonl")
"""Annotations of a part of a folder, by the name of the part."""


class Part(NamedTuple):
    """Some or all of a data set, as `read_annotated` takes it."""

    path: Path
    split: Split | None = None


def annotations_in(path: Path) -> Path:
    """The one COCO file of an ODinW or Roboflow folder; any other path as it is.

    Raises:
        DataError: the path does not exist.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    exported = path / "_annotations.coco.json"
    return exported if exported.is_file() else path


def train_and_val(path: str | Path) -> tuple[Part, Part | None]:
    """The parts of a data set to train on and to evaluate on, if it says which is which.

    Known are `train` and `valid` folders as Roboflow and ODinW have them, `train.json` and
    `val.json` or `.jsonl`, and the splits of YOLO and VOC.

    Args:
        path: Anything that `read_annotated` takes, or a folder with two of them.
    Returns:
        The part to train on, or the whole where nothing is said of parts; and None where there is
        no part to evaluate on.
    Raises:
        DataError: the path does not exist.
    """
    path = Path(path)
    whole = annotations_in(path)
    if not path.is_dir() or whole != path:
        return Part(path), None
    for held_out in ("valid", "val", "validation"):
        for pattern in PATTERNS:
            files = [path / pattern.format(name) for name in ("train", held_out)]
            if all(file.is_file() for file in files):
                return Part(files[0]), Part(files[1])
    for pattern in PATTERNS:
        alone = path / pattern.format("train")
        if alone.is_file():
            return Part(alone), None
    splits: tuple[Split, Split] = ("train", "val")
    if _yolo_file(path) is not None:
        settings = _yolo_settings(path)[1]
        parted = all(settings.get(split) for split in splits)
    else:
        parted = all((path / "ImageSets" / "Main" / f"{s}.txt").is_file() for s in splits)
    return (Part(path, "train"), Part(path, "val")) if parted else (Part(path), None)


def recognise(path: Path) -> tuple[Format, Any]:
    """The format of a path, and its content where it is a JSON file.

    Raises:
        DataError: none of the known ones.
    """
    if path.is_dir():
        if _yolo_file(path) is not None:
            return "yolo", None
        if (path / "Annotations").is_dir() and (path / "Sentences").is_dir():
            return "flickr", None
        if next(path.glob("*.jsonl"), None) is not None:
            return _odvg_kind(path), None
        folder = path / "Annotations"
        if next((folder if folder.is_dir() else path).glob("*.xml"), None) is not None:
            return "voc", None
        raise DataError(
            f"{path} is no data set that is known: no _annotations.coco.json (ODinW), data.yaml "
            "(YOLO), *.xml (VOC), *.jsonl (ODVG), or Annotations and Sentences (Flickr30k "
            "Entities); pass an annotation file"
        )
    if path.suffix == ".jsonl":
        return _odvg_kind(path), None
    if path.suffix in (".yaml", ".yml"):
        raise DataError(f"{path}: for a YOLO data set pass its folder, {path.parent}")
    content = read_json(path)
    return ("mdetr" if _has_captions(content) else "coco"), content


def _odvg_kind(path: Path) -> Format:
    return "odvg_labels" if label_map_of(path).is_file() else "odvg"


def _has_captions(content: Any) -> bool:
    """Whether the first image or the first annotation has one."""
    if not isinstance(content, Mapping):
        return False
    lists = [content.get(key) for key in ("images", "annotations")]
    return any(
        isinstance(entries, list)
        and bool(entries)
        and isinstance(entries[0], Mapping)
        and "caption" in entries[0]
        for entries in lists
    )


def read_yolo(folder: str | Path, *, split: Split | None = None) -> Annotated:
    """Read a YOLO data set: `data.yaml`, and "class x y width height" in shares of the picture.

    Pictures lie in the folders that `data.yaml` names for `train`, `val` and `test`, or else below
    `images`; the labels of `…/images/a.jpg` are `…/labels/a.txt`. No file, or an empty one, says
    that there is nothing of any class.

    Args:
        folder: with `data.yaml`.
        split: of those that `data.yaml` names.
    Raises:
        DataError: a file is missing or a line is not five numbers.
        ImageError: the size of a picture cannot be read.
    """
    folder = Path(folder)
    settings_file, settings, names = _yolo_settings(folder)
    rows = {number: row for row, number in enumerate(sorted(names))}
    named = [key for key in ("train", "val", "test") if settings.get(key)]
    if split is not None and split not in named:
        raise DataError(
            f"{settings_file} names no pictures for {split}, "
            + (f"only for {', '.join(named)}" if named else "nor for any split; leave it out")
        )
    wanted = named if split is None else [split]
    roots = [root for key in wanted for root in _yolo_folders(folder, settings, key)]
    roots = list(dict.fromkeys(roots)) or [folder / "images"]
    for root in roots:
        if not root.is_dir():
            raise DataError(f"{settings_file}: picture folder {root} does not exist")
    # `path:` may lead anywhere; pictures are named from a folder that holds them all.
    if not all(root.is_relative_to(folder) for root in roots):
        folder = Path(os.path.commonpath([os.path.abspath(root) for root in roots]))
        roots = [Path(os.path.abspath(root)) for root in roots]
    pictures = PictureFolder(folder)
    records: list[DetectionRecord] = []
    for root in roots:
        for name in PictureFolder(root).names():
            picture = root / name
            file_name = picture.relative_to(folder).as_posix()
            height, width = pictures.size_hw(file_name)
            boxes, labels = [], []
            for line, (number, x, y, w, h) in _yolo_lines(_label_file(picture)):
                if number not in rows:
                    raise DataError(f"{line}: class {number:g} is not in {settings_file}")
                boxes.append(
                    [
                        (x - w / 2) * width,
                        (y - h / 2) * height,
                        (x + w / 2) * width,
                        (y + h / 2) * height,
                    ]
                )
                labels.append(rows[int(number)])
            records.append(_record(len(records) + 1, file_name, (height, width), boxes, labels))
    numbers = sorted(names)
    data = DetectionData(
        settings_file.parent, tuple(str(names[n]) for n in numbers), tuple(numbers), Packed(records)
    )
    return Annotated(data, pictures)


def read_voc(folder: str | Path, *, split: Split | None = None) -> Annotated:
    """Read a Pascal VOC data set: `Annotations/*.xml` and `JPEGImages`, or both in one folder.

    VOC counts pixels from 1 and the last one in: x1 = xmin - 1, x2 = xmax. Boxes marked
    as difficult count as crowds, neither target nor mistake. Classes are in alphabetical order.

    Args:
        folder: as above.
        split: of those in `ImageSets/Main`.
    Raises:
        DataError: a file is missing, or an XML file lacks a field.
    """
    folder = Path(folder)
    where = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    files = sorted(where.glob("*.xml"))
    if split is not None:
        chosen = folder / "ImageSets" / "Main" / f"{split}.txt"
        if not chosen.is_file():
            raise DataError(f"{chosen} does not exist; leave the split out to read all of {folder}")
        stems = {_in_image_set(line) for line in chosen.read_text().splitlines() if line.strip()}
        files = [file for file in files if file.stem in stems]
    parsed = [_voc_file(file) for file in files]
    names = sorted({name for _, _, objects in parsed for name, _, _ in objects})
    rows = {name: row for row, name in enumerate(names)}
    pictures = PictureFolder(folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder)
    records = [
        _record(
            number,
            file_name,
            size,
            [box for _, box, _ in objects],
            [rows[name] for name, _, _ in objects],
            [difficult for _, _, difficult in objects],
        )
        for number, (file_name, size, objects) in enumerate(parsed, start=1)
    ]
    return Annotated(
        DetectionData(folder, tuple(names), tuple(range(1, len(names) + 1)), Packed(records)),
        pictures,
    )


def _record(
    number: int,
    file_name: str,
    image_hw: tuple[int, int],
    boxes: list[list[float]],
    labels: list[int],
    crowd: list[bool] | None = None,
) -> DetectionRecord:
    return DetectionRecord(
        image_id=number,
        file_name=file_name,
        image_hw=image_hw,
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd or [False] * len(labels), dtype=np.bool_),
    )


def _yolo_file(folder: Path) -> Path | None:
    """The settings of a YOLO data set, if the folder is one."""
    files = (folder / "data.yaml", folder / "data.yml")
    return next((file for file in files if file.is_file()), None)


def _yolo_settings(folder: Path) -> tuple[Path, Mapping[str, Any], dict[int, Any]]:
    """The settings file of a YOLO folder, its content, and the names by number."""
    file = _yolo_file(folder)
    if file is None:
        raise DataError(f"{folder} has no data.yaml with the names of its classes")
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = settings["names"]
        if isinstance(names, list):
            return file, settings, dict(enumerate(names))
        return file, settings, {int(number): name for number, name in names.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file}: needs 'names', a list of class names") from error


def _yolo_folders(folder: Path, settings: Mapping[str, Any], key: str) -> list[Path]:
    """The picture folders of a split; Roboflow writes them relative to a place that is not
    there.
    """
    values = settings[key] if isinstance(settings[key], list) else [settings[key]]
    base = folder / str(settings.get("path") or "")
    found = []
    for value in values:
        tries = [base / value, folder / value, folder / str(value).removeprefix("../")]
        found.append(next((place for place in tries if place.is_dir()), tries[-1]))
    return found


def _label_file(picture: Path) -> Path:
    """`labels` instead of the last `images` of the path, or else beside the picture."""
    parts = list(picture.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _yolo_lines(path: Path) -> list[tuple[str, tuple[float, float, float, float, float]]]:
    """Where each line stands and its five numbers; of a polygon its box."""
    if not path.is_file():
        return []
    lines = []
    for row, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            number, *values = map(float, line.split())
        except ValueError as error:
            raise DataError(f"{path}:{row} is not numbers: {line!r}") from error
        if len(values) >= 6 and len(values) % 2 == 0:
            xs, ys = values[::2], values[1::2]
            x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
            values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        if len(values) != 4:
            raise DataError(f"{path}:{row} is not 'class x y width height': {line!r}")
        x, y, w, h = values
        lines.append((f"{path}:{row}", (number, x, y, w, h)))
    return lines


def _in_image_set(line: str) -> str:
    """The picture that a line of an image set names; those of single classes say -1, 0 or 1 too."""
    name, _, flag = line.strip().rpartition(" ")
    return name.strip() if flag in ("-1", "0", "1") and name else line.strip()


def _voc_file(
    path: Path,
) -> tuple[str, tuple[int, int], list[tuple[str, list[float], bool]]]:
    """Picture, its height and width, and (name, xyxy, difficult) of each object."""
    try:
        tree = ElementTree.parse(path).getroot()
        size = tree.find("size")
        name = tree.findtext("filename") or f"{path.stem}.jpg"
        if size is None:
            raise DataError(f"{path} has no <size>")
        image_hw = int(size.findtext("height", "")), int(size.findtext("width", ""))
        objects = []
        for entry in tree.iter("object"):
            corners = entry.find("bndbox")
            if corners is None:
                raise DataError(f"{path}: an object has no <bndbox>")
            x1, y1, x2, y2 = (
                float(corners.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            difficult = entry.findtext("difficult", "0").strip() == "1"
            label = entry.findtext("name", "").strip()
            if not label:
                raise DataError(f"{path}: an object has no <name>")
            objects.append((label, [x1 - 1, y1 - 1, x2, y2], difficult))
    except (ElementTree.ParseError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no Pascal VOC annotation: {error}") from error
    return name, image_hw, objects
