"""Pascal VOC: an XML file for each picture; LabelMe's page writes much the same with polygons.

VOC counts pixels from 1 and the last one in: x1 = xmin - 1, x2 = xmax. Boxes marked as difficult
count as crowds, neither target nor mistake.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from glip.data.faults import Faults
from glip.data.formats.content import is_coordinate, read_text, read_xml
from glip.data.formats.entries import Entry, Request, Shape, annotated, whole_size
from glip.data.formats.layout import (
    DataSet,
    XmlFile,
    flat_name,
    place_picture,
    text_file,
    unused_name,
)
from glip.data.labels import Label, Labelled
from glip.data.pictures import PictureFolder
from glip.data.records import Annotated
from glip.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")
"""Of a box: left, top, right, bottom."""

FOLDERS = ("Annotations", "annotations")
"""Where the XML files are, if not beside the pictures."""

NO_CLASSES = frozenset(("background", "__background__"))
"""Lines of `labelmap.txt` that stand for the absence of a class."""


def xml_files(path: Path) -> list[Path]:
    """The XML files of a data set, or the one that was named, sub-folders with them."""
    if os.path.isfile(path):
        return [path]
    return sorted(_folder(path).rglob("*.xml"))


def read_voc(request: Request) -> Annotated:
    """Read `Annotations/*.xml` with `JPEGImages`, or both in one folder, or one XML file.

    Classes are in the order of `labelmap.txt`, if there is one, else as was asked for or by
    alphabet.

    Raises:
        DataError: a split is asked for that is not listed, or there is nothing.
    """
    path, faults = request.path, request.faults
    folder = _folder(path)
    files = xml_files(path)
    if request.split is not None:
        lines = _listed(path / "ImageSets" / "Main" / f"{request.split}.txt", path)
        names = {name for file in files for name in (file.stem, _below(file, folder))}
        wanted = {line if line in names else _without_flag(line) for line in lines}
        files = [file for file in files if {file.stem, _below(file, folder)} & wanted]
    entries = []
    for file in files:
        faults.count("files")
        try:
            entries.append(_entry(file, folder, faults))
        except DataError as error:
            faults.add("files", str(error))
    faults.close_if_nothing(entries)
    labelmap = path / "labelmap.txt"
    if request.classes is None and os.path.isfile(labelmap):
        request = replace(request, classes=_label_map(labelmap))
    beside = path / "JPEGImages"
    known = PictureFolder(beside) if request.images is None and os.path.isdir(beside) else None
    return annotated(request, entries, pictures=known)


def _folder(path: Path) -> Path:
    if os.path.isfile(path):
        return path.parent
    return next((path / name for name in FOLDERS if os.path.isdir(path / name)), path)


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _label_map(file: Path) -> tuple[str, ...]:
    """Names of `labelmap.txt`: "name:colour:parts:actions"."""
    lines = read_text(file).splitlines()
    names = [  # which may have colons themselves
        (line.rsplit(":", 3)[0] if line.count(":") > 3 else line.partition(":")[0]).strip()
        for line in lines
    ]
    return tuple(
        name for name in names if name and name[0] != "#" and name.lower() not in NO_CLASSES
    )


def _listed(file: Path, path: Path) -> set[str]:
    """The lines of an image set."""
    if not os.path.isfile(file):
        raise DataError(f"{file} does not exist; leave the split out to read all of {path}")
    return {line.strip() for line in read_text(file).splitlines()} - {""}


def _without_flag(line: str) -> str:
    """The picture of a line; sets of single classes say -1, 0 or 1 behind its name."""
    name, _, flag = line.rpartition(" ")
    return name.strip() if flag in ("-1", "0", "1") and name else line


def _entry(file: Path, folder: Path, faults: Faults) -> Entry:
    """What one XML file says; its picture may also go by the name of the file itself."""
    tree = read_xml(file)
    if tree.tag != "annotation":
        raise DataError(f"{file} is no Pascal VOC annotation: its root is <{tree.tag}>")
    size = tree.find("size")
    known = size if size is not None else tree
    below = PurePosixPath(_below(file, folder))
    named = (tree.findtext("filename") or "").strip()
    also = [named, str(below), below.name]
    if inside := (tree.findtext("folder") or "").strip():
        also.insert(0, f"{inside}/{named}")
    first = named if below.parent == PurePosixPath() else f"{below.parent}/{named or below.name}"
    return Entry(
        name=first or below.name,
        shapes=list(_shapes(tree, file, faults)),
        size=whole_size(known.findtext("width"), known.findtext("height")),
        also=tuple(name for name in also if name),
        where=str(file),
    )


def _shapes(tree: ElementTree.Element, file: Path, faults: Faults) -> Iterator[Shape]:
    for entry in tree.iter("object"):
        label = (entry.findtext("name") or "").strip()
        if (entry.findtext("deleted") or "").strip() == "1":  # as LabelMe's page keeps them
            continue
        shape = _box(entry, label) or _turned_box(entry, label) or _polygon(entry, label)
        if shape is None or not label:
            faults.count("boxes")
        if not label:
            faults.add("unknown categories", f"{file}: an object has no <name>")
        elif shape is None:
            faults.add("no boxes", f"{file}: an object {label!r} has no <bndbox> of four numbers")
        else:
            difficult = (entry.findtext("difficult") or "").strip()
            yield shape._replace(crowd=difficult == "1")


def _box(entry: ElementTree.Element, label: str) -> Shape | None:
    numbers = _numbers(entry.find("bndbox"), CORNERS)
    if numbers is None:
        return None
    (x1, x2), (y1, y2) = sorted(numbers[::2]), sorted(numbers[1::2])
    return Shape(label, [(x1 - 1, y1 - 1), (x2, y2)])


def _turned_box(entry: ElementTree.Element, label: str) -> Shape | None:
    """The boxes of roLabelImg: centre, size and an angle in radians."""
    numbers = _numbers(entry.find("robndbox"), ("cx", "cy", "w", "h", "angle"))
    if numbers is None:
        return None
    x, y, width, height, angle = numbers
    corners = [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
    return Shape(label, corners, degrees=math.degrees(angle))


def _polygon(entry: ElementTree.Element, label: str) -> Shape | None:
    """The polygons of LabelMe's page, counted from 0."""
    points = [_numbers(point, ("x", "y")) for point in entry.findall("polygon/pt")]
    known = [(point[0], point[1]) for point in points if point is not None]
    return Shape(label, known) if len(known) == len(points) > 1 else None


