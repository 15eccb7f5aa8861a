"""CVAT: one XML file with the boxes of many pictures ("for images 1.1"), or of tracks."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

from glip.data.faults import Faults
from glip.data.formats.content import read_xml
from glip.data.formats.entries import SAMPLE, Entry, Point, Request, Shape, annotated, whole_size
from glip.data.formats.layout import DataSet, XmlFile, place_all, text_file
from glip.data.formats.mot import TrackBox
from glip.data.labels import Labelled, Part
from glip.data.matching import pictures_for
from glip.data.pictures import Pictures
from glip.data.records import Annotated
from glip.errors import DataError

CORNERS = ("xtl", "ytl", "xbr", "ybr")
"""Of a box: left, top, right, bottom."""

_KEYS = {
    "box": CORNERS,
    "mask": ("left", "top", "width", "height"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
"""Attributes of the shapes that have no list of points."""

FRAME_DIGITS = 12
"""Of the number of a frame; a hundred years have fewer."""

_FRAME = re.compile(r"frame_0*(\d+)$")
"""How CVAT names the pictures of a video that it exports."""


def read_cvat(request: Request) -> Annotated:
    """Read a CVAT file; polygons, masks and the like count as the boxes around them.

    Of tracks the key frames are read, those that somebody has looked at.

    Raises:
        DataError: It is no such file.
    """
    path = request.path / "annotations.xml" if os.path.isdir(request.path) else request.path
    root = read_xml(path)
    if root.tag != "annotations":
        raise DataError(f"{path} is no CVAT file: its root is <{root.tag}>")
    names = [(entry.text or "").strip() for entry in root.findall("./meta//labels/label/name")]
    tracks = root.findall("track")
    pictures: Pictures | None = None
    if tracks:
        pictures = pictures_for(path, request.images, [])
        entries = list(_frames(root, tracks, pictures, request.faults))
    else:
        entries = [_entry(image, path, request.faults) for image in root.iter("image")]
        some = [entry.name for entry in entries[:SAMPLE]]
        pictures = pictures_for(path, request.images, some) if some else None
    used = {str(shape.label) for entry in entries for shape in entry.shapes}
    order = dict.fromkeys(names or request.classes or ())
    order |= dict.fromkeys(sorted(used.difference(order)))
    classes = {name: name for name in order if name}
    return annotated(request, entries, classes=classes, pictures=pictures, clip=True)


def _entry(image: ElementTree.Element, path: Path, faults: Faults) -> Entry:
    name = image.get("name", "")
    where = f"{path}: image {name!r}"
    shapes = [shape for drawn in image for shape in _shapes(drawn, "", where, faults)]
    return Entry(name, shapes, whole_size(image.get("width"), image.get("height")), where=where)


def _shapes(drawn: ElementTree.Element, label: str, where: str, faults: Faults) -> Iterator[Shape]:
    """The shape of an element, if it is one."""
    if drawn.tag == "tag":
        return
    points = _points(drawn)
    label = label or drawn.get("label", "")
    if points is None or not label:
        faults.count("boxes")
        faults.add("no boxes", f"{where}: a <{drawn.tag}> lacks a label or has a wrong corner")
        return
    if drawn.tag != "box":
        faults.note("shapes that are no boxes count as the boxes around them")
    turn = _number(drawn.get("rotation", "0")) or 0.0
    yield Shape(label, points, degrees=turn if len(points) == 2 else 0.0)


def _points(drawn: ElementTree.Element) -> list[Point] | None:
    """Corners of a box, a mask or an ellipse, or the points of a polygon or a line."""
    keys = _KEYS.get(drawn.tag)
    if keys is None:
        return _pairs(drawn.get("points", ""))
    numbers = [_number(drawn.get(key, "")) for key in keys]
    known = [number for number in numbers if number is not None]
    if len(known) < len(keys):
        return None
    a, b, c, d = known
    if drawn.tag == "mask":
        return [(a, b), (a + c, b + d)]
    if drawn.tag == "ellipse":
        return [(a - c, b - d), (a + c, b + d)]
    return [(a, b), (c, d)]


def _pairs(text: str) -> list[Point] | None:
    """Points as CVAT writes them, "x,y;x,y"; None if they are fewer than two, or no numbers."""
    pairs = [[_number(value) for value in pair.split(",")] for pair in text.split(";") if pair]
    points = [
        (x, y) for x, y in (p for p in pairs if len(p) == 2) if x is not None and y is not None
    ]
    return points if len(points) == len(pairs) > 1 else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _frames(
    root: ElementTree.Element,
    tracks: list[ElementTree.Element],
    pictures: Pictures,
    faults: Faults,
) -> Iterator[Entry]:
    """Pictures with what is on them, of the frames in which a track has a key."""
    drawn: dict[int, list[Shape]] = {}
    keys: set[int] = set()
    for track in tracks:
        for shape in track:
            frame = shape.get("frame", "0")
            if not frame.isdecimal() or len(frame) > FRAME_DIGITS:
                faults.count("boxes")
                faults.add("no boxes", f"a <{shape.tag}> of a track is in frame {frame[:40]!r}")
                continue
            number = int(frame)
            if shape.get("keyframe", "1") == "1":
                keys.add(number)
            if shape.get("outside", "0") != "1":
                found = _shapes(shape, track.get("label", ""), f"frame {number}", faults)
                drawn.setdefault(number, []).extend(found)
    names, by_number = _frame_names(pictures)
    if not by_number:
        faults.note(
            f"frames of tracks are taken for the pictures in the order of their names: frame 0 is "
            f"{names.get(0, 'none')}; call them frame_000000.jpg and so on to be sure"
        )
    size = root.find("meta//original_size")
    known = None if size is None else whole_size(size.findtext("width"), size.findtext("height"))
    for number in sorted(keys):
        name = names.get(number, f"frame_{number:06d}")
        yield Entry(name, drawn.get(number, []), known, where=f"frame {number}")
    faults.note("frames of tracks without a key are left out", len(set(drawn) - keys))


def _frame_names(pictures: Pictures) -> tuple[Mapping[int, str], bool]:
    """Frame -> picture: by the number in its name, or else by its place in the alphabet; and
    whether it is the former.
    """
    names = pictures.names()
    numbered = {
        int(found[1]): name for name in names if (found := _FRAME.search(name.rpartition(".")[0]))
    }
    return numbered or dict(enumerate(names)), bool(numbered)


def write_cvat(data: DataSet, folder: Path) -> None:
    """Write `annotations.xml`, or one for each part."""
    for part in data.parts:
        with text_file(folder / f"{part or 'annotations'}.xml") as file:
            _write_part(XmlFile(file), data, part)
    place_all(data, folder)


def _write_part(xml: XmlFile, data: DataSet, part: Part | None) -> None:
    with xml.element("annotations"):
        xml.text("version", "1.1")
        with xml.element("meta"), xml.element("task"), xml.element("labels"):
            for name in data.names:
                _write_class(xml, name)
        for number, picture in enumerate(data.of(part)):
            _write_image(xml, number, picture)


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


AddFrame: TypeAlias = Callable[[int, tuple[int, int], Sequence[str], Sequence[TrackBox]], None]
"""Takes a frame's number, its height and width, and for each box its name and itself."""


