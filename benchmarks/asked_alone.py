"""What a model answers when it is asked for one name alone: of what is there, and of what is not.

    python benchmarks/asked_alone.py --data datasets/general/val.json --vocabulary coco \
        --images datasets/general/images.tar --weights glip_nano

Each photo is asked for every name that is in it and for some that are known to be absent, drawn at
random with a fixed seed, one name at a time, as people ask. Of each answer the best score counts.
Printed are the shares of names answered at some thresholds and the probability that a name that is
there scores above one that is not (the area under the ROC curve; 0.5 is a coin).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from tqdm import tqdm

import glip
from glip.config import PostprocessOptions
from glip.data.formats.coco import read_detection
from glip.data.pictures import open_pictures
from glip.data.records import DetectionData
from glip.errors import GlipError


class Question(NamedTuple):
    """A photo and one name to ask it for."""

    file_name: str
    name: str
    there: bool


def main() -> int:
    """Ask, count, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="COCO-style file")
    parser.add_argument("--images", type=Path, required=True, help="folder or tar of the photos")
    parser.add_argument("--vocabulary", help="only the photos of this one")
    parser.add_argument("--weights", default="glip_nano")
    parser.add_argument("--absent", type=int, default=4, help="names asked in vain of each photo")
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.4, 0.5, 0.55, 0.6])
    args = parser.parse_args()
    try:
        data = read_detection(args.data)
        data = data.only(args.vocabulary) if args.vocabulary else data
        asked = list(questions(data, args.absent, Random(0)))
        pictures = open_pictures(args.images)
        detector = glip.load(args.weights)
        scores = np.array(
            [
                score
                for photo, names in tqdm(by_photo(asked), unit="photo")
                for score in best(detector, pictures.read(photo), names)
            ]
        )
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    there = np.array([question.there for question in asked])
    print(f"{there.sum()} names that are there, {(~there).sum()} that are not")
    print("threshold  there, answered  absent, answered")
    for threshold in args.threshold:
        answered = scores >= threshold
        print(f"{threshold:9.2f}  {answered[there].mean():15.2f}  {answered[~there].mean():16.2f}")
    print(f"a name that is there scores higher with probability {ranking(scores, there):.2f}")
    return 0


def questions(data: DetectionData, absent: int, rng: Random) -> Iterator[Question]:
    """Every name that is in a photo, and `absent` of those known not to be, photo by photo."""
    for record in data.records:
        for row in sorted(set(record.labels[~record.crowd].tolist())):
            yield Question(record.file_name, data.names[row], True)
        known = sorted(data.absent(record))
        for row in rng.sample(known, min(absent, len(known))):
            yield Question(record.file_name, data.names[row], False)


def by_photo(asked: Iterable[Question]) -> list[tuple[str, list[str]]]:
    """The names that each photo is asked for, in the order of the questions."""
    groups = groupby(asked, key=lambda question: question.file_name)
    return [(photo, [question.name for question in group]) for photo, group in groups]


def best(detector: glip.Detector, picture: Image.Image, names: Sequence[str]) -> list[float]:
    """Best score of each name asked for alone, the picture being encoded once; 0 where nothing is
    found at all.
    """
    asked = [glip.Prompt.from_classes([name]) for name in names]
    options = PostprocessOptions(max_detections=1)
    [answers] = detector.detect([detector.prepare(picture)], [asked], options=options)
    return [max(found.scores.tolist(), default=0.0) for found in answers]


def ranking(scores: ArrayLike, there: ArrayLike) -> float:
    """Probability that a score where something is there is above one where it is not, ties half."""
    values, is_there = np.asarray(scores), np.asarray(there, dtype=bool)
    above = np.sign(values[is_there][:, None] - values[~is_there][None])
    return float((above.mean() + 1) / 2)


if __name__ == "__main__":
    sys.exit(main())
