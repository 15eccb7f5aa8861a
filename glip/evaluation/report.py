"""The page of an evaluation for those who want to know why: curves, errors, thresholds, photos.

Knows nothing about models; it reads the truth and what was predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from glip.data.pictures import Pictures
from glip.data.records import DetectionData, DetectionRecord
from glip.data.sampling import class_prompt
from glip.errors import ImageError
from glip.evaluation.analysis import (
    IGNORED,
    KINDS,
    MEANING,
    RIGHT,
    Curve,
    Judged,
    PhotoErrors,
    at,
    average_precision,
    best_threshold,
    confusions,
    cost_of_errors,
    curve_of,
    judge,
    missed,
    of_photo,
    worst_photos,
)
from glip.evaluation.predictions import Prediction, read_predictions
from glip.report.chart import Shares, share_chart
from glip.report.page import (
    html_grid,
    html_matrix,
    html_note,
    html_side_by_side,
    html_table,
    per_cent,
    picture,
    write_page,
)
from glip.structures import Detections
from glip.visualize import draw

logger = logging.getLogger(__name__)

PAGE = "report.html"
PHOTOS = 12
"""The worst ones, that are drawn."""
CURVES = 5
"""Classes with curves of their own, those with most boxes."""
MATRIX = 12
"""Classes up to which all pairs of them are shown."""
CONFUSIONS = 30
"""Pairs that are listed of more classes."""


def write_evaluation_report(
    output: Path, data: DetectionData, pictures: Pictures, results: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `report.html` beside the predictions of an evaluation.

    Args:
        output: Folder of the evaluation.
        data: The truth.
        pictures: Where the photos are.
        results: What `results.json` holds.
    Returns:
        For `results.json`: "thresholds" with the best F1 by class, "errors" by kind, each with its
        number and the AP50 it costs, and "worst_photos", each with its number of errors by kind.
    """
    predictions = {one.image_id: one for one in read_predictions(output / results["predictions"])}
    judged = judge(data, predictions)
    curves = [curve_of(*judged.of_class(row)) for row in range(len(data.names))]
    thresholds = [best_threshold(curve) for curve in curves]
    errors = _errors(judged)
    worst = worst_photos(judged, thresholds, len(data))[:PHOTOS]
    body = [
        html_table(_summary(judged, results)),
        *_charts(judged, curves, thresholds, data.names),
        "<h2>Classes, each at the threshold of its best F1</h2>",
        html_note(
            "The thresholds stand in results.json too: predict(..., threshold={name: score}). They "
            "were chosen on these photos; on others expect a little less."
        ),
        _class_table(judged, curves, thresholds, data.names),
        "<h2>Errors by kind</h2>",
        html_note(
            "Of all detections, sure or not; the points of AP50 are what mending one kind would "
            "give. Begin with the first."
        ),
        _error_table(errors),
        "<h2>Classes taken for one another</h2>",
        html_note("Above the thresholds. What is there stands on the left, what was said above."),
        *_confusion_table(confusions(judged, thresholds), data.names),
        "<h2>Photos with most errors: the truth, and what was found</h2>",
        html_note("Above the thresholds; a wrong box says of which kind its error is."),
    ]
    photos = _photos(judged, thresholds, worst, data, predictions, pictures)
    write_page(output / PAGE, f"Evaluation on {data.path.name}", chain(body, photos))
    logger.info("report: %s", output / PAGE)
    return {
        "thresholds": dict(zip(data.names, thresholds, strict=True)),
        "errors": errors,
        "worst_photos": [
            {"photo": data.records[one.photo].file_name, "errors": one.total, "kinds": one.kinds}
            for one in worst
        ],
    }


