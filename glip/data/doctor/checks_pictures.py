"""What may be wrong with the pictures of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing

from glip.data.doctor.subject import Check, Subject
from glip.errors import ImageError
from glip.jobs.batches import read_ahead
from glip.processors import usable

HEADERS = 200
"""Pictures whose size the quick part compares; the whole part decodes all of them."""


def _other_sizes(subject: Subject) -> Iterator[str]:
    """Pictures of another size than their boxes were drawn on, by their headers."""
    names = list(subject.files)
    if subject.quick:
        names = names[:: max(1, math.ceil(len(names) / HEADERS))]
    pictures = subject.annotated.pictures
    for name in names:
        try:
            size = pictures.size_hw(name)
        except ImageError:  # what is unreadable is found by the check of that name
            continue
        height, width = subject.files[name]
        if size != (height, width):
            turned = ", as if it had been turned" if size == (width, height) else ""
            yield f"{name} has {size[1]} x {size[0]}, the file says {width} x {height}{turned}"


def _unreadable_pictures(subject: Subject) -> Iterator[str]:
    pictures = subject.annotated.pictures

    def decode(name: str) -> None:
        pictures.read(name)

    named = ((name, name) for name in subject.files)
    workers = usable()
    with closing(read_ahead(named, decode, workers=workers, ahead=4 * workers)) as decoded:
        for _, problem in decoded:
            subject.progress(1)
            if problem is not None:
                yield str(problem)


def _unused_pictures(subject: Subject) -> Iterator[str]:
    try:
        names = subject.annotated.pictures.names()
    except ImageError:  # none whose name ends as that of a picture does
        return
    yield from (name for name in names if name not in subject.files)


CHECKS: tuple[Check, ...] = (
    Check(
        "sizes",
        "pictures of another size than the file says",
        "Boxes would miss: use the pictures that were labelled, or scale the boxes.",
        _other_sizes,
        of="images",
    ),
    Check(
        "unreadable pictures",
        "pictures that cannot be read",
        "Fetch them again, or remove their entries.",
        _unreadable_pictures,
        of="images",
        quick=False,
    ),
    Check(
        "unused pictures",
        "pictures that the file does not name",
        "Nothing is learnt from them.",
        _unused_pictures,
        of="images",
        level="note",
        quick=False,
    ),
)
