"""CVAT's "CVAT for images 1.1": one XML file with the boxes of many pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from xml.etree import ElementTree

from glip.data.formats.layout import DataSet, XmlFile, clipped, hull, place_all, text_file
from glip.data.labels import Label, Labelled
from glip.errors import DataError

logger = logging.getLogger(__name__)

CORNERS = ("xtl", "ytl", "xbr", "ybr")
"""Of a box: left, top, right, bottom."""


def write_cvat(data: DataSet, folder: Path) -> None:
    """Write `annotations.xml`, or one for each part."""
    for part in data.parts:
        with text_file(folder / f"{part or 'annotations'}.xml") as file:
            xml = XmlFile(file)
            with xml.element("annotations"):
                xml.text("version", "1.1")
                with xml.element("meta"), xml.element("task"), xml.element("labels"):
                    for name in data.names:
                        _write_class(xml, name)
                for number, picture in enumerate(data.of(part)):
                    _write_image(xml, number, picture)
    place_all(data, folder)


def _write_class(xml: XmlFile, name: str) -> None:
    with xml.element("label"):
        xml.text("name", name)
        xml.text("type", "rectangle")
        with xml.element("attributes"), xml.element("attribute"):
            xml.text("name", "score")
            xml.text("mutable", "False")
            xml.text("input_type", "text")
            xml.text("default_value")
            xml.text("values")


def _write_image(xml: XmlFile, number: int, picture: Labelled) -> None:
    height, width = picture.image_hw
    with xml.element("image", id=number, name=picture.picture, width=width, height=height):
        for label in picture.labels:
            source = "manual" if label.score is None else "auto"
            corners = dict(zip(CORNERS, label.box, strict=True))
            with xml.element(
                "box", label=label.name, source=source, occluded=0, **corners, z_order=0
            ):
                if label.score is not None:
                    xml.text("attribute", label.score, name="score")


def read_cvat(path: Path) -> tuple[tuple[str, ...], list[Labelled]]:
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
                x1, y1, x2, y2 = (float(shape.attrib[key]) for key in CORNERS)
                turn = float(shape.get("rotation", "0"))
                box = hull((x1, y1), (x2 - x1, y2 - y1), turn, ((x1 + x2) / 2, (y1 + y2) / 2))
                labels.append(Label(shape.attrib["label"], clipped(box, size)))
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: image {name!r}: lacks or has a wrong {error}") from error
        names += [label.name for label in labels]
        pictures.append(Labelled(name, size, tuple(labels)))
    if others:
        logger.warning("%s: left out %d shapes that are no boxes", path, others)
    return tuple(dict.fromkeys(names)), pictures
