"""A teacher's label file and a student's boxes of the same pictures -> what both say, in one file.

    python tools/evaluate.py --data datasets/everyday/teacher_coco.json \
        --images datasets/everyday/images.tar --output student
    python tools/nano_agree.py --labels datasets/everyday/teacher_coco.json \
        --predictions student/predictions.jsonl --beside datasets/everyday/train.json \
        --output everyday_agreed.json

A teacher that is sure of little leaves much open: of a name that it doubts it says neither that it
is there nor that it is not, and where it found one thing there may be more of the kind. The student
decides a part of that, where the two of them do not contradict each other:

* It finds next to nothing of a doubted name (`--nothing`): the name is absent. So is one that it
  finds only where the teacher is sure of another name, which is how a dog's name comes to a cat.
* It is sure of a box (`--found`) of a name that the teacher has a box of, and may have more: the
  box is there, with the student's score, unless people wrote another name over it (`--beside`).
* All else stays open. Of doubted names that the student was sure of, every other one was wrong
  where people had looked, too many to take for there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from nano_join import by_picture, read, write
from torch import Tensor

from glip.boxes import iou_matrix, nms_per_label
from glip.evaluation.predictions import Prediction, read_predictions

Annotation = dict[str, Any]


def main() -> int:
    """Read, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True, help="the teacher's COCO-style file")
    parser.add_argument("--predictions", type=Path, required=True, help="the student's, of it")
    parser.add_argument("--beside", type=Path, help="people's labels of the same pictures")
    parser.add_argument("--found", type=float, default=0.5, help="score of a sure box")
    parser.add_argument("--nothing", type=float, default=0.3, help="score that says nothing")
    parser.add_argument("--same-place", type=float, default=0.5, help="IoU of boxes of one thing")
    parser.add_argument("--output", type=Path, required=True, help="the new .json")
    args = parser.parse_args()

    def agreed() -> dict[str, Any]:
        return agree(
            read(args.labels),
            read_predictions(args.predictions),
            read(args.beside) if args.beside else None,
            found=args.found,
            nothing=args.nothing,
            same_place=args.same_place,
        )

    return write(args.output, agreed)


def agree(
    labels: dict[str, Any],
    predictions: Iterable[Prediction],
    beside: dict[str, Any] | None = None,
    *,
    found: float,
    nothing: float,
    same_place: float,
) -> dict[str, Any]:
    """The content of a label file in which a student has decided a part of what was open.

    Args:
        labels: COCO-style, every picture with `neg_category_ids`.
        predictions: Of its pictures, by their ids; a picture without one, or that could not be
            read, stays as it is.
        beside: Other labels of the same pictures, matched by `file_name`.
        found: Least score of a student's box that is believed.
        nothing: A doubted name none of whose boxes scores as much is absent.
        same_place: Boxes that overlap as much (IoU) are one thing.
    Raises:
        KeyError: A picture has no `neg_category_ids`: nothing is open in it.
    """
    said = {one.image_id: one for one in predictions if one.error is None}
    numbers = {category["id"] for category in labels["categories"]}
    sure = by_picture(labels["annotations"])
    people: dict[str, list[Annotation]] = {}
    if beside is not None:
        theirs = by_picture(beside["annotations"])
        people = {row["file_name"]: theirs.get(row["id"], []) for row in beside["images"]}
    images, annotations = [], list(labels["annotations"])
    for picture in labels["images"]:
        boxes = sure.get(picture["id"], [])
        absent = set(picture["neg_category_ids"])
        doubted = numbers - absent - {box["category_id"] for box in boxes}
        partly = set(picture.get("not_exhaustive_category_ids", ()))
        one = said.get(picture["id"])
        if one is not None:
            on_other_names = _covered(one, boxes, same_place, other_names=True)
            noticed = ~on_other_names & (torch.from_numpy(one.scores) >= nothing)
            absent |= doubted - set(one.labels[noticed.numpy()].tolist())
            taken = boxes + people.get(picture["file_name"], [])
            new = _sure(one, partly, found)
            new = new[~_covered(one, taken, same_place)[new]]
            new = new[_apart(one, new, same_place)]
            annotations += [_annotation(picture["id"], one, row) for row in new.tolist()]
        images.append({**picture, "neg_category_ids": sorted(absent)})
    rows = [{**box, "id": number} for number, box in enumerate(annotations, 1)]
    return {**labels, "images": images, "annotations": rows}


def _covered(
    one: Prediction, boxes: list[Annotation], same_place: float, other_names: bool = False
) -> Tensor:
    """(N,) whether each box of a student is one of `boxes`, or one of them by another name."""
    corners = torch.tensor([box["bbox"] for box in boxes], dtype=torch.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    same = iou_matrix(torch.from_numpy(one.boxes), corners) >= same_place
    if other_names:
        names = torch.tensor([box["category_id"] for box in boxes], dtype=torch.int64)
        same &= torch.from_numpy(one.labels)[:, None] != names
    return same.any(1)


def _sure(one: Prediction, names: set[int], found: float) -> Tensor:
    """Rows of what a student is sure of, of these names."""
    asked = torch.isin(torch.from_numpy(one.labels), torch.tensor(sorted(names)))
    return (asked & (torch.from_numpy(one.scores) >= found)).nonzero()[:, 0]


def _apart(one: Prediction, rows: Tensor, same_place: float) -> Tensor:
    """Which of these rows to keep: the best name of each place."""
    boxes, scores = torch.from_numpy(one.boxes)[rows], torch.from_numpy(one.scores)[rows]
    return nms_per_label(boxes, scores, torch.zeros_like(rows), same_place)


def _annotation(image_id: Any, one: Prediction, row: int) -> Annotation:
    left, top, right, bottom = map(float, one.boxes[row])
    box = [left, top, right - left, bottom - top]
    return {
        "image_id": image_id,
        "category_id": int(one.labels[row]),
        "bbox": [round(side, 1) for side in box],
        "area": round(box[2] * box[3], 1),
        "iscrowd": 0,
        "score": round(float(one.scores[row]), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
