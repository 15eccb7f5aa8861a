"""COCO average precision of detections, per vocabulary and with what is unknown left out.

A plain COCO file gives the numbers of pycocotools. In a federated one (LVIS, arXiv 1908.03195) a
detection of a class nobody looked for in its picture is dropped, and one of a class of which only
some instances have a box is ignored unless it matches one. Several vocabularies in one file are
measured one by one, each on its own pictures, and the headline is their mean. Knows nothing about
models or prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glip.choices import Backend
from glip.data.records import DetectionData, DetectionRecord, ImageId
from glip.errors import DataError
from glip.evaluation.average_precision import (
    SIZES,
    Curves,
    Detected,
    Truth,
    backend_version,
    choose_backend,
    curves,
    mean_precision,
)
from glip.evaluation.predictions import Prediction

LIMITS = (1, 10, 100)
COCO_METRICS = (
    *("AP", "AP50", "AP75", *(f"AP{letter}" for letter in SIZES[1:])),
    *(f"AR{limit}" for limit in LIMITS),
    *(f"AR{letter}" for letter in SIZES[1:]),
)

_EVERYWHERE = (-1e6, -1e6, 2e6, 2e6)
"""A crowd region around any picture: what matches nothing else in it is neither right nor wrong."""


class VocabularyPart(NamedTuple):
    """The pictures of one vocabulary, with its classes in rows of their own."""

    name: str
    records: list[DetectionRecord]
    rows: tuple[int, ...]
    """Class rows of the data set."""


class CocoEvaluator:
    """COCO average precision; `update` with predictions in any order, then `compute`.

    Args:
        data: The truth.
        backend: See `glip.evaluation.average_precision`.
    """

    def __init__(self, data: DetectionData, *, backend: Backend | None = None) -> None:
        self.data = data
        self.backend = choose_backend(backend)
        self.parts = parts_of(data)
        self._predictions: dict[ImageId, Prediction] = {}
        self._measured: dict[str, Curves] = {}

    @property
    def version(self) -> str:
        """What does the matching, for the record."""
        return backend_version(self.backend)

    def update(self, prediction: Prediction) -> None:
        """Add the detections of one picture; of two for one picture the last one counts."""
        self._predictions[prediction.image_id] = prediction
        self._measured.clear()

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl and the recalls AR1, AR10, AR100, ARs, ARm, ARl.

        With several vocabularies each has its own under "name/AP", and the plain names are means
        over them. NaN where there is nothing to find.
        """
        tables = {part.name: summary(self._curves(part)) for part in self.parts}
        if len(tables) == 1:
            return next(iter(tables.values()))
        keys = list(next(iter(tables.values())))
        result = {key: _mean([table[key] for table in tables.values()]) for key in keys}
        for name, table in tables.items():
            result |= {f"{name}/{key}": value for key, value in table.items()}
        return result

    def per_class(self) -> dict[str, float]:
        """AP of each class that occurs, "vocabulary/class" where there are several vocabularies."""
        result = {}
        for part in self.parts:
            precision = self._curves(part).precision[..., 0, -1]
            for place, name in enumerate(distinct_names(self.data, part)):
                value = mean_precision(precision[:, :, place : place + 1])
                if not np.isnan(value):
                    result[f"{part.name}/{name}" if len(self.parts) > 1 else name] = value
        return result

    def of_classes(self, names: Collection[str]) -> dict[str, float]:
        """AP and AP50 of some classes only, over all vocabularies; NaN where none occurs."""
        found: dict[str, list[float]] = {"AP": [], "AP50": []}
        for part in self.parts:
            precision = self._curves(part).precision[..., 0, -1]
            for place, row in enumerate(part.rows):
                if self.data.names[row] in names:
                    own = precision[:, :, place : place + 1]
                    found["AP"].append(mean_precision(own))
                    found["AP50"].append(mean_precision(own[:1]))
        return {metric: _mean(values) for metric, values in found.items()}

    def _curves(self, part: VocabularyPart) -> Curves:
        if part.name not in self._measured:
            truth = truth_of(part)
            detected = detected_of(part, self.data, self._predictions)
            self._measured[part.name] = curves(truth, detected, limits=LIMITS, backend=self.backend)
        return self._measured[part.name]


def distinct_names(data: DetectionData, part: VocabularyPart) -> list[str]:
    """Names of the classes of a part; where two have the same, with their ids."""
    names = [data.names[row] for row in part.rows]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({data.category_ids[row]})"
        for name, row in zip(names, part.rows, strict=True)
    ]