def _numbers(entry: ElementTree.Element | None, keys: Sequence[str]) -> list[float] | None:
    """Numbers of an element, None if one is missing or no coordinate."""
    if entry is None:
        return None
    try:
        values = [float(entry.findtext(key) or "") for key in keys]
    except ValueError:
        return None
    return values if all(map(is_coordinate, values)) else None


def write_voc(data: DataSet, folder: Path) -> None:
    """Write `Annotations`, `JPEGImages` and `ImageSets/Main`."""
    annotations = folder / "Annotations"
    lists = folder / "ImageSets" / "Main"
    annotations.mkdir()
    lists.mkdir(parents=True)
    with text_file(folder / "labelmap.txt") as file:  # datumaro asks for it
        file.write("# label:color_rgb:parts:actions\nbackground:0,0,0::\n")
        file.writelines(f"{name}:::\n" for name in data.names)
    for part in data.parts:
        with text_file(lists / f"{part or 'train'}.txt") as chosen:
            for picture in data.of(part):
                # VOC has one folder, so those below become part of the name; its lists of names
                # end them at a space.
                flat = PurePosixPath("_".join(str(flat_name(picture.picture)).split()))
                name = unused_name(flat, lambda p: annotations / f"{p.stem}.xml")
                with text_file(annotations / f"{name.stem}.xml", mode="x") as file:
                    _write_voc_file(data, picture, str(name), file)
                place_picture(data, picture.picture, folder / "JPEGImages" / name)
                chosen.write(f"{name.stem}\n")


def _write_voc_file(data: DataSet, picture: Labelled, name: str, file: TextIOWrapper) -> None:
    height, width = picture.image_hw
    xml = XmlFile(file)
    with xml.element("annotation"):
        xml.text("folder", "JPEGImages")
        xml.text("filename", name)
        xml.text("path", picture.picture)
        with xml.element("source"):
            xml.text("database", data.source)
        with xml.element("size"):
            for key, value in (("width", width), ("height", height), ("depth", 3)):
                xml.text(key, value)
        xml.text("segmented", 0)
        for label in picture.labels:
            _write_object(xml, label, picture.image_hw)


def _write_object(xml: XmlFile, label: Label, image_hw: tuple[int, int]) -> None:
    with xml.element("object"):
        xml.text("name", label.name)
        for key in ("pose", "truncated", "difficult"):
            xml.text(key, "Unspecified" if key == "pose" else 0)
        if label.score is not None:
            xml.text("score", label.score)
        with xml.element("bndbox"):
            corners = _voc_corners(label.box, image_hw)
            for key, value in zip(CORNERS, corners, strict=True):
                xml.text(key, value)


def _voc_corners(
    box: tuple[float, float, float, float], image_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """First and last pixel, counted from 1, in whole pixels as most readers take no others."""
    height, width = image_hw
    x1, y1 = min(round(box[0]), width - 1), min(round(box[1]), height - 1)
    return x1 + 1, y1 + 1, max(round(box[2]), x1 + 1), max(round(box[3]), y1 + 1)
