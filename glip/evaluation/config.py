"""What to evaluate on and by which protocol, as a run is told.

Knows nothing about detectors or files of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from glip.choices import Backend, Split, Task
from glip.data.faults import MAX_BAD
from glip.errors import ConfigError
from glip.evaluation.coco import COCO_METRICS
from glip.evaluation.flickr import FLICKR_METRICS
from glip.evaluation.lvis import LVIS_METRICS
from glip.settings import within
from glip.text.characters import composed_keys

METRICS: Mapping[Task, tuple[str, ...]] = {
    "coco": COCO_METRICS,
    "custom": COCO_METRICS,
    "lvis": LVIS_METRICS,
    "flickr": FLICKR_METRICS,
}
"""What each task measures; "odinw" has AP and, by the name of each data set, that of the set."""


@dataclass(frozen=True)
class TaskOptions:
    """An evaluation by the protocol of a task, but for the data and who is evaluated."""

    task: Task = "custom"
    """The protocol. "custom" is that of COCO for any detection data."""
    images: str | Path | None = None
    """Folder or tar of the pictures; by default beside the annotations."""
    split: Split | None = None
    """Of a folder with several."""
    chunk: int | None = None
    """Class names asked for at a time, in prompts of their own; by default 40 for LVIS and all of
    them otherwise."""
    wordings: Mapping[str, str] | None = None
    """Class name -> other words for it. The pictures whose vocabulary has such a class are then
    evaluated a second time with those words in the prompt, in the folder `reworded` below the
    output, and both are compared on these classes. For "coco" and "custom"."""
    fixed_ap: bool = True
    """For LVIS; off, standard AP."""
    max_detections: int | None = None
    """Of a picture, or of a picture and chunk; by default 300 for LVIS, else 100."""
    batch_size: int = 1
    """Pictures that go through the model together."""
    limit: int | None = None
    """Only the first pictures, for a quick look; the numbers are no results then."""
    backend: Backend | None = None
    """Of average precision; by default the fastest that is installed."""
    examine: bool = True
    """Say what the doctor's quick checks find in the data."""
    max_bad: float = MAX_BAD
    """Share of entries that cannot be used and may be left out."""

    report: bool = True
    """Write `report.html` for data with classes: curves, errors by kind, thresholds, photos with
    most errors."""

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ConfigError(f"task {self.task!r} is not one of {', '.join(get_args(Task))}")
        for name in ("limit", "chunk", "max_detections", "batch_size"):
            within(name, getattr(self, name), least=1)
        if self.task == "odinw":
            given = ("images", "split", "wordings", "chunk", "max_detections")
            if extra := [name for name in given if getattr(self, name) is not None]:
                raise ConfigError(
                    f"task odinw takes no {extra[0]}: each data set has its pictures beside it and "
                    "is asked for all classes; evaluate a single one as 'custom'"
                )
        if self.wordings is not None and self.task not in ("coco", "custom"):
            raise ConfigError(
                f"other wordings are for the tasks coco and custom, not for {self.task}"
            )
        if self.wordings is not None:
            object.__setattr__(self, "wordings", composed_keys(self.wordings))


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
    before: bool = True
    """Also the weights that a run starts from, if it starts from any, to say what was gained."""
    metric: str | None = None
    """The one that decides about the best weights; by default the first of the protocol."""
    batch_size: int = 1
    limit: int | None = None
    """Only the first pictures."""
    max_bad: float = MAX_BAD
    """Share of entries that cannot be used and may be left out."""
    sample_pictures: int = 8
    """How many are drawn in the report."""

    def __post_init__(self) -> None:
        within("evaluation.limit", self.limit, least=1)
        within("evaluation.every_epochs", self.every_epochs, above=0)
        within("evaluation.every_steps", self.every_steps, least=1)
        within("evaluation.batch_size", self.batch_size, least=1)
        within("evaluation.max_bad", self.max_bad, least=0, most=1)
        within("evaluation.sample_pictures", self.sample_pictures, least=0)
        known = METRICS.get(self.task)
        # Parts have metrics of their own, such as "people/R@1".
        name = None if self.metric is None else self.metric.rpartition("/")[2]
        if known is not None and name is not None and name not in known:
            raise ConfigError(
                f"evaluation.metric: {self.task} has no {self.metric!r}; it has {', '.join(known)}"
            )
