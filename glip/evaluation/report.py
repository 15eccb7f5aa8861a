"""The page of an evaluation for those who want to know why: curves, errors, thresholds, photos.

Knows nothing about models; it reads the truth and what was predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glip.data.pictures import Pictures
from glip.data.records import DetectionData, DetectionRecord
from glip.data.sampling import class_prompt
from glip.errors import ImageError
from glip.evaluation.analysis import (
    KINDS,
    MEANING,
    Curve,
    Judged,
    at,
    average_precision,
    best_threshold,
    confusions,
    cost_of_errors,
    curve_of,
    judge,
    worst_photos,
)
from glip.evaluation.predictions import Prediction, read_predictions
from glip.report.chart import share_chart
from glip.report.page import html_grid, html_table, per_cent, picture, write_page
from glip.structures import Detections
from glip.visualize import draw

logger = logging.getLogger(__name__)

PAGE = "report.html"
PHOTOS = 12
"""The worst ones, that are drawn."""
CURVES = 5
"""Classes with curves of their own, those with most boxes."""
CONFUSIONS = 30
"""Pairs of classes that are listed."""


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
        number and the AP50 it costs.
    """
    predictions = {one.image_id: one for one in read_predictions(output / results["predictions"])}
    judged = judge(data, predictions)
    curves = [curve_of(*judged.of_class(row)) for row in range(len(data.names))]
    thresholds = [best_threshold(curve) for curve in curves]
    errors = _errors(judged)
    body = [
        html_table(_summary(judged, results)),
        *_charts(judged, curves, data.names),
        "<h2>Classes, each at the threshold of its best F1</h2>",
        _class_table(judged, curves, thresholds, data.names),
        "<h2>Errors by kind</h2>",
        _error_table(errors),
        *_confusion_table(judged, thresholds, data.names),
        "<h2>Photos with most errors: the truth, and what was found</h2>",
    ]
    photos = _photos(judged, thresholds, data, predictions, pictures)
    write_page(output / PAGE, f"Evaluation on {data.path.name}", _chained(body, photos))
    logger.info("report: %s", output / PAGE)
    return {"thresholds": dict(zip(data.names, thresholds, strict=True)), "errors": errors}


def _chained(body: Sequence[str], photos: Iterator[str]) -> Iterator[str]:
    yield from body
    yield from photos


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


def _charts(judged: Judged, curves: Sequence[Curve], names: Sequence[str]) -> list[str]:
    """Precision against recall and F1 against threshold, of all and of the largest classes."""
    counts = np.bincount(judged.truth_label, minlength=len(names))
    largest = [int(row) for row in np.argsort(-counts, kind="stable")[:CURVES] if counts[row]]
    shown = [("all", curve_of(*judged.of_all()))] if len(largest) > 1 else []
    shown += [(names[row], curves[row]) for row in largest]
    lines = [(name, _thinned(curve)) for name, curve in shown if len(curve.threshold)]
    if not lines:
        return []
    return [
        share_chart(
            [(name, list(zip(c.recall, c.precision, strict=True))) for name, c in lines],
            title="Precision and recall",
            x="recall",
            y="precision",
        ),
        share_chart(
            [(name, list(zip(c.threshold, c.f1, strict=True))) for name, c in lines],
            title="F1 at each threshold",
            x="threshold",
            y="F1",
        ),
    ]


def _thinned(curve: Curve, points: int = 300) -> Curve:
    """A curve of so many points at most, which is all that can be seen."""
    rows = np.unique(np.linspace(0, len(curve.threshold) - 1, points).round().astype(np.int64))
    return Curve(*(column[rows] for column in curve)) if len(curve.threshold) else curve


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
    counts["missed"] = int((~judged.found).sum())
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


def _confusion_table(
    judged: Judged, thresholds: Sequence[float], names: Sequence[str]
) -> list[str]:
    taken = confusions(judged, thresholds)
    if not taken:
        return []
    rows = [
        [names[truth], names[said], f"{count:,}"]
        for (truth, said), count in list(taken.items())[:CONFUSIONS]
    ]
    table = html_grid(["what is there", "was taken for", "times"], rows, texts=2)
    return ["<h2>Classes taken for one another</h2>", table]


def _photos(
    judged: Judged,
    thresholds: Sequence[float],
    data: DetectionData,
    predictions: Mapping[Any, Prediction],
    pictures: Pictures,
) -> Iterator[str]:
    """Figures of the photos with most errors, the truth beside what was found."""
    worst = worst_photos(judged, thresholds, len(data))
    if not worst:
        yield "<p>None has an error.</p>"
    for row, count in worst[:PHOTOS]:
        record = data.records[row]
        try:
            image = pictures.read(record.file_name)
            truth, found = _both(data, record, predictions.get(record.image_id), thresholds, image)
        except ImageError as error:
            yield f"<p>{escape(str(error))}</p>"
            continue
        left = picture(truth, f"{record.file_name}: truth")
        right = picture(found, f"{record.file_name}: found, {count} errors")
        yield f"<div>{left}{right}</div>"


def _both(
    data: DetectionData,
    record: DetectionRecord,
    prediction: Prediction | None,
    thresholds: Sequence[float],
    image: Image.Image,
) -> tuple[Image.Image, Image.Image]:
    """A photo with its true boxes, and with the detections above the thresholds."""
    prompt, size = class_prompt(data.names), (image.height, image.width)
    truth = Detections(
        np.asarray(record.boxes, np.float32),
        np.ones(len(record.boxes), np.float32),
        np.asarray(record.labels, np.int64),
        prompt,
        size,
    )
    found = Detections.empty(prompt, size)
    if prediction is not None and len(prediction.scores):
        row_of = {category: row for row, category in enumerate(data.category_ids)}
        rows = np.array([row_of[int(label)] for label in prediction.labels], np.int64)
        found = Detections(
            prediction.boxes,
            prediction.scores,
            rows,
            prompt,
            size,
        )
        found = found[found.scores > np.asarray(thresholds)[rows]]
    return draw(image, truth, scores=False), draw(image, found)
