"""A few pictures of each class, drawn by the released rule and written down.

The rule (reference G.4): pictures are taken in an order; one is kept if any of its classes still
has a quota, and then counts against the quotas of all its classes. The quota counts pictures, so a
class may end with more boxes than shots, and with more pictures where another class wanted them.
official: quotas were looked up by category id less one, which breaks for ids from 0 or with gaps,
and the seed was not used; here quotas belong to class rows and the seed decides the order.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from glip.data.augment import scene_boxes
from glip.data.formats.coco import to_coco
from glip.data.packed import Packed
from glip.data.records import DetectionData, DetectionRecord, ImageId
from glip.errors import DataError, listed
from glip.files import whole_file
from glip.settings import within

KEY = "few_shot"  # of the record in the written file
NAMED = 10  # classes that a message names


@dataclass(frozen=True)
class Selection:
    """Which pictures were drawn, and what they hold."""

    shots: int | None
    """Pictures wanted of each class; None: all there are."""
    seed: int
    image_ids: tuple[ImageId, ...]
    """In the order of the file they come from."""
    pictures: dict[str, int]
    """Of each class, how many of them show it."""
    boxes: dict[str, int]

    @property
    def short(self) -> str | None:
        """The classes of which there are fewer pictures than wanted, in words; None for none."""
        wanted = 1 if self.shots is None else self.shots
        few = [f"{name!r} {count}" for name, count in self.pictures.items() if count < wanted]
        if not few:
            return None
        return f"fewer pictures with a box than {wanted}: {listed(few, NAMED, of=' classes')}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "shots": self.shots,
            "seed": self.seed,
            "image_ids": list(self.image_ids),
            "pictures": self.pictures,
            "boxes": self.boxes,
        }


def select(
    data: DetectionData, shots: int | None, seed: int = 0
) -> tuple[DetectionData, Selection]:
    """Some pictures of a data set; all classes stay, those without a picture too.

    Args:
        data: To draw from.
        shots: Pictures of each class; None takes all pictures, empty ones too.
        seed: Another seed draws others.
    Raises:
        ConfigError: Fewer than one shot.
        DataError: There is no picture with a box.
    """
    within("shots", shots, least=1, way_out="leave it out for all pictures")
    rows = list(range(len(data))) if shots is None else _drawn(data, shots, seed)
    records = [data.records[row] for row in rows]
    shown: Counter[int] = Counter()
    boxes: Counter[int] = Counter()
    for record in records:
        labels = _labels(record)
        shown.update(set(labels))
        boxes.update(labels)
    if not boxes:
        raise DataError(f"{data.path} has no picture with a box to learn from")
    selection = Selection(
        shots,
        seed,
        tuple(record.image_id for record in records),
        {name: shown[row] for row, name in enumerate(data.names)},
        {name: boxes[row] for row, name in enumerate(data.names)},
    )
    return replace(data, records=Packed(records)), selection


def write_selection(path: Path, data: DetectionData, selection: Selection) -> None:
    """A COCO file of the drawn pictures with the selection inside, whole or not at all."""
    content = {KEY: {"data": str(data.path), **selection.to_dict()}, **to_coco(data)}
    with whole_file(path) as file:
        json.dump(content, file, ensure_ascii=False)


def _drawn(data: DetectionData, shots: int, seed: int) -> list[int]:
    """Rows of the kept pictures, rising."""
    # Sorted first, so that the order of the file does not matter.
    order = sorted(range(len(data)), key=lambda row: _order(data.records[row].image_id))
    Random(seed).shuffle(order)
    left = dict.fromkeys(range(len(data.names)), shots)
    kept = []
    for row in order:
        classes = set(_labels(data.records[row]))
        if any(left[label] > 0 for label in classes):
            kept.append(row)
            for label in classes:
                left[label] -= 1
    return sorted(kept)


def _labels(record: DetectionRecord) -> list[int]:
    """Class rows of the boxes that training learns from."""
    useful = scene_boxes(record.boxes, record.image_hw)[1] & ~record.crowd
    return [int(label) for label in record.labels[useful]]


def _order(image_id: ImageId) -> tuple[bool, ImageId]:
    return isinstance(image_id, str), image_id