def _summary(judged: Judged, results: Mapping[str, Any]) -> dict[str, str]:
    curve = curve_of(*judged.of_all())
    best = best_threshold(curve)
    precision, recall, f1 = at(curve, best)
    return {
        **{name: per_cent(value) for name, value in results["metrics"].items() if "/" not in name},
        "boxes to find": f"{len(judged.truth_label):,}",
        "detections": f"{len(judged.score):,}",
        "one threshold for all": f"{best:.2f}: precision {per_cent(precision)}, recall "
        f"{per_cent(recall)}, F1 {per_cent(f1)}",
    }


def _charts(
    judged: Judged, curves: Sequence[Curve], thresholds: Sequence[float], names: Sequence[str]
) -> list[str]:
    """Precision against recall and F1 against threshold, of all and of the largest classes."""
    counts = np.bincount(judged.truth_label, minlength=len(names))
    largest = [int(row) for row in np.argsort(-counts, kind="stable")[:CURVES] if counts[row]]
    shown = [(names[row], curves[row], thresholds[row]) for row in largest]
    if len(largest) > 1:
        whole = curve_of(*judged.of_all())
        shown.insert(0, ("all", whole, best_threshold(whole)))
    kept = [(name, _thinned(curve), at(curve, best), best) for name, curve, best in shown]
    lines = [one for one in kept if len(one[1].threshold)]
    if not lines:
        return []
    recalls = [
        Shares(name, list(zip(curve.recall, curve.precision, strict=True)), (recall, precision))
        for name, curve, (precision, recall, _), _ in lines
    ]
    scores = [Shares(name, _steps(curve), (best, f1)) for name, curve, (_, _, f1), best in lines]
    return [
        html_side_by_side(
            share_chart(recalls, title="Precision and recall", x="recall", y="precision"),
            share_chart(scores, title="F1 at each threshold", x="threshold", y="F1"),
        ),
        html_note("The dots are at the threshold of the best F1."),
    ]


def _steps(curve: Curve) -> list[tuple[float, float]]:
    """F1 against threshold: the same from one detection down to the next."""
    ends = [*curve.threshold[1:], 0.0]
    steps = zip(curve.threshold, ends, curve.f1, strict=True)
    return [point for start, end, f1 in steps for point in ((start, f1), (end, f1))]


