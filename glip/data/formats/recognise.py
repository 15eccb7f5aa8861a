"""Which format an annotation file or folder has: what every command asks before it reads one.

* Files: COCO, LVIS, MDETR and COCO captions, ODVG lines, CVAT's XML, one of VOC, Label Studio's
  JSON, CreateML, LabelMe, a CSV table, the settings of a YOLO data set, and a zip of anything.
* Folders: those that ODinW, Roboflow, FiftyOne, datumaro, CVAT and Label Studio write, COCO's own
  (`annotations` beside the pictures), YOLO and darknet, Pascal VOC, LabelMe, Flickr30k Entities,
  and ODVG in parts (with `label_map.json` beside them the lines have class labels).
* A folder of parts, such as `train` and `valid`: each one of the above.

The readers stand in a file for each format; the converters that could do it either ask for a
computer vision library or say less of what is wrong. Knows nothing about prompts or tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glip.choices import Split
from glip.data.faults import MAX_BAD, Faults
from glip.data.formats.archive import is_archive, unpacked
from glip.data.formats.coco import read_coco
from glip.data.formats.content import check_file, read_json, read_xml
from glip.data.formats.createml import is_createml, read_createml
from glip.data.formats.cvat import read_cvat
from glip.data.formats.entries import Request
from glip.data.formats.flickr import read_flickr_captions
from glip.data.formats.folders import PART_FOLDERS
from glip.data.formats.joining import joined
from glip.data.formats.label_studio import is_label_studio, read_label_studio
from glip.data.formats.labelme import is_labelme, read_labelme
from glip.data.formats.mdetr import has_captions, parse_grounding, read_mdetr
from glip.data.formats.odvg import read_odvg, read_odvg_captions
from glip.data.formats.table import read_table
from glip.data.formats.voc import read_voc
from glip.data.formats.yolo import read_listing, read_yolo, settings_file_of
from glip.data.records import Annotated, GroundingData
from glip.errors import DataError

Format = Literal[
    "coco", "mdetr", "odvg", "yolo", "voc", "flickr", "cvat", "label studio", "labelme",
    "createml", "table",
]  # fmt: skip
"""LVIS counts as "coco"; COCO captions as "mdetr", captions without boxes."""

READERS: Mapping[Format, Callable[[Request], Annotated]] = {
    "coco": read_coco,
    "mdetr": read_mdetr,
    "odvg": read_odvg,
    "yolo": read_yolo,
    "voc": read_voc,
    "flickr": read_flickr_captions,
    "cvat": read_cvat,
    "label studio": read_label_studio,
    "labelme": read_labelme,
    "createml": read_createml,
    "table": read_table,
}

DIVIDED: frozenset[Format] = frozenset({"yolo", "voc", "flickr"})
"""Formats that say of one file or folder which pictures belong to which part."""

PATTERNS = (
    "{}/annotations_without_background.json",
    "{}_annotations_without_background.json",
    "{}/_annotations.coco.json",
    "{}.json",
    "annotations/{}.json",
    "{}.jsonl",
    "annotations/instances_{}.json",
    "annotations/instances_{}2017.json",
    "{}/labels.json",
    "{}/_annotations.createml.json",
    "{}/_annotations.csv",
    "{}.csv",
    "{}.xml",
)
"""Annotations of a part of a folder, by the name of the part."""

WHOLE = (
    "annotations_without_background.json",
    "_annotations.coco.json",
    "labels.json",
    "result.json",
    "_annotations.createml.json",
    "annotations.xml",
    "_annotations.csv",
)
"""Files that hold the annotations of their whole folder, by the habit of some tool."""

MOST_FOLDERS = 2_000
"""Folders that are looked through to find out what a folder is."""

OTHERS: Mapping[str, str] = {
    ".tfrecord": "a TensorFlow record; export the data set as COCO",
    ".tfrecords": "a TensorFlow record; export the data set as COCO",
    ".parquet": "a Parquet table; write its rows as COCO",
    ".arrow": "an Arrow table; write its rows as COCO",
    ".mat": "a MATLAB file; write its boxes as COCO",
    ".xlsx": "a spreadsheet; save it as CSV",
    ".tar": "a tar, which holds pictures; name the annotations, and the tar as --images",
    ".gz": "packed; unpack it",
    ".7z": "packed; unpack it",
    ".rar": "packed; unpack it",
    ".txt": "a text file; of YOLO pass the folder of the data set or its data.yaml, and convert "
    "KITTI, WIDER FACE and others to COCO",
}
"""What else people have, and the way out."""


class Part(NamedTuple):
    """Some or all of a data set, as `read_annotated` takes it."""

    path: Path
    split: Split | None = None


def read_annotated(
    path: str | Path,
    images: str | Path | None = None,
    *,
    split: Split | None = None,
    label_map: str | Path | None = None,
    classes: Sequence[str] | None = None,
    max_bad: float = MAX_BAD,
) -> Annotated:
    """Read annotations in any format that is known, and find their pictures.

    Entries that cannot be used are left out; the log says which.

    Args:
        path: a file or folder, see the head of this module.
        images: folder or uncompressed tar with the pictures; by default beside the annotations.
        split: part of a folder, or of a file, that has several; by default all of it.
        label_map: names of the labels of an ODVG file, where they are not beside it.
        classes: order of the classes, for formats that have no list of them.
        max_bad: share of the entries that may be left out.
    Raises:
        DataError: no known format, no such part, too much is left out, or what its reader says.
    """
    faults = Faults(Path(path), max_bad)
    found = read_with_faults(
        path, images, faults, split=split, label_map=label_map, classes=classes
    )
    faults.close()
    return found


def read_with_faults(
    path: str | Path,
    images: str | Path | None,
    faults: Faults,
    *,
    split: Split | None = None,
    label_map: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> Annotated:
    """`read_annotated` for who wants to judge by himself what is left out."""
    whole = data_set_at(Path(path))
    parts = parts_of(whole)
    own = {part: place for part, place in parts.items() if place.path != whole}
    chosen = [Part(whole, split)]
    if own and split is not None:
        if split not in own:
            raise DataError(f"{whole} has no part {split}, only {', '.join(own)}")
        chosen = [own[split]]
    elif own:
        chosen = list(own.values())
    read = []
    for place in chosen:
        request = Request(
            path=data_set_at(place.path),
            faults=faults,
            images=None if images is None else Path(images),
            split=place.split,
            classes=None if classes is None else tuple(classes),
            label_map=None if label_map is None else Path(label_map),
        )
        kind, content = recognise(request.path)
        if label_map is not None:
            kind = "odvg"
        if request.split is not None and kind not in DIVIDED:
            raise DataError(
                f"{request.path} has no part {request.split}, it is read as a whole: leave the "
                "split out, or name the file or folder of that part"
            )
        read.append(READERS[kind](_with_content(request, content)))
    return read[0] if len(read) == 1 else joined(whole, read, faults)


def _with_content(request: Request, content: Any) -> Request:
    return Request(
        request.path,
        request.faults,
        request.images,
        request.split,
        request.classes,
        request.label_map,
        content,
    )


def read_grounding(path: str | Path) -> GroundingData:
    """Read MDETR or COCO caption JSON, ODVG JSON lines with captions (`.jsonl`), or a folder of the
    latter, whose parts are read by name; without looking for pictures.

    Raises:
        DataError: the file cannot be read, or too much of it is left out.
    """
    path = Path(path)
    if os.path.isdir(path) or path.suffix == ".jsonl":
        return read_odvg_captions(path)
    return parse_grounding(read_json(path), path)


def data_set_at(path: Path) -> Path:
    """The file or folder to read: that of a zip is unpacked, that of a folder may be a file in it.

    Raises:
        DataError: the path does not exist.
    """
    if is_archive(path):
        path = unpacked(path)
    if not os.path.isdir(path):
        check_file(path)
        return path
    found = (path / name for name in WHOLE if os.path.isfile(path / name))
    return next(found, None) or _only_json(path) or path


def _only_json(path: Path) -> Path | None:
    """The one JSON file of a folder that has no other annotations, as many exports have one."""
    others = (one for p in ("*.jsonl", "*.xml", "Annotations") for one in path.glob(p))
    if settings_file_of(path) is not None or not all(map(_is_view, others)):
        return None
    for pattern in ("annotations/instances_*.json", "annotations/*.json", "*.json"):
        files = list(islice(path.glob(pattern), 2))
        if files:
            named = any(files[0].stem in names for names in PART_FOLDERS.values())
            return files[0] if len(files) == 1 and not named else None
    return None


def train_and_val(path: str | Path) -> tuple[Part, Part | None]:
    """The parts of a data set to train on and to evaluate on, if it says which is which.

    Args:
        path: Anything that `read_annotated` takes.
    Returns:
        The part to train on, or the whole where nothing is said of parts; and None where there is
        no part to evaluate on.
    Raises:
        DataError: the path does not exist.
    """
    path = Path(path)
    parts = parts_of(data_set_at(path))
    if "train" not in parts:
        return Part(path), None
    alone = parts["train"].path == path and "val" not in parts
    return (Part(path) if alone else parts["train"]), parts.get("val")


def evaluated_part(path: str | Path, split: Split | None = None) -> Part:
    """The part of a data set to evaluate on: what was asked for, else what it holds out, else all.

    Raises:
        DataError: the path does not exist.
    """
    held_out = train_and_val(path)[1]
    return held_out if split is None and held_out is not None else Part(Path(path), split)


def parts_of(path: Path) -> dict[Split, Part]:
    """The parts that a folder names: files or folders of their own, or splits of its format."""
    if not os.path.isdir(path):
        return {}
    for val in PART_FOLDERS["val"]:
        names: dict[Split, str] = {"train": "train", "val": val, "test": "test"}
        for pattern in PATTERNS:
            files: dict[Split, Path] = {
                split: path / pattern.format(name) for split, name in names.items()
            }
            found = {split: Part(file) for split, file in files.items() if os.path.isfile(file)}
            if {"train", "val"} <= found.keys():
                return found
    for pattern in PATTERNS:
        alone = path / pattern.format("train")
        if os.path.isfile(alone):
            return {"train": Part(alone)}
    splits = _splits(path)
    if splits:
        return {split: Part(path, split) for split in splits}
    return _folders(path)


def _splits(path: Path) -> list[Split]:
    """Those of YOLO's settings, or of VOC's image sets."""
    if (file := settings_file_of(path)) is not None:
        try:
            listing = read_listing(file)
        except DataError:  # its reader says what is wrong
            return []
        return [split for split in PART_FOLDERS if split in listing.parts]
    lists = path / "ImageSets" / "Main"
    return [split for split in PART_FOLDERS if os.path.isfile(lists / f"{split}.txt")]


def _folders(path: Path) -> dict[Split, Part]:
    """Folders `train` and `valid` that are data sets themselves."""
    found: dict[Split, Part] = {}
    for split, names in PART_FOLDERS.items():
        for name in names:
            if os.path.isdir(path / name) and split not in found and _is_known(path / name):
                found[split] = Part(path / name)
    return found if {"train", "val"} <= found.keys() else {}


def _is_known(path: Path) -> bool:
    try:
        recognise(data_set_at(path))
    except DataError:
        return False
    return True


def recognise(path: Path) -> tuple[Format, Any]:
    """The format of a path, and its content where it is a JSON file.

    Raises:
        DataError: none of the known ones.
    """
    if os.path.isdir(path):
        return _folder_format(path), None
    suffix = path.suffix.lower().partition("-")[0]  # shards are called x.tfrecord-00000-of-00010
    if suffix in OTHERS and not is_settings_file_name(path):
        raise DataError(f"{path} is {OTHERS[suffix]}")
    if suffix == ".jsonl":
        return _lines_format(path), None
    if suffix == ".xml":
        return _xml_format(path), None
    if suffix in (".csv", ".tsv"):
        return "table", None
    if suffix in (".yaml", ".yml", ".data") or is_settings_file_name(path):
        return "yolo", None
    content = read_json(path)
    return _json_format(path, content), content


def is_settings_file_name(path: Path) -> bool:
    """Whether a text file is a list of classes."""
    return path.name in ("classes.txt", "obj.names")


def _folder_format(path: Path) -> Format:
    if settings_file_of(path) is not None:
        return "yolo"
    if os.path.isdir(path / "Annotations") and os.path.isdir(path / "Sentences"):
        return "flickr"
    if (first := next(path.glob("*.jsonl"), None)) is not None:
        return _lines_format(first) and "odvg"
    annotations = (file for file in _some(path, ".xml") if not _is_view(file))
    if (first := next(annotations, None)) is not None:
        return _xml_format(first)
    if any(is_labelme(_quietly(file)) for file in islice(_some(path, ".json"), 10)):
        return "labelme"
    raise DataError(
        f"{path} is no data set that is known: no _annotations.coco.json (ODinW, Roboflow), "
        "annotations/instances_train.json (COCO), data.yaml or obj.data (YOLO), *.xml (VOC, CVAT), "
        "*.json (LabelMe), *.jsonl (ODVG), or Annotations and Sentences (Flickr30k Entities); pass "
        "an annotation file (glip label makes one of photos alone)"
    )


def _some(path: Path, suffix: str) -> Iterator[Path]:
    """Files of a kind below a folder, but not of all that a disk may hold."""
    for place, _, names in islice(os.walk(path), MOST_FOLDERS):
        yield from (Path(place, name) for name in sorted(names) if name.endswith(suffix))


def _is_view(file: Path) -> bool:
    """Whether a file says how Label Studio shows its tasks, as its exports have one beside them."""
    try:
        return file.suffix == ".xml" and read_xml(file).tag == "View"
    except DataError:
        return False


def _quietly(file: Path) -> Any:
    try:
        return read_json(file)
    except DataError:
        return None


def _lines_format(path: Path) -> Format:
    if path.name == "metadata.jsonl":
        raise DataError(
            f"{path} is an image folder of Hugging Face's datasets; write its boxes as COCO"
        )
    return "odvg"


def _xml_format(path: Path) -> Format:
    try:
        root = read_xml(path)
    except DataError:
        return "voc"  # one damaged file of many; its reader counts it
    return "cvat" if root.tag == "annotations" else "voc"


def _json_format(path: Path, content: Any) -> Format:
    """By what is in it.

    Raises:
        DataError: something that is known, but not read.
    """
    if is_label_studio(content):
        return "label studio"
    if is_createml(content):
        return "createml"
    if is_labelme(content):
        return "labelme"
    if isinstance(content, Mapping) and "images" not in content:
        values = list(islice(content.values(), 5))
        if "_via_img_metadata" in content or any(
            isinstance(value, Mapping) and "regions" in value for value in values
        ):
            raise DataError(f"{path} is a project of the VGG Image Annotator; export it as COCO")
        if "items" in content and "categories" in content:
            raise DataError(f"{path} is datumaro's own format; export it as COCO")
        if {"objects", "size"} <= content.keys() or {"classes", "tags"} <= content.keys():
            raise DataError(f"{path} is in Supervisely's format; export it as COCO")
        if {"classes", "labels"} <= content.keys() or "samples" in content:
            raise DataError(f"{path} is in FiftyOne's own format; export it as COCO")
        if "assets" in content:
            raise DataError(f"{path} is a project of VoTT; export it as Pascal VOC")
    return "mdetr" if has_captions(content) else "coco"
