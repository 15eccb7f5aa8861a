"""What stands behind an average precision: which detections were right, and how the others erred.

Kinds of errors are those of TIDE (arXiv 2008.08115), each with the AP50 that would be won without
it. Everything is counted at an IoU of 0.5; crowds, and classes that nobody looked for in a picture,
are neither right nor wrong. Knows nothing about models or pages. Letters: D detections, G boxes of
the truth, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from glip.association.matching import intersections
from glip.data.records import DetectionData, DetectionRecord, ImageId
from glip.evaluation.predictions import Prediction

Kind = Literal["class", "place", "both", "twice", "background", "missed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEANING: Mapping[Kind, str] = {
    "class": "a box of another class is there",
    "place": "the right class, but the box fits too badly",
    "both": "another class, and the box fits badly",
    "twice": "the right box, which a better detection has found",
    "background": "nothing is there",
    "missed": "a box that nothing was found for",
}
RIGHT, IGNORED = -1, -2
FITS, TOUCHES = 0.5, 0.1
"""IoU from which a detection fits a box, and from which it has to do with one."""
FLOOR = 0.05
"""Thresholds do not fall below this, where detections are noise."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections and truth of a data set, each with what it met."""

    classes: int
    photo: Ints
    """(D,) row of the record."""
    label: Ints
    """(D,) class row."""
    score: Floats
    """(D,)."""
    kind: Ints
    """(D,) place in `KINDS`, or RIGHT or IGNORED."""
    met: Ints
    """(D,) row of the true box that it fits or should have fitted, -1 for none."""
    truth_photo: Ints
    """(G,) row of the record; without crowds."""
    truth_label: Ints
    """(G,) class row."""
    found: npt.NDArray[np.bool_]
    """(G,) whether a detection is right about it."""

    def of_class(self, row: int) -> tuple[Floats, npt.NDArray[np.bool_], int]:
        """(D,) scores and (D,) whether they are right, best first, and how many are to be found."""
        own = (self.label == row) & (self.kind != IGNORED)
        order = np.argsort(-self.score[own], kind="stable")
        right = self.kind[own][order] == RIGHT
        return self.score[own][order], right, int((self.truth_label == row).sum())

    def of_all(self) -> tuple[Floats, npt.NDArray[np.bool_], int]:
        """(D,) and (D,) likewise over all classes."""
        own = self.kind != IGNORED
        order = np.argsort(-self.score[own], kind="stable")
        return self.score[own][order], self.kind[own][order] == RIGHT, len(self.truth_label)


