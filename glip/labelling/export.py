"""Labels -> a data set in the form that other tools read, whole or not at all.

| format      | what is written                                     | boxes                        |
|-------------|-----------------------------------------------------|------------------------------|
| coco        | `annotations.json`, or `train.json` and `val.json`  | x, y, width, height, pixels  |
| yolo        | `data.yaml`, `images/…`, `labels/…`                 | centre and size, shares      |
| voc         | `Annotations`, `JPEGImages`, `ImageSets/Main`       | corners, whole pixels from 1 |
| odvg        | `annotations.jsonl` (or parts), `label_map.json`    | corners, pixels              |
| cvat        | `annotations.xml` (or parts), "CVAT for images 1.1" | corners, pixels              |
| labelstudio | `tasks.json` (or parts), `label_config.xml`         | corner and size, per cent    |

All boxes are in the upright picture, turned as its EXIF orientation asks: that is what browsers,
CVAT, Label Studio, OpenCV and ultralytics show. A tool that ignores EXIF sees turned pictures lie
on their side; upright copies (`pictures="copy"`) have no orientation left and suit all of them.

Pictures come as an iterable that can be run through several times, so memory does not grow with
their number. Knows nothing about models and journals.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, get_args
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import yaml
from PIL import ExifTags, Image

from glip.data.labels import Labelled, Part, part_of
from glip.errors import ConfigError
from glip.files import failing_disk
from glip.images import load_image, save_image

Format = Literal["coco", "yolo", "voc", "odvg", "cvat", "labelstudio"]
PictureMode = Literal["none", "link", "copy"]

NEEDS_PICTURES: tuple[Format, ...] = ("yolo", "voc")
"""Formats whose readers find pictures by their place in the data set."""
LABEL_STUDIO_PREFIX = "/data/local-files/?d="
"""How Label Studio addresses files of the folder that it was told to serve."""


@dataclass(frozen=True)
class DataSet:
    """What is to be written."""

    pictures: Iterable[Labelled]
    """Run through several times, in the same order each time."""
    names: tuple[str, ...]
    """Of all classes, in order."""
    root: Path
    """Folder that the pictures' names start from."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Of classes that are a kind of something."""
    source: str = "glip"
    """What made the labels, such as a name of weights."""
    val_share: float = 0.0
    """Share of pictures that is for validation; 0 does not divide them."""
    place: PictureMode = "none"
    """Pictures stay where they are, or are linked or copied into the data set. Copies are upright:
    those that EXIF would turn are encoded anew, the others are the same bytes."""
    prefix: str = LABEL_STUDIO_PREFIX
    """For Label Studio: what stands before a picture's name in its address."""

    def __post_init__(self) -> None:
        if not 0 <= self.val_share < 1:
            raise ConfigError(
                f"the share for validation must lie in [0, 1), got {self.val_share}; 0.2 is a fifth"
            )

    @property
    def parts(self) -> tuple[Part | None, ...]:
        """The parts it is divided into; None alone is all of it."""
        return ("train", "val") if self.val_share else (None,)

    def of(self, part: Part | None) -> Iterator[Labelled]:
        """The pictures of a part."""
        for picture in self.pictures:
            if part is None or part_of(picture.picture, self.val_share) == part:
                yield picture


