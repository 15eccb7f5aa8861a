"""How things are followed through a clip: which frames are looked at, and which boxes count.

The one home of these options, of `glip track` and of `Detector.track`.
"""

from __future__ import annotations

from dataclasses import dataclass

from glip.association.byte_track import AssociationOptions
from glip.choices import Aggregate
from glip.config import PostprocessOptions
from glip.settings import within


@dataclass(frozen=True)
class FollowOptions:
    """How things are followed."""

    every: int = 1
    """Look at each n-th frame, and at the last."""
    threshold: float | None = None
    """Boxes above this begin tracks; None for that of the model."""
    low: float = 0.1
    """Boxes above this carry tracks on."""
    patience: int = 30
    """Frames for which a track may be out of sight."""
    nms: float = 0.6
    """Of two boxes of a phrase that overlap by more, the better one stays."""
    max_detections: int = 100
    """For each frame."""
    aggregate: Aggregate | None = None
    """How the scores of a phrase's tokens become one."""
    exclusive: bool = False
    """One phrase for each thing."""

    def __post_init__(self) -> None:
        within("every", self.every, least=1, whole=True, way_out="1 looks at every frame")

    def association(self, usual: float) -> AssociationOptions:
        """How boxes become tracks; `usual` is the model's threshold."""
        threshold = usual if self.threshold is None else self.threshold
        return AssociationOptions(threshold, self.low, self.patience)

    def of_detections(self, usual: float) -> PostprocessOptions:
        """What becomes of the model's output."""
        return PostprocessOptions(
            score=self.association(usual).least,
            nms=self.nms,
            max_detections=self.max_detections,
            aggregate=self.aggregate,
            exclusive=self.exclusive,
        )
