"""What a teacher is: whatever finds boxes for the phrases of captions, and which of them are kept.

GLIP taught its students with pseudo-grounding of its own (arXiv 2112.03857, section 3.2); here any
detector of phrases may. Knows nothing about files of captions, filters or journals. Letters: N
regions, P phrases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from glip.choices import Aggregate
from glip.config import PostprocessOptions
from glip.jobs.batches import Pace
from glip.pixels import Prepared
from glip.settings import within
from glip.structures import Detections
from glip.text.prompt import Prompt


@dataclass(frozen=True)
class BoxConfig:
    """Which boxes of a teacher are kept."""

    min_score: float = 0.2
    """Boxes score above this. What is below 0.5 are the teacher's educated guesses: they are kept
    with their scores, and `min_score` and `trust_scores` of the training decide about them."""
    nms: float = 0.6
    """Of two boxes of one phrase that overlap by more, the better one stays."""
    max_boxes: int = 100
    """Of a caption."""
    max_boxes_per_phrase: int = 20
    min_size: float = 4.0
    """Pixels of the original picture: both sides are at least as long."""
    agreement: float | None = None
    """A box counts only if the teacher finds it in the mirrored picture as well, overlapping by at
    least this IoU; its score is then the mean of both. Takes twice the time. None: one look."""
    aggregate: Aggregate | None = None
    """How the scores of a phrase's tokens become one; by default "mean" for GLIP and "max" for
    Grounding DINO, as each was trained."""

    def __post_init__(self) -> None:
        within("boxes.min_score", self.min_score, least=0, most=1)
        within("boxes.nms", self.nms, least=0, most=1)
        within("boxes.max_boxes", self.max_boxes, least=1)
        within("boxes.max_boxes_per_phrase", self.max_boxes_per_phrase, least=1)
        within("boxes.min_size", self.min_size, least=0)
        within("boxes.agreement", self.agreement, above=0, most=1)
        self.options()

    def options(self) -> PostprocessOptions:
        """As the detector takes them."""
        return PostprocessOptions(
            score=self.min_score,
            nms=self.nms,
            max_detections=self.max_boxes,
            aggregate=self.aggregate,
        )


class Teacher(Protocol):
    """A detector that is asked for phrases."""

    @property
    def pace(self) -> Pace:
        """How many threads read pictures for it, and ask it."""

    def identity(self) -> dict[str, Any]:
        """What tells it from any other: name, kind, SHA-256 of the weights, number format."""

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if it cannot read a phrase. From any thread."""

    def prepare(self, image: Image.Image) -> Prepared:
        """The picture as the model takes it. From any thread."""

    def ground(
        self, pictures: Sequence[Prepared], prompts: Sequence[Sequence[Prompt]], boxes: BoxConfig
    ) -> list[list[Detections]]:
        """For each picture one `Detections` for each of its prompts, best first, unfiltered but for
        score, suppression and number.
        """


# Which boxes are kept.
