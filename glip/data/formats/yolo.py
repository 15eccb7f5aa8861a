"""YOLO: `data.yaml` with the names, a text file of labels for each picture.

A line is "class x y width height", centre and size in shares of the picture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from glip.choices import Split
from glip.data.formats.layout import (
    DataSet,
    detection_record,
    place_picture,
    text_file,
    unused_name,
)
from glip.data.labels import Labelled
from glip.data.packed import Packed
from glip.data.pictures import PictureFolder
from glip.data.records import Annotated, DetectionData, DetectionRecord
from glip.errors import DataError


def write_yolo(data: DataSet, folder: Path) -> None:
    """Write `data.yaml`, `images` and `labels`."""
    numbers = {name: number for number, name in enumerate(data.names)}
    found: dict[str, str] = {}
    for part in data.parts:
        place = f"images/{part or 'train'}"
        for picture in data.of(part):
            name = unused_name(
                PurePosixPath(place) / picture.picture, lambda p: folder / _labels_of(p)
            )
            labels = folder / _labels_of(name)
            labels.parent.mkdir(parents=True, exist_ok=True)
            with labels.open("x", encoding="utf-8") as file:
                for label in picture.labels:
                    values = " ".join(f"{v:.8f}" for v in _centre_and_size(label.box, picture))
                    file.write(f"{numbers[label.name]} {values}\n")
            place_picture(data, picture.picture, folder / name)
            found[part or "train"] = place  # readers take a part without pictures for a mistake
    settings = {**found, "names": dict(enumerate(data.names))}
    with text_file(folder / "data.yaml") as file:
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
    settings_file, settings, names = read_settings(folder)
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
            records.append(
                detection_record(len(records) + 1, file_name, (height, width), boxes, labels)
            )
    numbers = sorted(names)
    data = DetectionData(
        settings_file.parent, tuple(str(names[n]) for n in numbers), tuple(numbers), Packed(records)
    )
    return Annotated(data, pictures)


def read_settings(folder: Path) -> tuple[Path, Mapping[str, Any], dict[int, Any]]:
    """The settings file of a YOLO folder, its content, and the names by number."""
    file = settings_file_of(folder)
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


def settings_file_of(folder: Path) -> Path | None:
    """The settings of a YOLO data set, if the folder is one."""
    files = (folder / "data.yaml", folder / "data.yml")
    return next((file for file in files if file.is_file()), None)


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
