"""What people changed in a model's labels: each box accepted, moved, relabelled, deleted or added.

Knows nothing about files, models or pages.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch

from glip.boxes import iou_matrix, to_last_pixels
from glip.data.labels import Label, Labelled

Kind = Literal["accepted", "moved", "relabelled", "deleted", "added"]
KINDS: tuple[Kind, ...] = get_args(Kind)

SAME_PLACE_IOU = 0.5
"""Overlap from which two boxes are around the same thing; below it one was deleted, one added."""
ROUNDING_PX = 1.0
"""Edges that are no further apart have not been moved: formats round to whole pixels."""
EXAMPLES = 8
"""Of each kind that are kept to be shown."""


class Change(NamedTuple):
    """What became of one box."""

    kind: Kind
    before: Label | None
    """As the model proposed it; None if it was added."""
    after: Label | None
    """As it was left; None if it was deleted."""
    iou: float = 0.0
    """Of the two, in [0, 1]."""


class Example(NamedTuple):
    """A change, and the picture it was made in."""

    picture: str
    change: Change


class Counts(NamedTuple):
    """Boxes of each kind."""

    accepted: int = 0
    moved: int = 0
    relabelled: int = 0
    deleted: int = 0
    added: int = 0

    @property
    def proposed(self) -> int:
        """Boxes that the model proposed: all but those added."""
        return sum(self) - self.added


@dataclass(frozen=True)
class Corrections:
    """What people changed in all pictures that both they and the model have labelled."""

    classes: Mapping[str, Counts]
    """Class -> its boxes. A relabelled box counts for the class that the model proposed."""
    pictures: int
    """That were compared."""
    not_compared: int = 0
    """Pictures that the model has not labelled, or in another size; their boxes are not counted."""
    relabelled: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(Proposed class, corrected class) -> boxes, the most frequent first."""
    examples: Mapping[Kind, Sequence[Example]] = field(default_factory=dict)
    """At most `EXAMPLES` of each kind, where the model was furthest from right first: the surest
    of the relabelled and deleted boxes, the largest of the added, those moved most; of the
    accepted ones the least sure."""

    @property
    def total(self) -> Counts:
        """Of all classes."""
        return Counts(*map(sum, zip(*self.classes.values(), strict=True)))

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A table as text: a header, a row for each class, and one for all if there are several."""
        yield ("class", "proposed", *KINDS)
        for name, counts in self.classes.items():
            yield (name, *(f"{number:,}" for number in (counts.proposed, *counts)))
        if len(self.classes) > 1:
            yield ("all", *(f"{number:,}" for number in (self.total.proposed, *self.total)))

    def __str__(self) -> str:
        """The table, in columns."""
        rows = list(self.rows())
        first = max(len(row[0]) for row in rows)
        return "\n".join(
            f"{row[0]:<{first}}" + "".join(f"  {cell:>10}" for cell in row[1:]) for row in rows
        )


def compare(before: Sequence[Label], after: Sequence[Label]) -> list[Change]:
    """What became of each box of a picture.

    Boxes are matched one to one: those that nobody touched first, then the best overlaps. A box
    is accepted if its class is the same and no edge is further away than `ROUNDING_PX`; moved if
    its class is the same and the IoU at least `SAME_PLACE_IOU`; relabelled if it is in the same
    place, by either measure, under another class.

    Args:
        before: (N) labels that the model proposed.
        after: (M) labels that people left.
    Returns:
        At least max(N, M) changes: of the matched boxes, of the deleted, of the added.
    """
    changes = []
    rows, columns = dict.fromkeys(range(len(before))), dict.fromkeys(range(len(after)))
    for row, column, untouched, iou in _best_first(before, after):
        if row in rows and column in columns:
            del rows[row], columns[column]
            old, new = before[row], after[column]
            kind: Kind = "accepted" if untouched else "moved"
            kind = kind if old.name == new.name else "relabelled"
            changes.append(Change(kind, old, new, iou))
    changes += [Change("deleted", before[row], None) for row in rows]
    return changes + [Change("added", None, after[column]) for column in columns]


def _best_first(
    before: Sequence[Label], after: Sequence[Label]
) -> list[tuple[int, int, bool, float]]:
    """Pairs in the same place: row, column, whether no edge has moved, IoU."""
    if not before or not after:
        return []
    old = torch.tensor([label.box for label in before], dtype=torch.float64)  # (N, 4)
    new = torch.tensor([label.box for label in after], dtype=torch.float64)  # (M, 4)
    ious = iou_matrix(to_last_pixels(old), to_last_pixels(new))  # (N, M)
    untouched = (old[:, None] - new[None]).abs().amax(-1) <= ROUNDING_PX  # (N, M)
    places = ((ious >= SAME_PLACE_IOU) | untouched).nonzero().tolist()
    pairs = [
        (row, column, bool(untouched[row, column]), float(ious[row, column]))
        for row, column in places
    ]

    def worse(pair: tuple[int, int, bool, float]) -> tuple[bool, float, bool]:
        row, column, same_box, iou = pair
        other_class = before[row].name != after[column].name
        return other_class or not same_box, -iou, other_class

    return sorted(pairs, key=worse)


def count_changes(
    pairs: Iterable[tuple[Labelled, Labelled]], names: Sequence[str], *, not_compared: int = 0
) -> Corrections:
    """Compare many pictures. Memory does not grow with them.

    Args:
        pairs: of each picture its labels as the model proposed them and as people left them; run
            through once.
        names: classes, in the order of the result; others come behind as they are met.
        not_compared: pictures of people that have no labels of the model.
    """
    counts: dict[str, Counter[Kind]] = {name: Counter() for name in names}
    renamed: Counter[tuple[str, str]] = Counter()
    kept: dict[Kind, list[tuple[float, int, Example]]] = {kind: [] for kind in KINDS}
    pictures = number = 0
    for before, after in pairs:
        pictures += 1
        for change in compare(before.labels, after.labels):
            number += 1
            label = change.before or change.after
            assert label is not None  # one of the two is there
            counts.setdefault(label.name, Counter())[change.kind] += 1
            if change.kind == "relabelled" and change.after is not None:
                renamed[label.name, change.after.name] += 1
            example = Example(after.picture, change)
            heapq.heappush(kept[change.kind], (_telling(change), -number, example))
            if len(kept[change.kind]) > EXAMPLES:
                heapq.heappop(kept[change.kind])
    return Corrections(
        {name: Counts(*(own[kind] for kind in KINDS)) for name, own in counts.items()},
        pictures,
        not_compared,
        dict(renamed.most_common()),
        {kind: [one for *_, one in sorted(heap, reverse=True)] for kind, heap in kept.items()},
    )


def _telling(change: Change) -> float:
    """How far the model was from right, comparable within a kind."""
    if change.kind == "moved":
        return -change.iou
    if change.before is None:
        assert change.after is not None
        width, height = change.after.sides
        return width * height
    score = change.before.score or 0.0
    return -score if change.kind == "accepted" else score