def write_data_set(
    data: DataSet, kind: Format, folder: str | os.PathLike[str], *, replace: bool = False
) -> Path:
    """Write a data set into a new folder, which is not there before it is complete.

    Args:
        data: what to write.
        kind: the format.
        folder: of the data set alone.
        replace: take the place of an existing folder. It goes when the new one is complete.
    Raises:
        ConfigError: the folder is there already, or there is no such format.
        StorageError: the disk is full or fails; nothing is left behind.
    """
    folder = Path(folder)
    if kind not in get_args(Format):
        raise ConfigError(f"format {kind!r} is not one of {', '.join(get_args(Format))}")
    check_target(folder, replace=replace)
    unfinished = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    with failing_disk(folder):
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
            unfinished.mkdir(parents=True)
            _WRITERS[kind](data, unfinished)
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            unfinished.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def check_target(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that is there, so that corrections made in it are not lost.

    Raises:
        ConfigError: see above; ask before hours of work.
    """
    if folder.exists() and not replace:
        raise ConfigError(
            f"{folder} exists; move it away, or replace it and what was corrected in it with "
            "--force"
        )


# COCO


def _write_coco(data: DataSet, folder: Path) -> None:
    numbers = {name: number for number, name in enumerate(data.names, start=1)}
    for part in data.parts:
        with _text(folder / f"{part or 'annotations'}.json") as file:
            file.write(f'{{"info": {_json({"description": f"labelled by {data.source}"})},\n')
            _write_list(file, "categories", _categories(data, numbers))
            _write_list(file, "images", _images(data, part))
            _write_list(file, "annotations", _annotations(data, part, numbers), last=True)
            file.write("}\n")
    _place_all(data, folder)


def _categories(data: DataSet, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for name, number in numbers.items():
        parent = data.parents.get(name)
        above = {"supercategory": parent} if parent else {}
        yield {"id": number, "name": name, **above}


def _images(data: DataSet, part: Part | None) -> Iterator[dict[str, Any]]:
    for number, picture in enumerate(data.of(part), start=1):
        height, width = picture.image_hw
        yield {"id": number, "file_name": picture.picture, "width": width, "height": height}


def _annotations(
    data: DataSet, part: Part | None, numbers: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    number = 0
    for image_id, picture in enumerate(data.of(part), start=1):
        for label in picture.labels:
            number += 1
            width, height = label.sides
            annotation = {
                "id": number,
                "image_id": image_id,
                "category_id": numbers[label.name],
                "bbox": [label.box[0], label.box[1], round(width, 3), round(height, 3)],
                "area": round(width * height, 3),
                "iscrowd": 0,
            }
            if label.score is not None:
                annotation["score"] = label.score
            yield annotation


# YOLO


def _write_yolo(data: DataSet, folder: Path) -> None:
    numbers = {name: number for number, name in enumerate(data.names)}
    found: dict[str, str] = {}
    for part in data.parts:
        place = f"images/{part or 'train'}"
        for picture in data.of(part):
            name = _unused(PurePosixPath(place) / picture.picture, lambda p: folder / _labels_of(p))
            labels = folder / _labels_of(name)
            labels.parent.mkdir(parents=True, exist_ok=True)
            with labels.open("x", encoding="utf-8") as file:
                for label in picture.labels:
                    values = " ".join(f"{v:.8f}" for v in _centre_and_size(label.box, picture))
                    file.write(f"{numbers[label.name]} {values}\n")
            _place(data, picture.picture, folder / name)
            found[part or "train"] = place  # readers take a part without pictures for a mistake
    settings = {**found, "names": dict(enumerate(data.names))}
    with _text(folder / "data.yaml") as file:
        yaml.safe_dump(settings, file, allow_unicode=True, sort_keys=False)


def _labels_of(picture: PurePosixPath) -> PurePosixPath:
    """YOLO's rule: `labels` in place of the last `images` of the path."""
    parts = list(picture.parts)
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return PurePosixPath(*parts).with_suffix(".txt")


def _centre_and_size(
    box: tuple[float, float, float, float], picture: Labelled
) -> tuple[float, float, float, float]:
    """Pixels xyxy -> centre x, y, width, height in shares of the picture."""
    height, width = picture.image_hw
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height


# Pascal VOC


def _write_voc(data: DataSet, folder: Path) -> None:
    annotations = folder / "Annotations"
    lists = folder / "ImageSets" / "Main"
    annotations.mkdir()
    lists.mkdir(parents=True)
    for part in data.parts:
        with _text(lists / f"{part or 'train'}.txt") as chosen:
            for picture in data.of(part):
                # VOC has one folder, so those below become part of the name; its lists of names
                # end them at a space.
                flat = PurePosixPath("_".join(picture.picture.replace("/", "__").split()))
                name = _unused(flat, lambda p: annotations / f"{p.stem}.xml")
                with _text(annotations / f"{name.stem}.xml", mode="x") as file:
                    _write_voc_file(data, picture, str(name), file)
                _place(data, picture.picture, folder / "JPEGImages" / name)
                chosen.write(f"{name.stem}\n")


def _write_voc_file(data: DataSet, picture: Labelled, name: str, file: IO[str]) -> None:
    height, width = picture.image_hw
    xml = _Xml(file)
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


# ODVG


def _write_odvg(data: DataSet, folder: Path) -> None:
    numbers = {name: number for number, name in enumerate(data.names)}
    with _text(folder / "label_map.json") as file:
        file.write(_json({str(number): name for name, number in numbers.items()}) + "\n")
    for part in data.parts:
        with _text(folder / f"{part or 'annotations'}.jsonl") as file:
            for picture in data.of(part):
                instances = []
                for label in picture.labels:
                    instance: dict[str, Any] = {
                        "bbox": list(label.box),
                        "label": numbers[label.name],
                        "category": label.name,
                    }
                    if label.score is not None:
                        instance["score"] = label.score
                    instances.append(instance)
                height, width = picture.image_hw
                line = {
                    "filename": picture.picture,
                    "height": height,
                    "width": width,
                    "detection": {"instances": instances},
                }
                file.write(_json(line) + "\n")
    _place_all(data, folder)


# CVAT


def _write_cvat(data: DataSet, folder: Path) -> None:
    for part in data.parts:
        with _text(folder / f"{part or 'annotations'}.xml") as file:
            xml = _Xml(file)
            with xml.element("annotations"):
                xml.text("version", "1.1")
                with xml.element("meta"), xml.element("task"), xml.element("labels"):
                    for name in data.names:
                        with xml.element("label"):
                            xml.text("name", name)
                            xml.text("type", "rectangle")
                            with xml.element("attributes"), xml.element("attribute"):
                                xml.text("name", "score")
                                xml.text("mutable", "False")
                                xml.text("input_type", "text")
                                xml.text("default_value", "")
                                xml.text("values", "")
                for number, picture in enumerate(data.of(part)):
                    height, width = picture.image_hw
                    with xml.element(
                        "image", id=number, name=picture.picture, width=width, height=height
                    ):
                        for label in picture.labels:
                            x1, y1, x2, y2 = label.box
                            with xml.element(
                                "box",
                                label=label.name,
                                source="manual" if label.score is None else "auto",
                                occluded=0,
                                xtl=x1,
                                ytl=y1,
                                xbr=x2,
                                ybr=y2,
                                z_order=0,
                            ):
                                if label.score is not None:
                                    xml.text("attribute", label.score, name="score")
    _place_all(data, folder)


# Label Studio


def _write_label_studio(data: DataSet, folder: Path) -> None:
    with _text(folder / "label_config.xml") as file:
        xml = _Xml(file)
        with xml.element("View"):
            xml.text("Image", "", name="image", value="$image")
            with xml.element("RectangleLabels", name="label", toName="image"):
                for name in data.names:
                    xml.text("Label", "", value=name)
    for part in data.parts:
        with _text(folder / f"{part or 'tasks'}.json") as file:
            _write_array(file, (_task(data, picture) for picture in data.of(part)))
            file.write("\n")
    _place_all(data, folder)


def _task(data: DataSet, picture: Labelled) -> dict[str, Any]:
    height, width = picture.image_hw
    results = []
    for number, label in enumerate(picture.labels):
        x1, y1, x2, y2 = label.box
        result: dict[str, Any] = {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "x": 100 * x1 / width,
                "y": 100 * y1 / height,
                "width": 100 * (x2 - x1) / width,
                "height": 100 * (y2 - y1) / height,
                "rotation": 0,
                "rectanglelabels": [label.name],
            },
        }
        if label.score is not None:
            result["score"] = label.score
        results.append(result)
    scores = [label.score for label in picture.labels if label.score is not None]
    prediction: dict[str, Any] = {"model_version": data.source, "result": results}
    if scores:
        prediction["score"] = min(scores)  # sorts the doubtful pictures to one end
    address = data.prefix + quote(picture.picture)
    # `file_name` comes back with the corrections, whatever the address has become.
    return {"data": {"image": address, "file_name": picture.picture}, "predictions": [prediction]}