def _thinned(curve: Curve, points: int = 300) -> Curve:
    """A curve of some so many points, which is all that can be seen: evenly along recall and along
    the threshold, as most detections are unsure ones, and with the best F1, which bears the dot.
    """
    if len(curve.threshold) <= points:
        return curve
    first, last = curve.threshold[[0, -1]]
    recalls = np.linspace(0, curve.recall[-1], points // 2)
    thresholds = np.linspace(first, last, points // 2)
    rows = np.concatenate(
        [
            np.searchsorted(curve.recall, recalls),
            np.searchsorted(-curve.threshold, -thresholds),
            [curve.f1.argmax(), len(curve.threshold) - 1],
        ]
    )
    return Curve(*(column[np.unique(rows)] for column in curve))


def _class_table(
    judged: Judged, curves: Sequence[Curve], thresholds: Sequence[float], names: Sequence[str]
) -> str:
    rows = []
    for row, name in enumerate(names):
        score, right, total = judged.of_class(row)
        ap = average_precision(score, right, total)
        shares = at(curves[row], thresholds[row]) if total else (None, None, None)
        rows.append(
            [
                name,
                f"{total:,}",
                per_cent(None if np.isnan(ap) else ap),
                f"{thresholds[row]:.2f}" if total else "-",
                *map(per_cent, shares),
            ]
        )
    rows.sort(key=lambda cells: cells[2] == "-")
    return html_grid(["class", "boxes", "AP50", "threshold", "precision", "recall", "F1"], rows)


def _errors(judged: Judged) -> dict[str, dict[str, float]]:
    counts = {kind: int((judged.kind == place).sum()) for place, kind in enumerate(KINDS)}
    counts["missed"] = int(missed(judged).sum())
    return {
        kind: {"count": counts[kind], "AP50": cost} for kind, cost in cost_of_errors(judged).items()
    }


def _error_table(errors: Mapping[str, Mapping[str, float]]) -> str:
    """What would be won without the errors of each kind, the costliest first."""
    ordered = sorted(KINDS, key=lambda kind: -errors[kind]["AP50"])
    rows = [
        [
            kind,
            MEANING[kind],
            f"{errors[kind]['count']:,.0f}",
            f"+{per_cent(errors[kind]['AP50'])}",
        ]
        for kind in ordered
    ]
    return html_grid(["kind", "", "number", "AP50 without it"], rows, texts=2)


def _confusion_table(table: npt.NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """All of the table where it fits on a page, else the pairs that are mistaken most."""
    if len(names) <= MATRIX:
        across = [*names, "nothing"]
        return [html_matrix([*names, "nothing there"], across, table.tolist())]
    mistaken = table[:-1, :-1] * (1 - np.eye(len(names), dtype=np.int64))
    pairs = np.argwhere(mistaken)
    order = np.argsort(-mistaken[tuple(pairs.T)], kind="stable")[:CONFUSIONS]
    rows = [[names[a], names[b], f"{mistaken[a, b]:,}"] for a, b in pairs[order]]
    if not rows:
        return ["<p>None was.</p>"]
    return [html_grid(["what is there", "was taken for", "times"], rows, texts=2)]


def _photos(
    judged: Judged,
    thresholds: Sequence[float],
    worst: Sequence[PhotoErrors],
    data: DetectionData,
    predictions: Mapping[Any, Prediction],
    pictures: Pictures,
) -> Iterator[str]:
    """Figures of the photos with most errors, the truth beside what was found."""
    if not worst:
        yield "<p>None has an error.</p>"
    for one in worst:
        record = data.records[one.photo]
        kinds, hit = of_photo(judged, thresholds, one.photo)
        try:
            image = pictures.read(record.file_name)
            truth = _truth(data.names, record, hit, image)
            found = _found(data, predictions.get(record.image_id), kinds, image)
        except ImageError as error:
            yield f"<p>{escape(str(error))}</p>"
            continue
        counts = ", ".join(f"{count} {kind}" for kind, count in one.kinds.items())
        left = picture(truth, f"{record.file_name}: truth")
        right = picture(found, f"{record.file_name}: found, {one.total} errors: {counts}")
        yield f"<div>{left}{right}</div>"


def _truth(
    names: Sequence[str],
    record: DetectionRecord,
    hit: npt.NDArray[np.bool_],
    image: Image.Image,
) -> Image.Image:
    """A photo with its true boxes, those that are missed with the word."""
    lost = np.zeros(len(record.boxes), dtype=np.int64)
    lost[~record.crowd] = ~hit
    said = [*names, *(f"{name}: missed" for name in names)]
    rows = np.asarray(record.labels, np.int64) + lost * len(names)
    scores = np.ones(len(rows), np.float32)
    return _drawn(image, np.asarray(record.boxes, np.float32), scores, rows, said, False)


def _found(
    data: DetectionData,
    prediction: Prediction | None,
    kinds: npt.NDArray[np.int64],
    image: Image.Image,
) -> Image.Image:
    """A photo with its detections above the thresholds, the wrong ones with how they err."""
    names = data.names
    if prediction is None or not len(prediction.scores):
        return image
    row_of = {category: row for row, category in enumerate(data.category_ids)}
    labels = np.array([row_of.get(int(label), 0) for label in prediction.labels], np.int64)
    said = [*names, *(f"{name}: {kind}" for kind in KINDS for name in names)]
    rows = labels + np.where(kinds == RIGHT, 0, kinds + 1) * len(names)
    own = kinds != IGNORED
    return _drawn(image, prediction.boxes[own], prediction.scores[own], rows[own], said, True)


def _drawn(
    image: Image.Image,
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    said: Sequence[str],
    with_scores: bool,
) -> Image.Image:
    prompt = class_prompt(said)
    return draw(
        image,
        Detections(boxes, scores, rows, prompt, (image.height, image.width)),
        scores=with_scores,
    )