@contextlib.contextmanager
def write_cvat_tracks(file: io.TextIOBase, name: str, names: Sequence[str]) -> Iterator[AddFrame]:
    """Write a clip as CVAT for video 1.1 when the block ends: a track's boxes stand together.

    Until then they are in a temporary database on the disk, so that memory does not grow.

    Args:
        file: To write to.
        name: Of the clip.
        names: Of all things that were looked for.
    """
    frames, image_hw = 0, (1, 1)
    with contextlib.closing(sqlite3.connect("")) as kept:
        kept.execute("CREATE TABLE boxes (track, frame, name, x1, y1, x2, y2)")

        def add(
            number: int, hw: tuple[int, int], called: Sequence[str], boxes: Sequence[TrackBox]
        ) -> None:
            nonlocal frames, image_hw
            frames, image_hw = number + 1, hw
            rows = ((b.track, number, n, *b.box) for n, b in zip(called, boxes, strict=True))
            kept.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

        yield add
        xml = XmlFile(file)
        with xml.element("annotations"):
            xml.text("version", "1.1")
            _write_clip(xml, name, names, frames, image_hw)
            tracks = "SELECT track, min(name) FROM boxes GROUP BY track ORDER BY track"
            for track, called in kept.execute(tracks).fetchall():
                order = "SELECT frame, x1, y1, x2, y2 FROM boxes WHERE track = ? ORDER BY frame"
                _write_track(xml, track, called, kept.execute(order, (track,)), frames)


def _write_clip(
    xml: XmlFile, name: str, names: Sequence[str], frames: int, image_hw: tuple[int, int]
) -> None:
    with xml.element("meta"), xml.element("task"):
        xml.text("name", name)
        xml.text("size", frames)
        xml.text("mode", "interpolation")
        xml.text("start_frame", 0)
        xml.text("stop_frame", max(frames - 1, 0))
        with xml.element("labels"):
            for one in dict.fromkeys(names):
                with xml.element("label"):
                    xml.text("name", one)
                    xml.text("type", "rectangle")
                    xml.text("attributes")
        with xml.element("original_size"):
            xml.text("width", image_hw[1])
            xml.text("height", image_hw[0])


def _write_track(
    xml: XmlFile,
    track: int,
    name: str,
    rows: Iterator[tuple[int, float, float, float, float]],
    frames: int,
) -> None:
    """A track; where it is not seen a box says so."""
    with xml.element("track", id=track - 1, label=name, source="auto"):
        last: tuple[int, float, float, float, float] | None = None
        for row in rows:
            if last is not None and row[0] > last[0] + 1:
                _write_box(xml, last[0] + 1, last[1:], outside=1)
            _write_box(xml, row[0], row[1:], outside=0)
            last = row
        if last is not None and last[0] + 1 < frames:
            _write_box(xml, last[0] + 1, last[1:], outside=1)


def _write_box(
    xml: XmlFile, frame: int, box: tuple[float, float, float, float], *, outside: int
) -> None:
    corners = {key: f"{value:.2f}" for key, value in zip(CORNERS, box, strict=True)}
    state = {"frame": frame, "keyframe": 1, "outside": outside, "occluded": 0}
    with xml.element("box", **state, **corners, z_order=0):
        pass