_WRITERS: Mapping[Format, Callable[[DataSet, Path], None]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "voc": _write_voc,
    "odvg": _write_odvg,
    "cvat": _write_cvat,
    "labelstudio": _write_label_studio,
}


# What they share


def _place_all(data: DataSet, folder: Path) -> None:
    """Pictures for the formats that name them by their path below a picture folder."""
    if data.place != "none":
        for picture in data.pictures:
            _place(data, picture.picture, folder / "images" / picture.picture)


def _place(data: DataSet, picture: str, target: Path) -> None:
    """Link or copy a picture into the data set, if it is to be there."""
    if data.place == "none":
        return
    source = data.root / picture
    target.parent.mkdir(parents=True, exist_ok=True)
    if data.place == "link":
        try:
            target.symlink_to(source.resolve())
            return
        except (OSError, NotImplementedError) as error:  # Windows asks for a right
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
    if data.place == "copy" and _is_turned(source):
        save_image(load_image(source), target)
    else:
        shutil.copyfile(source, target)


def _is_turned(picture: Path) -> bool:
    """Whether EXIF asks to turn or mirror a picture."""
    with Image.open(picture) as image:
        return image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)


def _unused(name: PurePosixPath, file_of: Callable[[PurePosixPath], Path]) -> PurePosixPath:
    """The name, or if its label file is taken, as that of a.jpg is for a.png, one close to it."""
    tried = name
    number = 1
    while os.path.lexists(file_of(tried)):
        number += 1
        tried = name.with_name(f"{name.stem}_{number}{name.suffix}")
    return tried


