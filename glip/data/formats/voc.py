"""Pascal VOC: an XML file for each picture, pixels counted from 1."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree import ElementTree

from glip.choices import Split
from glip.data.formats.layout import (
    DataSet,
    XmlFile,
    detection_record,
    place_picture,
    text_file,
    unused_name,
)
from glip.data.labels import Labelled
from glip.data.packed import Packed
from glip.data.pictures import PictureFolder
from glip.data.records import Annotated, DetectionData
from glip.errors import DataError


def write_voc(data: DataSet, folder: Path) -> None:
    """Write `Annotations`, `JPEGImages` and `ImageSets/Main`."""
    annotations = folder / "Annotations"
    lists = folder / "ImageSets" / "Main"
    annotations.mkdir()
    lists.mkdir(parents=True)
    for part in data.parts:
        with text_file(lists / f"{part or 'train'}.txt") as chosen:
            for picture in data.of(part):
                # VOC has one folder, so those below become part of the name; its lists of names
                # end them at a space.
                flat = PurePosixPath("_".join(picture.picture.replace("/", "__").split()))
                name = unused_name(flat, lambda p: annotations / f"{p.stem}.xml")
                with text_file(annotations / f"{name.stem}.xml", mode="x") as file:
                    _write_voc_file(data, picture, str(name), file)
                place_picture(data, picture.picture, folder / "JPEGImages" / name)
                chosen.write(f"{name.stem}\n")


def _write_voc_file(data: DataSet, picture: Labelled, name: str, file: IO[str]) -> None:
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
            with xml.element("object"):
                xml.text("name", label.name)
                for key in ("pose", "truncated", "difficult"):
                    xml.text(key, "Unspecified" if key == "pose" else 0)
                if label.score is not None:
                    xml.text("score", label.score)
                with xml.element("bndbox"):
                    corners = _voc_corners(label.box, picture.image_hw)
                    for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                        xml.text(key, value)


def _voc_corners(
    box: tuple[float, float, float, float], image_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """First and last pixel, counted from 1, in whole pixels as most readers take no others."""
    height, width = image_hw
    x1, y1 = min(round(box[0]), width - 1), min(round(box[1]), height - 1)
    return x1 + 1, y1 + 1, max(round(box[2]), x1 + 1), max(round(box[3]), y1 + 1)


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
        detection_record(
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
