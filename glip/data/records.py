"""What an annotation file says, whatever its format: records of boxes with classes or phrases.

Three kinds of class stand beside the boxes of a picture (LVIS, arXiv 1908.03195): those known to be
absent, those of which only some instances have a box, and those nobody looked for. Unknown is not
negative: nothing here ever turns one into the other. A plain COCO file has all its classes looked
for in all its pictures.

Knows nothing about files, prompts, tokens or pixels. Letters: N boxes of one picture or caption,
P phrases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glip.data.faults import Faults
from glip.data.packed import Packed
from glip.data.pictures import Pictures
from glip.errors import DataError
from glip.text.characters import composed

ImageId = int | str


@dataclass(frozen=True, eq=False)
class DetectionRecord:
    """What a file says of one picture. Class rows count the names of its `DetectionData` from 0."""

    image_id: ImageId
    file_name: str
    """As `glip.data.pictures` finds it."""
    image_hw: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    """(N, 4) xyxy, pixels, exactly as in the file: x2 is x + width, nothing is clipped or
    dropped."""
    labels: npt.NDArray[np.int64]
    """(N,) class rows."""
    crowd: npt.NDArray[np.bool_]
    """(N,), True for a region of many instances: never a target, and ignored in evaluation."""
    absent: tuple[int, ...] | None = None
    """Class rows known not to be in the picture; None: all classes of its vocabulary without a
    box."""
    not_exhaustive: tuple[int, ...] = ()
    """Class rows of which some instances may lack a box."""
    areas: npt.NDArray[np.float64] | None = None
    """(N,) square pixels by which evaluation sorts sizes, such as those of masks; None: of the
    boxes."""
    vocabulary: str | None = None
    """Name of the list of classes the picture was labelled for, if the file has several."""
    scores: npt.NDArray[np.float32] | None = None
    """(N,) in [0, 1], how sure a teacher was, 1 for boxes without a score; None if none has one."""


@dataclass(frozen=True, eq=False)
class DetectionData:
    """A detection data set: class names, and a record for each picture."""

    path: Path
    names: tuple[str, ...]
    """In the order of rising category id (official: so that prompts read the same). However a file
    writes them, an accent and its letter are one character here."""
    category_ids: tuple[int, ...]
    """Of each name, its id in the file."""
    records: Packed[DetectionRecord]
    vocabularies: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each named vocabulary, its class rows; empty if all pictures share one."""
    frequencies: tuple[str, ...] | None = None
    """Of each name "r", "c" or "f" (rare, common, frequent), as LVIS has them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(composed, self.names)))

    def __len__(self) -> int:
        return len(self.records)

    def vocabulary(self, record: DetectionRecord) -> tuple[int, ...]:
        """The class rows somebody may ask for in a picture: those of its vocabulary, or else
        all.
        """
        if record.vocabulary is not None and record.vocabulary in self.vocabularies:
            return self.vocabularies[record.vocabulary]
        return tuple(range(len(self.names)))

    def absent(self, record: DetectionRecord) -> tuple[int, ...]:
        """The class rows that are surely not in a picture, rising; the only ones fit as
        negatives.
        """
        rows = self.vocabulary(record) if record.absent is None else record.absent
        doubtful = {*record.labels.tolist(), *record.not_exhaustive}
        return tuple(sorted(row for row in rows if row not in doubtful))

    def looked_for(self, record: DetectionRecord) -> frozenset[int]:
        """The class rows of which something is known in a picture; a detection of another one is
        neither right nor wrong.
        """
        if record.absent is None:
            return frozenset(self.vocabulary(record))
        return frozenset((*record.absent, *record.labels.tolist(), *record.not_exhaustive))

    def only(self, vocabulary: str) -> DetectionData:
        """The pictures that were labelled for one vocabulary of several.

        Raises:
            DataError: There are none.
        """
        records = Packed(r for r in self.records if r.vocabulary == vocabulary)
        if not len(records):
            known = ", ".join(self.vocabularies) or "none"
            raise DataError(
                f"{self.path} has no picture of the vocabulary {vocabulary!r}; it has {known}"
            )
        return replace(self, records=records)

    def file_names(self) -> list[str]:
        """The pictures' names, in order."""
        return [record.file_name for record in self.records]


Span = tuple[int, int]


Phrase = tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class GroundingRecord:
    """One caption of one picture, and the boxes of its phrases."""

    image_id: ImageId
    """Of the entry: a picture with five captions is five entries in MDETR files."""
    file_name: str
    image_hw: tuple[int, int]
    caption: str
    phrases: tuple[Phrase, ...]
    """P phrases, each its [start, end) characters; spans of one phrase are in order and do not
    meet."""
    boxes: npt.NDArray[np.float64]
    """(N, 4) xyxy, pixels, exactly as in the file."""
    owners: npt.NDArray[np.int64]
    """(N,) row of `phrases`."""
    scores: npt.NDArray[np.float32] | None = None
    """(N,) in [0, 1], how sure a teacher was of each box; None for boxes drawn by people."""


@dataclass(frozen=True, eq=False)
class GroundingData:
    """A grounding data set: a record for each caption."""

    path: Path
    records: Packed[GroundingRecord]

    def __len__(self) -> int:
        return len(self.records)

    def file_names(self) -> list[str]:
        """The pictures' names, in order of the records."""
        return [record.file_name for record in self.records]


@dataclass(frozen=True, eq=False)
class Annotated:
    """Annotations together with their pictures."""

    data: DetectionData | GroundingData
    pictures: Pictures
    faults: Faults
    """What the reader left out."""