@contextlib.contextmanager
def _text(path: Path, *, mode: Literal["w", "x"] = "w") -> Iterator[IO[str]]:
    with path.open(mode, encoding="utf-8", newline="\n") as file:
        yield file


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_list(
    file: IO[str], key: str, entries: Iterable[dict[str, Any]], *, last: bool = False
) -> None:
    """One list of a JSON object, entry by entry."""
    file.write(f"{_json(key)}: ")
    _write_array(file, entries)
    file.write("\n" if last else ",\n")


def _write_array(file: IO[str], entries: Iterable[dict[str, Any]]) -> None:
    file.write("[")
    for number, entry in enumerate(entries):
        file.write(",\n" if number else "\n")
        file.write(_json(entry))
    file.write("\n]")


class _Xml:
    """An XML file, written as its elements come."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._depth = 0
        file.write('<?xml version="1.0" encoding="utf-8"?>')

    @contextlib.contextmanager
    def element(self, tag: str, /, **attributes: object) -> Iterator[None]:
        """An element around others."""
        self._start(tag, attributes)
        self._depth += 1
        yield
        self._depth -= 1
        self._file.write(f"{self._new_line}</{tag}>")
        if not self._depth:
            self._file.write("\n")

    def text(self, tag: str, content: object, /, **attributes: object) -> None:
        """An element with text in it."""
        self._start(tag, attributes)
        self._file.write(f"{escape(str(content))}</{tag}>")

    def _start(self, tag: str, attributes: Mapping[str, object]) -> None:
        words = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
        self._file.write(f"{self._new_line}<{tag}{words}>")

    @property
    def _new_line(self) -> str:
        return "\n" + "  " * self._depth
