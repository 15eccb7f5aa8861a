"""How often a model finds what is not there: false boxes a photo for names that are absent from it.

    python tools/evaluate.py --task custom --data datasets/general/val.json --output general
    python benchmarks/absent_names.py --data datasets/general/val.json --vocabulary coco \
        --predictions general/predictions.jsonl --threshold 0.5

Counts the boxes at or above each threshold whose name the file knows to be absent, whatever they
lie on. Average precision says little about them: there a box with a wrong name costs only as much
as its rank. Also printed are precision and recall at IoU 0.5 over all names, crowds left out, as a
threshold moves them all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torchvision.ops import box_iou

from glip.data.formats.coco import read_detection
from glip.data.records import DetectionData, DetectionRecord
from glip.errors import GlipError
from glip.evaluation.predictions import Prediction, read_predictions

MATCH = 0.5  # least IoU of a find


class Count(NamedTuple):
    """What was counted at one threshold."""

    threshold: float
    absent: float
    """Boxes a photo of names that are absent from it."""
    precision: float
    recall: float


def main() -> int:
    """Read, count, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="COCO-style file")
    parser.add_argument("--predictions", type=Path, required=True, help="of tools/evaluate.py")
    parser.add_argument("--vocabulary", help="only the photos of this one")
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.3, 0.4, 0.5, 0.6])
    args = parser.parse_args()
    try:
        data = read_detection(args.data)
        data = data.only(args.vocabulary) if args.vocabulary else data
        counts = count(data, read_predictions(args.predictions), args.threshold)
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("threshold  absent names, boxes a photo  precision  recall")
    for row in counts:
        print(f"{row.threshold:9.2f}  {row.absent:28.2f}  {row.precision:9.2f}  {row.recall:6.2f}")
    return 0


def count(
    data: DetectionData, predictions: Iterable[Prediction], thresholds: Sequence[float]
) -> list[Count]:
    """A row for each threshold, over the photos of `data`."""
    found = {prediction.image_id: prediction for prediction in predictions}
    rows = []
    for threshold in thresholds:
        absent = hits = shown = wanted = 0
        for record in data.records:
            names_absent = {data.category_ids[row] for row in data.absent(record)}
            prediction = found[record.image_id]
            kept = prediction.scores >= threshold
            absent += sum(label in names_absent for label in prediction.labels[kept].tolist())
            shown += int(kept.sum())
            wanted += int((~record.crowd).sum())
            hits += _hits(data, record, prediction, threshold)
        photos = max(1, len(data))
        rows.append(Count(threshold, absent / photos, hits / max(1, shown), hits / max(1, wanted)))
    return rows


def _hits(
    data: DetectionData, record: DetectionRecord, prediction: Prediction, threshold: float
) -> int:
    """True boxes that are found, each by one box of its name."""
    ids = torch.tensor(data.category_ids)[torch.from_numpy(record.labels)]
    free = torch.from_numpy(~record.crowd)
    truth = torch.from_numpy(record.boxes).float()
    hits = 0
    if not len(truth):
        return 0
    labels = torch.from_numpy(prediction.labels)
    overlaps = box_iou(torch.from_numpy(prediction.boxes), truth)
    for row in prediction.scores.argsort()[::-1].tolist():
        if prediction.scores[row] < threshold:
            break
        overlap = torch.where(free & (ids == labels[row]), overlaps[row], -1.0)
        best = int(overlap.argmax())
        if overlap[best] >= MATCH:
            free[best] = False
            hits += 1
    return hits


if __name__ == "__main__":
    sys.exit(main())
