"""Which words help: wordings tried one after the other on a few labelled photos.

Greedy, as each choice is cheap to judge and they hardly depend on one another: the template first,
then the wordings class by class, then ensembles of them, then negatives. What does not help is left
out. Thresholds are fitted to the same photos in the end. All trials look at the same pictures, so
their features are computed once.

With a handful of photos the best of many trials is partly luck: report it on other photos.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import box_iou

from glip.data.augment import scene_boxes
from glip.data.pictures import Pictures
from glip.data.records import DetectionData, DetectionRecord
from glip.data.sampling import class_prompt
from glip.detector import Detector
from glip.errors import DataError, PromptError
from glip.evaluation.analysis import best_threshold, curve_of
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.predictions import prediction
from glip.pixels import Prepared
from glip.progress import Counter, Progress
from glip.structures import Detections
from glip.task_prompt import TaskPrompt
from glip.training.features import CachedPyramids, FeatureCache
from glip.tuning.wording import PLAIN, Said, Wordings, worded

logger = logging.getLogger(__name__)

MATCHED = 0.5  # IoU from which a detection counts as right, for thresholds


@dataclass(frozen=True)
class Trial:
    """One choice of words and what it gave."""

    what: str
    said: Said
    ap: float | None
    """None if these words do not fit the text encoder."""
    per_class: Mapping[str, float]
    kept: bool


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search came to."""

    trials: tuple[Trial, ...]
    """In order; the first is the plain names."""
    said: Said
    task: TaskPrompt
    """The best words with their thresholds."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "trials": [
                {
                    "what": trial.what,
                    "AP": trial.ap,
                    "kept": trial.kept,
                    "per_class": dict(trial.per_class),
                }
                for trial in self.trials
            ],
            "best": dict(self.task.notes),
            "thresholds": dict(zip(self.task.names, self.task.thresholds, strict=True)),
        }


class Photos:
    """A few labelled photos that are looked at again and again.

    Args:
        detector: Whose backbone sees them, once.
        data: Their boxes.
        pictures: Where they are.
        gib: Memory for features.
    """

    def __init__(
        self, detector: Detector, data: DetectionData, pictures: Pictures, *, gib: float = 2.0
    ) -> None:
        self.data = data
        cached = CachedPyramids(detector.model, FeatureCache(gib))
        self.detector = Detector(detector.torch_engine.with_encoder(cached))
        self._pictures = [
            (record, self.detector.prepare(pictures.read(record.file_name)))
            for record in data.records
        ]

    def detections(self, task: TaskPrompt) -> list[tuple[DetectionRecord, Detections]]:
        """What a table of words finds in each photo."""
        detector = self.detector.with_prompt(task)
        prompt = class_prompt(self.data.names)

        def one(prepared: Prepared) -> Detections:
            ((found,),) = detector.detect([prepared], [[prompt]])
            return found

        return [(record, one(prepared)) for record, prepared in self._pictures]

    def measure(self, task: TaskPrompt) -> tuple[float, dict[str, float]]:
        """AP, and AP of each class that occurs."""
        evaluator = CocoEvaluator(self.data)
        ids = np.array(self.data.category_ids, dtype=np.int64)
        for record, found in self.detections(task):
            evaluator.update(
                prediction(
                    record.image_id,
                    found.boxes,
                    found.scores,
                    ids[found.phrase_ids],
                )
            )
        return evaluator.compute()["AP"], evaluator.per_class()


def search(photos: Photos, wordings: Wordings, *, progress: Progress | None = None) -> SearchResult:
    """The words that find most on some photos.

    Args:
        photos: With boxes.
        wordings: What to try.
        progress: Is told of each trial.
    Raises:
        ConfigError: Wordings of other classes than those of the photos.
        DataError: No photo has a box.
    """
    names = photos.data.names
    wordings.check(names)
    counter = Counter(progress, "words", count_trials(wordings, names), unit="trial")
    trials = _Trials(photos, counter)
    best = trials.attempt("names", Said({name: (name,) for name in names}))
    for template in wordings.templates:
        if template != PLAIN:
            best = trials.attempt(f"template {template!r}", replace(best, template=template))
    for name in names:
        for wording in wordings.of(name)[1:]:
            texts = {**best.texts, name: (wording,)}
            best = trials.attempt(f"{name}: {wording!r}", replace(best, texts=texts))
    if any(len(wordings.of(name)) > 1 for name in names):
        every = replace(best, texts={name: wordings.of(name) for name in names})
        best = trials.attempt("all wordings, scores averaged", every)
        together = replace(every, ensemble="features")
        best = trials.attempt("all wordings, features averaged", together)
    if best.ensemble == "scores":
        together = replace(best, ensemble="features")
        best = trials.attempt("features of the best wordings", together)
    for negative in wordings.negatives:
        negatives = (*best.negatives, negative)
        best = trials.attempt(f"not {negative!r}", replace(best, negatives=negatives))
    task = worded(photos.detector, best)
    task = replace(task, thresholds=fit_thresholds(photos.detections(task), len(names)))
    return SearchResult(tuple(trials.made), best, task)


class _Trials:
    """What was tried on some photos, the best so far among it.

    Args:
        photos: With boxes.
        counter: Is told of each trial.
    """

    def __init__(self, photos: Photos, counter: Counter) -> None:
        self._photos, self._counter = photos, counter
        self.made: list[Trial] = []

    def attempt(self, what: str, said: Said) -> Said:
        """Try some words: the better ones of these and the best so far.

        Raises:
            DataError: The photos have no box.
            PromptError: The first words of all do not fit the text encoder.
        """
        ap, per_class = self._measure(what, said)
        self._counter.add()
        kept = ap is not None and ap > max(
            (t.ap for t in self.made if t.ap is not None), default=-1
        )
        self.made.append(Trial(what, said, ap, per_class, kept))
        return [trial for trial in self.made if trial.kept][-1].said

    def _measure(self, what: str, said: Said) -> tuple[float | None, dict[str, float]]:
        photos = self._photos
        try:
            ap, per_class = photos.measure(worded(photos.detector, said))
        except PromptError as error:
            if not self.made:
                raise  # the names themselves do not fit
            logger.warning("%s is left out: %s", what, error)
            return None, {}
        if math.isnan(ap):
            raise DataError(f"{photos.data.path} has no box on these photos to judge words by")
        return ap, per_class


def count_trials(wordings: Wordings, names: Sequence[str]) -> int:
    """How many trials a search takes at most."""
    others = sum(len(wordings.of(name)) - 1 for name in names)
    return 2 + len(wordings.templates) + others + (2 if others else 0) + len(wordings.negatives)


def fit_thresholds(
    found: Sequence[tuple[DetectionRecord, Detections]], classes: int, default: float = 0.3
) -> tuple[float, ...]:
    """Of each class the score with the best F1: the harmonic mean of precision and recall.

    The threshold lies half-way between the last detection that should count and the first that
    should not.

    Args:
        found: Photos with their boxes, and what was found on them; class rows are those of the
            records.
        classes: Number of classes.
        default: For classes without any box on the photos.
    """
    scores: list[list[float]] = [[] for _ in range(classes)]
    right: list[list[bool]] = [[] for _ in range(classes)]
    total = [0] * classes
    for record, detections in found:
        useful = scene_boxes(record.boxes, record.image_hw)[1] & ~record.crowd
        for row in range(classes):
            truth = torch.from_numpy(record.boxes[useful & (record.labels == row)]).float()
            own = detections[detections.phrase_ids == row]
            total[row] += len(truth)
            scores[row] += own.scores.tolist()
            right[row] += _matched(torch.from_numpy(own.boxes), truth)
    return tuple(
        _best(np.array(scores[row]), np.array(right[row], dtype=np.bool_), total[row], default)
        for row in range(classes)
    )


def _best(
    scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], total: int, default: float
) -> float:
    order = np.argsort(-scores, kind="stable")
    return best_threshold(curve_of(scores[order], right[order], total), default)


def _matched(boxes: Tensor, truth: Tensor) -> list[bool]:
    """Of each box, best first, whether it finds a true one that no better box has found."""
    overlaps = box_iou(boxes, truth)
    taken: set[int] = set()
    result = []
    for row in range(len(boxes)):
        free = [place for place in range(len(truth)) if place not in taken]
        best = max(free, key=lambda place: float(overlaps[row, place]), default=-1)
        hit = best >= 0 and float(overlaps[row, best]) >= MATCHED
        if hit:
            taken.add(best)
        result.append(hit)
    return result
