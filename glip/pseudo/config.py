"""How captions become pseudo-grounding, and the names of what a job leaves in its folder.

Knows nothing about teachers or journals.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from glip.pseudo.filters import CaptionFilters
from glip.pseudo.teacher import BoxConfig
from glip.settings import within
from glip.text.nouns import Chunker

JOURNAL, SURVEY, DATA, HEADER = "journal", "survey", "data", "header.json"
REPORT = "report.html"
PART = "pseudo-{:05d}.jsonl"
DONE, REFUSED, REJECTED = "done", "refused", "rejected"
"""Status of an entry: asked the teacher; no caption passed the filters; picture or line is bad."""


@dataclass(frozen=True)
class GroundingConfig:
    """How captions become pseudo-grounding."""

    filters: CaptionFilters = field(default_factory=CaptionFilters)
    boxes: BoxConfig = field(default_factory=BoxConfig)
    chunker: Chunker = "builtin"
    """Who finds noun phrases; see `glip.text.nouns`. "auto" can give others on another machine."""
    batch_size: int = 1
    """Pictures that go through the model together; more than one helps on a GPU."""
    workers: int | None = None
    """Threads that read pictures and find phrases ahead of the model; by default 2, and on a GPU
    half the cores, from 2 to 8."""
    captions_per_part: int = 100_000
    """Lines of each file that is written."""
    sample_pictures: int = 24
    """How many captions are drawn in the report."""

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("workers", 1),
            ("captions_per_part", 1),
            ("sample_pictures", 0),
        ):
            within(name, getattr(self, name), least=least)

    def job(self) -> dict[str, Any]:
        """What the records depend on."""
        return {
            "filters": asdict(self.filters),
            "boxes": asdict(self.boxes),
            "chunker": self.chunker,
        }
