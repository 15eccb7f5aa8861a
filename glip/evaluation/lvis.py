"""LVIS average precision: "fixed AP" (arXiv 2102.01066; reference H.2), and rare, common, frequent.

No picture has a limit on its detections; instead each class keeps its 10,000 best ones of the whole
data set, so that a class is not pushed out of a picture by the scores of others. Unknown and not
exhaustively labelled classes are treated as in `coco.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from glip.choices import Backend
from glip.data.records import DetectionData, ImageId
from glip.errors import DataError
from glip.evaluation.average_precision import (
    SIZES,
    UNLIMITED,
    Curves,
    backend_version,
    choose_backend,
    curves,
    mean_precision,
)
from glip.evaluation.coco import detected_of, distinct_names, parts_of, truth_of
from glip.evaluation.predictions import Prediction

LVIS_METRICS = (
    *("AP", "AP50", "AP75", *(f"AP{letter}" for letter in SIZES[1:])),
    *("APr", "APc", "APf", "AR"),
)

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
        self._measured: Curves | None = None

    @property
    def version(self) -> str:
        """What does the matching, for the record."""
        return backend_version(self.backend)

    def update(self, prediction: Prediction) -> None:
        """Add the detections of one picture; of two for one picture the last one counts."""
        self._predictions[prediction.image_id] = prediction
        self._measured = None

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
            for row, name in enumerate(distinct_names(self.data, self._part))
        }
        return {name: value for name, value in values.items() if not np.isnan(value)}

    def _curves(self) -> Curves:
        if self._measured is None:
            if self.fixed:
                predictions = best_of_each_class(self._predictions, KEPT_PER_CLASS)
            else:
                predictions = {
                    key: _best(one, PER_PICTURE) for key, one in self._predictions.items()
                }
            detected = detected_of(self._part, self.data, predictions)
            # official: LVIS boxes are exported without plus one, a pixel smaller than they are.
            detected = detected._replace(xywh=detected.xywh - np.array([0, 0, 1, 1]))
            self._measured = curves(
                truth_of(self._part), detected, limits=(UNLIMITED,), backend=self.backend
            )
        return self._measured


def best_of_each_class(
    predictions: Mapping[ImageId, Prediction], kept: int
) -> dict[ImageId, Prediction]:
    """The `kept` detections of each class with the highest scores, over all pictures.

    Also those count that will not be judged, as nothing is known of their class in their picture:
    the protocol drops them only afterwards.
    """
    if not predictions:
        return {}
    labels = np.concatenate([one.labels for one in predictions.values()])
    scores = np.concatenate([one.scores for one in predictions.values()])
    order = np.lexsort((-scores, labels))  # by class, best first, stable
    sorted_labels = labels[order]
    starts = np.searchsorted(sorted_labels, sorted_labels)  # where the class of each begins
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order[np.arange(len(order)) - starts < kept]] = True
    ends = np.cumsum([len(one.labels) for one in predictions.values()])
    rows = np.split(chosen, ends[:-1])
    return {key: _rows(one, own) for (key, one), own in zip(predictions.items(), rows, strict=True)}


def _best(prediction: Prediction, count: int) -> Prediction:
    return _rows(prediction, np.argsort(-prediction.scores, kind="stable")[:count])


def _rows(prediction: Prediction, rows: npt.NDArray[Any]) -> Prediction:
    return prediction._replace(
        boxes=prediction.boxes[rows], scores=prediction.scores[rows], labels=prediction.labels[rows]
    )
