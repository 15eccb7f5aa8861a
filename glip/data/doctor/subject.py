"""A data set under examination, and what a check is.

Checks read records, as every command does; what a reader could not turn into a record is a fault
already and reaches the report by itself. Letters: N boxes of all records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from glip.data.records import (
    Annotated,
    DetectionData,
    DetectionRecord,
    GroundingData,
    GroundingRecord,
)
from glip.text.tokenizer import Tokenizer

Level = Literal["error", "warning", "note"]
Kind = Literal["detection", "grounding"]
Population = Literal["images", "boxes", "classes"]


class Check(NamedTuple):
    """One thing that may be wrong."""

    name: str
    message: str
    """What is wrong, as the name of what is then counted."""
    way_out: str
    find: Callable[[Subject], Iterable[str]]
    """A line for each case."""
    kinds: tuple[Kind, ...] = ("detection", "grounding")
    of: Population = "boxes"
    """What cases are counted against."""
    tolerated: float | None = 0.0
    """Share up to which this is a warning and no error; 1 is never an error. None: the share of the
    data set that may be left out."""
    level: Level = "error"
    """"note" for what is good to know and no fault."""
    quick: bool = True
    """Whether it looks at annotations only, so that training can run it first."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A data set under examination and views of it."""

    path: Path
    annotated: Annotated
    tokenizer: Tokenizer
    max_tokens: int
    quick: bool
    progress: Callable[[int], object]

    @property
    def kind(self) -> Kind:
        """Whether boxes have classes or phrases."""
        return "detection" if isinstance(self.annotated.data, DetectionData) else "grounding"

    @cached_property
    def detection(self) -> DetectionData:
        """The records of a data set with classes."""
        assert isinstance(self.annotated.data, DetectionData)
        return self.annotated.data

    @cached_property
    def grounding(self) -> GroundingData:
        """The records of a data set with captions."""
        assert isinstance(self.annotated.data, GroundingData)
        return self.annotated.data

    @cached_property
    def records(self) -> list[DetectionRecord | GroundingRecord]:
        """All of them, with or without boxes."""
        return list(self.annotated.data.records)

    @cached_property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(N, 4) xyxy, pixels."""
        boxes = [record.boxes for record in self.records] or [np.zeros((0, 4))]
        return np.concatenate(boxes)

    @cached_property
    def owners(self) -> npt.NDArray[np.int64]:
        """(N,) row of the record of each box."""
        counts = [len(record.boxes) for record in self.records]
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def sides(self) -> npt.NDArray[np.float64]:
        """(N, 2) width and height of the picture of each box, pixels."""
        sides = [record.image_hw[::-1] for record in self.records]
        return np.array(sides, dtype=np.float64).reshape(-1, 2)[self.owners]

    @cached_property
    def crowd(self) -> npt.NDArray[np.bool_]:
        """(N,) whether a box is around many."""
        if self.kind == "grounding":
            return np.zeros(len(self.boxes), dtype=np.bool_)
        return np.concatenate([r.crowd for r in self.detection.records] or [np.zeros(0, bool)])

    @cached_property
    def what(self) -> npt.NDArray[np.int64]:
        """(N,) class row, or row of the phrase in its caption."""
        if self.kind == "grounding":
            rows = [record.owners for record in self.grounding.records]
        else:
            rows = [record.labels for record in self.detection.records]
        return np.concatenate(rows or [np.zeros(0, np.int64)])

    @cached_property
    def files(self) -> dict[str, tuple[int, int]]:
        """File name -> (height, width), each once."""
        return {record.file_name: record.image_hw for record in self.records}

    @cached_property
    def counts(self) -> Counter[str]:
        """Boxes of each class name."""
        names = self.detection.names
        counts = Counter(dict.fromkeys(names, 0))
        for row, number in enumerate(np.bincount(self.what, minlength=len(names)).tolist()):
            counts[names[row]] += number
        return counts

    def called(self, mask: npt.NDArray[np.bool_]) -> Iterator[str]:
        """What to call each box of a mask (N,)."""
        for row in np.flatnonzero(mask).tolist():
            x1, y1, x2, y2 = (f"{value:g}" for value in self.boxes[row].tolist())
            width, height = self.sides[row].astype(int).tolist()
            name = self.records[int(self.owners[row])].file_name
            yield f"{name}: ({x1}, {y1}) to ({x2}, {y2}) in {width} x {height} pixels"

    def population(self, of: Population) -> int:
        """How many there are of what cases are counted against."""
        classes = len(self.detection.names) if self.kind == "detection" else 0
        sizes = {"images": len(self.records), "boxes": len(self.boxes), "classes": classes}
        return max(1, sizes[of])
