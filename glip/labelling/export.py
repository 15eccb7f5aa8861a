"""Labels -> a data set in the form that other tools read, whole or not at all.

| format      | what is written                                     | boxes                        |
|-------------|-----------------------------------------------------|------------------------------|
| coco        | `annotations.json`, or `train.json` and `val.json`  | x, y, width, height, pixels  |
| yolo        | `data.yaml`, `images/…`, `labels/…`                 | centre and size, shares      |
| voc         | `Annotations`, `JPEGImages`, `ImageSets/Main`       | corners, whole pixels from 1 |
| odvg        | `annotations.jsonl` (or parts), `label_map.json`    | corners, pixels              |
| cvat        | `annotations.xml` (or parts), "CVAT for images 1.1" | corners, pixels              |
| labelstudio | `tasks.json` (or parts), `label_config.xml`         | corner and size, per cent    |
| labelme     | a JSON file beside each picture                     | corners, pixels              |

All boxes are in the upright picture, turned as its EXIF orientation asks: that is what browsers,
CVAT, Label Studio, OpenCV and ultralytics show. A tool that ignores EXIF sees turned pictures lie
on their side; upright copies (`pictures="copy"`) have no orientation left and suit all of them.

Pictures come as an iterable that can be run through several times, so memory does not grow with
their number. Knows nothing about models and journals.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from glip.choices import LabelFormat
from glip.data.formats.coco import write_coco
from glip.data.formats.cvat import write_cvat
from glip.data.formats.label_studio import write_label_studio
from glip.data.formats.labelme import write_labelme
from glip.data.formats.layout import DataSet
from glip.data.formats.odvg import write_odvg
from glip.data.formats.voc import write_voc
from glip.data.formats.yolo import write_yolo
from glip.errors import ConfigError
from glip.files import failing_disk

NEEDS_PICTURES: tuple[LabelFormat, ...] = ("yolo", "voc", "labelme")
"""Formats whose readers find pictures by their place in the data set."""


def write_data_set(
    data: DataSet, kind: LabelFormat, folder: str | os.PathLike[str], *, replace: bool = False
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
    if kind not in get_args(LabelFormat):
        raise ConfigError(f"format {kind!r} is not one of {', '.join(get_args(LabelFormat))}")
    check_target(folder, replace=replace)
    unfinished = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    with failing_disk(folder):
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
            unfinished.mkdir(parents=True)
            _WRITERS[kind](data, unfinished)
            shutil.rmtree(old, ignore_errors=True)
            if os.path.exists(folder):
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
    if os.path.exists(folder) and not replace:
        raise ConfigError(
            f"{folder} exists; move it away, or replace it and what was corrected in it with "
            "--force"
        )


_WRITERS: Mapping[LabelFormat, Callable[[DataSet, Path], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "odvg": write_odvg,
    "cvat": write_cvat,
    "labelstudio": write_label_studio,
    "labelme": write_labelme,
}
