"""Which format an annotation file or folder has: what every command asks before it reads one.

* COCO, LVIS, MDETR, ODVG and COCO captions are files.
* ODinW and Roboflow exports are a folder with `_annotations.coco.json` beside its pictures.
* YOLO: `data.yaml` with the names, a text file of labels for each picture.
* Pascal VOC: an XML file for each picture.
* Flickr30k Entities: `Annotations` and `Sentences`.
* ODVG in several parts, as pseudo labels are written: a folder of `*.jsonl`. With `label_map.json`
  beside them the lines have class labels, without it captions.

The readers stand in a file for each format; the converters that could do it either ask for a
computer vision library or say less of what is wrong. Knows nothing about prompts or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glip.choices import Split
from glip.data.formats.coco import parse_detection, read_json
from glip.data.formats.flickr import read_flickr
from glip.data.formats.mdetr import parse_grounding
from glip.data.formats.odvg import read_odvg, read_odvg_detection
from glip.data.formats.voc import read_voc
from glip.data.formats.yolo import read_settings, read_yolo, settings_file_of
from glip.data.packed import Packed
from glip.data.pictures import pictures_for
from glip.data.records import Annotated, DetectionData, GroundingData
from glip.errors import DataError

Format = Literal["coco", "mdetr", "odvg", "odvg_labels", "yolo", "voc", "flickr"]
"""LVIS counts as "coco"; COCO captions as "mdetr", captions without boxes."""


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
    if settings_file_of(path) is not None:
        settings = read_settings(path)[1]
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
        if settings_file_of(path) is not None:
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


def read_grounding(path: str | Path) -> GroundingData:
    """Read MDETR or COCO caption JSON, ODVG JSON lines with captions (`.jsonl`), or a folder of the
    latter, whose parts are read by name.

    Boxes that are said to belong to no word are left out, with a note in the log.

    Raises:
        DataError: the file cannot be read, lacks a field, or a span lies outside its caption.
    """
    path = Path(path)
    if path.is_dir():
        parts = sorted(path.glob("*.jsonl"))
        if not parts:
            raise DataError(f"{path} holds no part of a grounding data set, *.jsonl")
        return GroundingData(path, Packed(chain.from_iterable(map(read_odvg, parts))))
    if path.suffix == ".jsonl":
        return GroundingData(path, Packed(read_odvg(path)))
    return parse_grounding(read_json(path), path)