class Curve(NamedTuple):
    """What each threshold would give, the highest first."""

    threshold: Floats
    """(D,)."""
    precision: Floats
    """(D,) share of the detections above it that are right."""
    recall: Floats
    """(D,) share of the true boxes that are found above it."""

    @property
    def f1(self) -> Floats:
        """(D,) harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / np.maximum(both, 1e-9)


def judge(data: DetectionData, predictions: Mapping[ImageId, Prediction]) -> Judged:
    """Match detections with the truth, greedily, the surest first, as COCO does.

    Args:
        data: The truth.
        predictions: By picture; those of pictures that are missing count as empty.
    """
    row_of = {category: row for row, category in enumerate(data.category_ids)}
    parts = [
        _judge_one(photo, record, predictions.get(record.image_id), row_of, data.looked_for(record))
        for photo, record in enumerate(data.records)
    ]
    starts = np.cumsum([0, *(len(part.truth_label) for part in parts)])
    met = [
        np.where(part.met >= 0, part.met + start, -1)
        for part, start in zip(parts, starts, strict=False)
    ]
    return Judged(
        len(data.names),
        np.concatenate([part.photo for part in parts]),
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate(met),
        np.concatenate([part.truth_photo for part in parts]),
        np.concatenate([part.truth_label for part in parts]),
        np.concatenate([part.found for part in parts]),
    )


def _judge_one(
    photo: int,
    record: DetectionRecord,
    prediction: Prediction | None,
    row_of: Mapping[int, int],
    looked_for: frozenset[int],
) -> Judged:
    """Detections and truth of one photo; of what may be there without a box nothing is wrong."""
    plain = ~record.crowd
    truth, truth_label = record.boxes[plain], record.labels[plain].astype(np.int64)
    found = np.zeros(len(truth), dtype=np.bool_)
    count = 0 if prediction is None else len(prediction.scores)
    kind = np.full(count, IGNORED, dtype=np.int64)
    met = np.full(count, -1, dtype=np.int64)
    boxes: npt.NDArray[np.float64] = np.zeros((0, 4))
    score: npt.NDArray[np.float64] = np.zeros(0)
    label: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    if prediction is not None and count:
        boxes, score = prediction.boxes.astype(np.float64), prediction.scores.astype(np.float64)
        label = np.array([row_of.get(int(one), -1) for one in prediction.labels], dtype=np.int64)
    overlaps = overlap(boxes, truth)  # (D, G)
    crowds, crowd_label = record.boxes[record.crowd], record.labels[record.crowd]
    covered = overlap(boxes, crowds, of_first=True)
    known = np.isin(label, list(looked_for.difference(record.not_exhaustive)))
    for place in np.argsort(-score, kind="stable"):
        same = truth_label == label[place]
        fits = np.where(same & ~found, overlaps[place], 0.0)
        if len(truth) and fits.max() >= FITS:
            met[place] = fits.argmax()
            found[met[place]] = True
            kind[place] = RIGHT
        elif known[place] and not (covered[place][crowd_label == label[place]] >= FITS).any():
            kind[place], met[place] = _error(overlaps[place], same)
    photos = np.full(count, photo), np.full(len(truth), photo)
    return Judged(0, photos[0], label, score, kind, met, photos[1], truth_label, found)


def _error(overlaps: Floats, same: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """How a detection errs that is not right, and the true box that it is about.

    Args:
        overlaps: (G,) IoU with the boxes of its photo.
        same: (G,) which of them are of its class.
    """
    if not len(overlaps) or overlaps.max() < TOUCHES:
        return KINDS.index("background"), -1
    own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    if TOUCHES <= own.max() < FITS:
        return KINDS.index("place"), int(own.argmax())
    if other.max() >= FITS:
        return KINDS.index("class"), int(other.argmax())
    if own.max() >= FITS:
        return KINDS.index("twice"), int(own.argmax())
    return KINDS.index("both"), int(other.argmax())


def overlap(
    boxes: npt.NDArray[np.floating], others: npt.NDArray[np.floating], *, of_first: bool = False
) -> Floats:
    """(N, M) IoU of (N, 4) and (M, 4) xyxy boxes; `of_first`, the share of the first that lies in
    the second.
    """
    shared, areas, other_areas = intersections(boxes, others)
    whole = areas[:, None] + (0 if of_first else other_areas - shared)
    result: Floats = shared / np.maximum(whole, 1e-9)
    return result


def curve_of(score: Floats, right: npt.NDArray[np.bool_], total: int) -> Curve:
    """Precision and recall at each of (D,) scores, best first; empty with nothing to find."""
    if not total:
        return Curve(*(np.zeros(0) for _ in range(3)))
    hits = right.cumsum()
    return Curve(score, hits / np.arange(1, len(score) + 1), hits / total)


def best_threshold(curve: Curve, default: float = 0.3) -> float:
    """The score with the best F1: half-way between the last detection that should count and the
    first that should not; `default` if nothing is right.
    """
    f1 = curve.f1
    if not len(f1) or f1.max() == 0:
        return default
    last = int(f1.argmax())
    below = curve.threshold[last + 1] if last + 1 < len(f1) else 0.0
    return max(FLOOR, float(curve.threshold[last] + below) / 2)


def at(curve: Curve, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of the detections above a threshold."""
    count = int((curve.threshold > threshold).sum())
    if not count:
        return 0.0, 0.0, 0.0
    row = count - 1
    return float(curve.precision[row]), float(curve.recall[row]), float(curve.f1[row])


def average_precision(score: Floats, right: npt.NDArray[np.bool_], total: int) -> float:
    """AP of (D,) detections at an IoU of 0.5 as COCO interpolates it, at 101 recalls.

    NaN with nothing to find.
    """
    if not total:
        return float("nan")
    curve = curve_of(score, right, total)
    if not len(score):
        return 0.0
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    places = np.searchsorted(curve.recall, np.linspace(0, 1, 101), side="left")
    return float(np.where(places < len(best), best[np.minimum(places, len(best) - 1)], 0.0).mean())


def missed(judged: Judged) -> npt.NDArray[np.bool_]:
    """(G,) which boxes nothing was found for: no detection is right about them, or would be but for
    its class or its place.
    """
    explained = np.isin(judged.kind, (KINDS.index("class"), KINDS.index("place")))
    met = np.zeros(len(judged.found), dtype=np.bool_)
    met[judged.met[explained]] = True
    return ~(judged.found | met)


