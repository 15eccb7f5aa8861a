"""What may be wrong with the boxes of a data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from glip.data.doctor.subject import Check, Subject

OUTSIDE = 2.0
"""Pixels that a box may reach beyond its picture: rounding and other conventions stay below."""

FRACTIONS = 2.0
"""Pixels that no corner of a data set exceeds if its boxes are fractions of the picture."""


def _fractions(subject: Subject) -> Iterator[str]:
    if len(subject.boxes) and subject.boxes.max() <= FRACTIONS:
        yield f"no coordinate is above {subject.boxes.max():g}"


def _extents(subject: Subject) -> npt.NDArray[np.float64]:
    """(N, 2) width and height of each box."""
    return subject.boxes[:, 2:] - subject.boxes[:, :2]


def _empty_boxes(subject: Subject) -> Iterator[str]:
    yield from subject.called(_extents(subject).min(1, initial=np.inf) <= 0)


def _is_elsewhere(subject: Subject) -> npt.NDArray[np.bool_]:
    """(N,) whether a box and its picture have no pixel in common."""
    right, below = (subject.boxes[:, :2] >= subject.sides).T
    left, above = (subject.boxes[:, 2:] <= 0).T
    elsewhere: npt.NDArray[np.bool_] = right | below | left | above
    return elsewhere


def _boxes_elsewhere(subject: Subject) -> Iterator[str]:
    yield from subject.called(_is_elsewhere(subject))


def _boxes_beyond(subject: Subject) -> Iterator[str]:
    beyond = (subject.boxes[:, :2] < -OUTSIDE) | (subject.boxes[:, 2:] > subject.sides + OUTSIDE)
    yield from subject.called(beyond.any(1) & ~_is_elsewhere(subject))


def _tiny_boxes(subject: Subject) -> Iterator[str]:
    least = _extents(subject).min(1, initial=np.inf)
    yield from subject.called((least > 0) & (least <= 2))


def _boxes_twice(subject: Subject) -> Iterator[str]:
    """The same box of the same thing in one record."""
    if not len(subject.boxes):
        return
    keys = np.column_stack([subject.owners, subject.what, subject.boxes])
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, axis=0, return_index=True)[1]] = True
    yield from subject.called(~first)


def _images_without_boxes(subject: Subject) -> Iterator[str]:
    yield from (record.file_name for record in subject.records if not len(record.boxes))


def _crowds(subject: Subject) -> Iterator[str]:
    yield from subject.called(subject.crowd)


CHECKS: tuple[Check, ...] = (
    Check(
        "fractions",
        "sign that boxes are fractions of the picture",
        "COCO boxes are pixels: multiply by width and height.",
        _fractions,
    ),
    Check(
        "empty boxes",
        "boxes without width or height",
        "They are left out of training, as many as --max-bad allows.",
        _empty_boxes,
        tolerated=None,
    ),
    Check(
        "boxes elsewhere",
        "boxes outside their picture",
        "They are left out of training, as many as --max-bad allows; were the pictures resized "
        "or cut?",
        _boxes_elsewhere,
        tolerated=None,
    ),
    Check(
        "boxes beyond",
        f"boxes that reach more than {OUTSIDE:g} pixels beyond their picture",
        "They are cut; if many do, bbox may hold two corners instead of a size.",
        _boxes_beyond,
        tolerated=0.1,
    ),
    Check(
        "tiny boxes",
        "boxes at most 2 pixels wide or high",
        "Hardly anything to be seen in them.",
        _tiny_boxes,
        level="note",
    ),
    Check(
        "boxes twice",
        "boxes that occur twice in their picture",
        "Remove the second one.",
        _boxes_twice,
        tolerated=0.05,
    ),
    Check(
        "images without boxes",
        "images without a box",
        "They are not trained on unless asked for (keep_empty).",
        _images_without_boxes,
        of="images",
        level="note",
    ),
    Check(
        "crowds",
        "crowds",
        "They are no targets, and ignored in evaluation.",
        _crowds,
        kinds=("detection",),
        level="note",
    ),
)
