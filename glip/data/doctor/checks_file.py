"""What may be wrong with a data set as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from glip.data.doctor.subject import Check, Subject


def _nothing_to_learn(subject: Subject) -> Iterator[str]:
    if not len(subject.boxes):
        yield "there is no box"
    elif subject.crowd.all():
        yield "all boxes are crowds or difficult (iscrowd, difficult), which are no targets"


def _pictures_twice(subject: Subject) -> Iterator[str]:
    names = Counter(record.file_name for record in subject.records)
    yield from (name for name, count in names.items() if count > 1)


CHECKS: tuple[Check, ...] = (
    Check(
        "nothing",
        "reason why there is nothing to learn",
        "Label some pictures, or pass another file.",
        _nothing_to_learn,
        kinds=("detection",),
    ),
    Check(
        "sentences only",
        "reason why only a teacher can use it",
        "Let one find boxes for its phrases; training needs them.",
        _nothing_to_learn,
        kinds=("grounding",),
        level="note",
    ),
    Check(
        "pictures twice",
        "pictures listed more than once",
        "Join their entries, or each says that the boxes of the other are not there.",
        _pictures_twice,
        kinds=("detection",),
        tolerated=1,
    ),
)
