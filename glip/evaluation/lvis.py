"""LVIS average precision: "fixed AP" (arXiv 2102.01066; reference H.2), and rare, common, frequent.

No picture has a limit on its detections; instead each class keeps its 10,000 best ones of the whole
data set, so that a class is not pushed out of a picture by the scores of others. Unknown and not
exhaustively labelled classes are treated as in `coco.py`.
"""

from __future__ import annotations

import numpy as np

from glip.data.detection import DetectionData, ImageId
from glip.errors import DataError
from glip.evaluation.average_precision import (
    SIZES,
    UNLIMITED,
    Backend,
    Curves,
    Detected,
    backend_version,
    choose_backend,
    curves,
    mean_precision,
)
from glip.evaluation.coco import detected_of, parts_of, truth_of
from glip.evaluation.predictions import Prediction

KEPT_PER_CLASS = 10_000

PER_PICTURE = 300
"""Detections of a picture that standard AP counts, over all classes."""


class LvisEvaluator:
    """Fixed AP; `update` with predictions in any order, then `compute`.

    Args:
        data: The truth, with the frequency of each class.
        backend: See `glip.evaluation.average_precision`.
        fixed: Off, standard AP: the 300 best detections of each picture, of all classes together.
    Raises:
        DataError: The classes have no frequencies.
    """

    def __init__(
        self, data: DetectionData, *, backend: Backend | None = None, fixed: bool = True
    ) -> None:
        if data.frequencies is None:
            raise DataError(
                f"{data.path}: its categories have no 'frequency' (r, c, f), so it is no LVIS "
                "file; evaluate it as COCO, which also knows neg_category_ids"
            )
        self.data = data
        self.backend = choose_backend(backend)
        self.fixed = fixed
        [self._part] = parts_of(data)
        self._predictions: dict[ImageId, Prediction] = {}

    @property
    def version(self) -> str:
        """What does the matching, for the record."""
        return backend_version(self.backend)

    def update(self, prediction: Prediction) -> None:
        """Add the detections of one picture; of two for one picture the last one counts."""
        self._predictions[prediction.image_id] = prediction

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, APr, APc, APf and the recall AR; NaN without boxes."""
        precision, recall = self._curves()
        result = {
            "AP": mean_precision(precision[..., 0, 0]),
            "AP50": mean_precision(precision[:1, ..., 0, 0]),
            "AP75": mean_precision(precision[5:6, ..., 0, 0]),
        }
        for size, letter in enumerate(SIZES[1:], start=1):
            result[f"AP{letter}"] = mean_precision(precision[..., size, 0])
        frequencies = np.array(self.data.frequencies)
        for letter in "rcf":
            result[f"AP{letter}"] = mean_precision(precision[..., 0, 0], frequencies == letter)
        result["AR"] = mean_precision(recall[..., 0, 0])
        return result

    def per_class(self) -> dict[str, float]:
        """AP of each class that occurs."""
        precision = self._curves().precision[..., 0, 0]
        values = {
            name: mean_precision(precision[:, :, row : row + 1])
            for row, name in enumerate(self.data.names)
        }
        return {name: value for name, value in values.items() if not np.isnan(value)}

    def _curves(self) -> Curves:
        predictions = self._predictions
        if not self.fixed:
            predictions = {key: _best(one, PER_PICTURE) for key, one in predictions.items()}
        # official: LVIS boxes are exported without plus one.
        detected = detected_of(self._part, self.data, predictions, plus_one=False)
        if self.fixed:
            detected = best_of_each_class(detected, KEPT_PER_CLASS)
        return curves(truth_of(self._part), detected, limits=(UNLIMITED,), backend=self.backend)


def best_of_each_class(detected: Detected, kept: int) -> Detected:
    """The `kept` detections of each class with the highest scores, over all pictures."""
    order = np.lexsort((-detected.score, detected.label))  # by class, best first, stable
    labels = detected.label[order]
    starts = np.searchsorted(labels, labels)  # where the class of each begins
    chosen = order[np.arange(len(order)) - starts < kept]
    return detected.select(np.sort(chosen))


def _best(prediction: Prediction, count: int) -> Prediction:
    rows = np.argsort(-prediction.scores, kind="stable")[:count]
    return prediction._replace(
        boxes=prediction.boxes[rows], scores=prediction.scores[rows], labels=prediction.labels[rows]
    )
