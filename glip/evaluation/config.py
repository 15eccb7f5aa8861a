"""What to evaluate on and by which protocol, as a run is told.

Knows nothing about detectors or files of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from glip.data.records import Split
from glip.errors import ConfigError
from glip.evaluation.coco import COCO_METRICS
from glip.evaluation.flickr import FLICKR_METRICS
from glip.evaluation.lvis import LVIS_METRICS
from glip.settings import within

Task = Literal["coco", "lvis", "flickr", "odinw", "custom"]
METRICS: Mapping[Task, tuple[str, ...]] = {
    "coco": COCO_METRICS,
    "custom": COCO_METRICS,
    "lvis": LVIS_METRICS,
    "flickr": FLICKR_METRICS,
}
"""What each task measures; "odinw" has AP and, by the name of each data set, that of the set."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate on, while training and at its end."""

    annotations: str | None = None
    """None: no evaluation."""
    images: str | None = None
    split: Split | None = None
    task: Task = "coco"
    """The protocol."""
    every_epochs: float | None = 1.0
    """None: only at the end."""
    every_steps: int | None = None
    """Instead of `every_epochs`, where data sets are of any size."""
    metric: str | None = None
    """The one that decides about the best weights; by default the first of the protocol."""
    batch_size: int = 1
    limit: int | None = None
    """Only the first pictures."""
    sample_pictures: int = 8
    """How many are drawn in the report."""

    def __post_init__(self) -> None:
        within("evaluation.limit", self.limit, least=1)
        known = METRICS.get(self.task)
        # Parts have metrics of their own, such as "people/R@1".
        name = None if self.metric is None else self.metric.rpartition("/")[2]
        if known is not None and name is not None and name not in known:
            raise ConfigError(
                f"evaluation.metric: {self.task} has no {self.metric!r}; it has {', '.join(known)}"
            )
