"""Why an average precision may be zero: likely causes, each found by looking at truth and
predictions.

A zero is hardly ever the model's fault alone. Every check below is one row of a table and says what
it saw and what to try. Knows nothing about models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glip.data.records import DetectionData, DetectionRecord
from glip.evaluation.analysis import overlap
from glip.evaluation.predictions import Prediction

SAMPLE = 500
"""Pictures looked at; a fault that makes everything zero shows in each of them."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Truth and predictions side by side."""

    data: DetectionData
    pairs: Sequence[tuple[DetectionRecord, Prediction]]
    """Of pictures that are in both."""
    predictions: Sequence[Prediction]


def likely_causes(data: DetectionData, predictions: Sequence[Prediction]) -> list[str]:
    """Sentences about what may have gone wrong, the most basic first; one at least.

    Args:
        data: The truth.
        predictions: Of all pictures.
    """
    by_id = {prediction.image_id: prediction for prediction in predictions}
    pairs = [(r, by_id[r.image_id]) for r in data.records if r.image_id in by_id]
    evidence = Evidence(data, pairs[:SAMPLE], predictions)
    found = [cause for check in CHECKS if (cause := check(evidence)) is not None]
    return found or [
        "boxes are found, but not where the true ones are: look at a few pictures with "
        "Detections.plot, and check that the prompt's words fit what is boxed"
    ]


def _no_common_picture(evidence: Evidence) -> str | None:
    if evidence.pairs or not evidence.predictions:
        return None
    return (
        f"no picture id of the predictions (such as {evidence.predictions[0].image_id!r}) is in "
        f"{evidence.data.path}: they were made for another file"
    )


def _no_truth(evidence: Evidence) -> str | None:
    if any(len(record.boxes) for record, _ in evidence.pairs) or not evidence.pairs:
        return None
    return f"{evidence.data.path} has no box in the pictures that were predicted"


def _unreadable(evidence: Evidence) -> str | None:
    errors = [p.error for p in evidence.predictions if p.error is not None]
    if not errors:
        return None
    count = f"{len(errors)} of {len(evidence.predictions)}"
    return f"{count} pictures could not be read, the first one: {errors[0]}"


def _nothing_found(evidence: Evidence) -> str | None:
    if any(len(prediction.scores) for prediction in evidence.predictions):
        return None
    return (
        "nothing was found in any picture: the threshold is too high, the weights are untrained or "
        "those of another model, or the prompt's words mean nothing to it"
    )


def _low_scores(evidence: Evidence) -> str | None:
    best = [float(p.scores.max()) for p in evidence.predictions if len(p.scores)]
    if not best or max(best) > 0.15:
        return None
    return (
        f"no score is above {max(best):.2f}: the weights are untrained or only partly loaded, or "
        "pixels have another order or scale than they were trained with"
    )


def _unknown_categories(evidence: Evidence) -> str | None:
    known = set(evidence.data.category_ids)
    used = {int(label) for p in evidence.predictions for label in np.unique(p.labels)}
    if not used or used & known:
        return None
    return (
        f"the predictions have categories {sorted(used)[:5]}, the file {sorted(known)[:5]}: phrase "
        "rows were not translated to category ids"
    )


def _fractions(evidence: Evidence) -> str | None:
    boxes = [record.boxes for record, _ in evidence.pairs if len(record.boxes)]
    if not boxes or np.concatenate(boxes).max() > 2:
        return None
    return "the true boxes are fractions of the picture; a COCO file has pixels"


def _corners(evidence: Evidence) -> str | None:
    outside = [
        (box[2] > record.image_hw[1] * 1.02) or (box[3] > record.image_hw[0] * 1.02)
        for record, _ in evidence.pairs
        for box in record.boxes
    ]
    if not outside or np.mean(outside) < 0.2:
        return None
    return (
        f"{np.mean(outside):.0%} of the true boxes reach beyond their picture: bbox may hold two "
        "corners instead of x, y, width, height, or the pictures may have been resized"
    )


def _classes(evidence: Evidence) -> str | None:
    """Boxes that fit a true one of another class: ids are shifted or in another order."""
    hits: Counter[tuple[int, int]] = Counter()
    for record, found in evidence.pairs:
        overlaps = overlap(found.boxes, record.boxes)
        for row, column in zip(*np.nonzero(overlaps > 0.5), strict=True):
            truth = evidence.data.category_ids[int(record.labels[column])]
            hits[int(found.labels[row]), truth] += 1
    wrong = {pair: count for pair, count in hits.items() if pair[0] != pair[1]}
    total = sum(len(record.boxes) for record, _ in evidence.pairs)
    mistaken, fitting = sum(wrong.values()), sum(hits.values()) - sum(wrong.values())
    if mistaken < max(0.2 * total, 4 * fitting, 1):
        return None
    shifts: Counter[int] = Counter()
    for (found_as, truth), count in wrong.items():
        shifts[found_as - truth] += count
    shift, count = shifts.most_common(1)[0]
    regular = f", mostly shifted by {shift:+d}" if count > 0.7 * mistaken else ""
    return (
        "boxes fit but carry other classes than the true ones"
        f"{regular}: the names of the prompt are in another order than the categories"
    )


def _transformed(evidence: Evidence) -> str | None:
    """Boxes that would fit if their axes were exchanged, mirrored or in another unit."""
    candidates: dict[str, Callable[[npt.NDArray[np.float64], DetectionRecord], object]] = {
        "x and y exchanged": lambda boxes, _: boxes[:, [1, 0, 3, 2]],
        "x, y, width, height read as two corners": lambda boxes, _: np.concatenate(
            [boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1
        ),
        "the picture mirrored": lambda boxes, record: np.stack(
            [
                record.image_hw[1] - boxes[:, 2],
                boxes[:, 1],
                record.image_hw[1] - boxes[:, 0],
                boxes[:, 3],
            ],
            1,
        ),
        "fractions of the picture": lambda boxes, record: boxes * np.tile(record.image_hw[::-1], 2),
    }

    def hit(change: Callable[[npt.NDArray[np.float64], DetectionRecord], object]) -> float:
        shares = []
        for record, found in evidence.pairs:
            if len(record.boxes) and len(found.boxes):
                changed = np.asarray(change(found.boxes.astype(np.float64), record))
                shares.append(float((overlap(changed, record.boxes).max(0) > 0.5).mean()))
        return float(np.mean(shares)) if shares else 0.0

    plain = hit(lambda boxes, _: boxes)
    best = max(candidates, key=lambda name: hit(candidates[name]))
    if hit(candidates[best]) < max(0.3, 3 * plain):
        return None
    return f"the detections would fit as {best}; check how boxes are written and read"


CHECKS: tuple[Callable[[Evidence], str | None], ...] = (
    _no_common_picture,
    _no_truth,
    _unreadable,
    _nothing_found,
    _low_scores,
    _unknown_categories,
    _fractions,
    _corners,
    _classes,
    _transformed,
)