def parts_of(data: DetectionData) -> list[VocabularyPart]:
    """The pictures of each vocabulary, in the order of their ids as pycocotools has them."""
    names = list(data.vocabularies) or [""]
    records: dict[str, list[DetectionRecord]] = {name: [] for name in names}
    for record in data.records:
        records[record.vocabulary if data.vocabularies and record.vocabulary else names[0]].append(
            record
        )
    every = tuple(range(len(data.names)))
    return [
        VocabularyPart(name, sorted(own, key=_order), data.vocabularies.get(name, every))
        for name, own in records.items()
        if own
    ]


def truth_of(part: VocabularyPart) -> Truth:
    """The boxes of some pictures, and a region around each not exhaustively labelled class."""
    place = {row: number for number, row in enumerate(part.rows)}
    images, labels, boxes, areas, crowds = [], [], [], [], []
    for number, record in enumerate(part.records):
        xyxy = record.boxes
        xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], 1)
        area = xywh[:, 2] * xywh[:, 3] if record.areas is None else record.areas
        for row, box, size, crowd in zip(
            record.labels.tolist(), xywh, area, record.crowd, strict=True
        ):
            if row in place:
                images.append(number)
                labels.append(place[row])
                boxes.append(box)
                areas.append(size)
                crowds.append(bool(crowd))
        for row in record.not_exhaustive:
            if row in place:
                images.append(number)
                labels.append(place[row])
                boxes.append(np.array(_EVERYWHERE))
                areas.append(1.0)
                crowds.append(True)
    return Truth(
        images=len(part.records),
        classes=len(part.rows),
        image=np.array(images, dtype=np.int64),
        label=np.array(labels, dtype=np.int64),
        xywh=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        area=np.array(areas, dtype=np.float64),
        crowd=np.array(crowds, dtype=np.bool_),
    )


def detected_of(
    part: VocabularyPart,
    data: DetectionData,
    predictions: dict[ImageId, Prediction],
) -> Detected:
    """The detections of some pictures, those of classes that were not looked for left out.

    Raises:
        DataError: A detection has a category that is not in the file.
    """
    row_of = {category: row for row, category in enumerate(data.category_ids)}
    place = {row: number for number, row in enumerate(part.rows)}
    images, labels, boxes, scores = [], [], [], []
    for number, record in enumerate(part.records):
        found = predictions.get(record.image_id)
        if found is None or not len(found.scores):
            continue
        asked = {row: place[row] for row in data.looked_for(record) if row in place}
        try:
            places = [asked.get(row_of[category], -1) for category in found.labels.tolist()]
        except KeyError as error:
            raise DataError(
                f"the prediction of image {record.image_id} has category {error}, which is not in "
                f"{data.path}; were the predictions made for this file?"
            ) from error
        kept = np.array(places) >= 0
        images.append(np.full(int(kept.sum()), number, dtype=np.int64))
        labels.append(np.array(places, dtype=np.int64)[kept])
        boxes.append(found.boxes[kept].astype(np.float64))
        scores.append(found.scores[kept].astype(np.float64))
    if not images:
        none = np.zeros(0, dtype=np.int64)
        return Detected(none, none, np.zeros((0, 4)), np.zeros(0))
    xyxy = np.concatenate(boxes)
    size = xyxy[:, 2:] - xyxy[:, :2]
    return Detected(
        np.concatenate(images),
        np.concatenate(labels),
        np.concatenate([xyxy[:, :2], size], 1),
        np.concatenate(scores),
    )


def summary(measured: Curves) -> dict[str, float]:
    """The twelve COCO numbers."""
    precision, recall = measured
    result = {
        "AP": mean_precision(precision[..., 0, -1]),
        "AP50": mean_precision(precision[:1, ..., 0, -1]),
        "AP75": mean_precision(precision[5:6, ..., 0, -1]),
    }
    for size, letter in enumerate(SIZES[1:], start=1):
        result[f"AP{letter}"] = mean_precision(precision[..., size, -1])
    for place, limit in enumerate(LIMITS):
        result[f"AR{limit}"] = mean_precision(recall[..., 0, place])
    for size, letter in enumerate(SIZES[1:], start=1):
        result[f"AR{letter}"] = mean_precision(recall[..., size, -1])
    return result


def _order(record: DetectionRecord) -> tuple[bool, ImageId]:
    return isinstance(record.image_id, str), record.image_id


def _mean(values: Sequence[float]) -> float:
    there: npt.NDArray[np.float64] = np.array([v for v in values if not np.isnan(v)])
    return float(there.mean()) if there.size else float("nan")