def cost_of_errors(judged: Judged) -> dict[Kind, float]:
    """AP50 that would be won if there were no errors of a kind, mean over the classes."""
    before = _mean_precision(judged)
    return {kind: _mean_precision(_without(judged, kind)) - before for kind in KINDS}


def _mean_precision(judged: Judged) -> float:
    each = [average_precision(*judged.of_class(row)) for row in range(judged.classes)]
    there = [value for value in each if not np.isnan(value)]
    return float(np.mean(there)) if there else 0.0


def _without(judged: Judged, kind: Kind) -> Judged:
    """The same if nothing had erred in a way: corrected where that finds a box, else left out."""
    wrong = judged.kind == KINDS.index(kind)
    outcome, label, found = judged.kind.copy(), judged.label.copy(), judged.found.copy()
    if kind == "missed":
        return replace(judged, truth_label=judged.truth_label[~missed(judged)])
    outcome[wrong] = IGNORED
    if kind in ("class", "place"):
        rows = np.flatnonzero(wrong)
        for row in rows[np.argsort(-judged.score[rows], kind="stable")]:
            if not found[judged.met[row]]:
                found[judged.met[row]] = True
                outcome[row], label[row] = RIGHT, judged.truth_label[judged.met[row]]
    return replace(judged, kind=outcome, label=label)


def confusions(judged: Judged, threshold: Sequence[float]) -> Ints:
    """(K + 1, K + 1) how often a box of a class (row) was said to be of a class (column).

    The last column is of boxes that nothing was found for, the last row of detections where nothing
    is, where their box fits badly, or where a better one has found the box.

    Args:
        judged: See there.
        threshold: (K,) of each class; only detections above count.
    """
    table = np.zeros((judged.classes + 1, judged.classes + 1), dtype=np.int64)
    shown, hit = _shown(judged, threshold)
    swapped = shown & (judged.kind == KINDS.index("class"))
    named = shown & ((judged.kind == RIGHT) | swapped)
    np.add.at(table, (judged.truth_label[judged.met[named]], judged.label[named]), 1)
    np.add.at(table[-1], judged.label[shown & (judged.kind >= 0) & ~swapped], 1)
    taken = hit.copy()
    taken[judged.met[swapped]] = True
    np.add.at(table[:, -1], judged.truth_label[~taken], 1)
    return table


class PhotoErrors(NamedTuple):
    """What is wrong in a photo above the thresholds."""

    photo: int
    """Row of the record."""
    kinds: dict[Kind, int]
    """Number of errors by kind, those that there are; "missed" is a box that none is right about.
    """

    @property
    def total(self) -> int:
        """All errors."""
        return sum(self.kinds.values())


def worst_photos(judged: Judged, threshold: Sequence[float], photos: int) -> list[PhotoErrors]:
    """Those with errors above the thresholds, most first.

    Args:
        judged: See there.
        threshold: (K,) of each class.
        photos: How many photos there are.
    """
    shown, hit = _shown(judged, threshold)
    wrong = shown & (judged.kind >= 0)
    counts = np.zeros((photos, len(KINDS)), dtype=np.int64)
    np.add.at(counts, (judged.photo[wrong], judged.kind[wrong]), 1)
    np.add.at(counts[:, KINDS.index("missed")], judged.truth_photo[~hit], 1)
    order = np.argsort(-counts.sum(1), kind="stable")
    return [
        PhotoErrors(
            int(row), {kind: int(n) for kind, n in zip(KINDS, counts[row], strict=True) if n}
        )
        for row in order
        if counts[row].any()
    ]


def of_photo(
    judged: Judged, threshold: Sequence[float], photo: int
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(D,) kinds of the detections of a photo, IGNORED where below its threshold, and (G,) which of
    its boxes are found above.
    """
    shown, hit = _shown(judged, threshold)
    kinds = np.where(shown, judged.kind, IGNORED)
    return kinds[judged.photo == photo], hit[judged.truth_photo == photo]


def _shown(
    judged: Judged, threshold: Sequence[float]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(D,) which detections are above the thresholds, (G,) which boxes they find."""
    limits = np.array([*threshold, 1.0])  # a label that is not known counts for nothing
    shown = judged.score > limits[judged.label]
    hit = np.zeros(len(judged.found), dtype=np.bool_)
    hit[judged.met[shown & (judged.kind == RIGHT)]] = True
    return shown, hit
