"""What a shortlist of names loses in average precision, and what it saves in passes and seconds.

    python benchmarks/shortlist.py --data datasets/general/val.json --names 40 80 --photos 160

Asks every photo for all names of the file in full, then with `Detector.predict(shortlist=N)`. Full
passes are those over the whole picture; a glance costs about a quarter of one. Seconds are of one
process, all kinds photo by photo side by side, so that what else the machine does hits all alike.
`--others FILE ...` asks the names of other files as well, which nobody has labelled here.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import glip
from glip.data.formats.coco import read_detection
from glip.data.packed import Packed
from glip.data.pictures import open_pictures
from glip.data.records import DetectionData
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.predictions import prediction


@dataclass
class Tally:
    """Of one kind of asking."""

    evaluator: CocoEvaluator
    full: int = 0
    glances: int = 0
    seconds: float = 0.0


def main() -> None:
    """Ask, count, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="COCO-style file")
    parser.add_argument("--images", type=Path, help="folder or tar; by default beside the data")
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="more names to ask")
    parser.add_argument("--weights", help="a file or a name; by default the small model")
    parser.add_argument("--names", type=int, nargs="+", default=[40], help="of the shortlist")
    parser.add_argument("--photos", type=int, help="this many, drawn with seed 0; all by default")
    args = parser.parse_args()
    data = read_detection(args.data)
    extra = [name for file in args.others for name in read_detection(file).names]
    pictures = args.images or args.data.with_name("images.tar")
    tallies = ask(data, extra, pictures, glip.load(args.weights), args.names, args.photos)
    print("shortlist     AP   AP50  full passes  glances  seconds  by vocabulary, AP")
    for names, tally in tallies.items():
        result = tally.evaluator.compute()
        each = "  ".join(
            f"{key.removesuffix('/AP')} {100 * value:.1f}"
            for key, value in result.items()
            if key.endswith("/AP")
        )
        print(
            f"{names or 'none':>9}  {100 * result['AP']:5.1f}  {100 * result['AP50']:5.1f}  "
            f"{tally.full:11d}  {tally.glances:7d}  {tally.seconds:7.0f}  {each}"
        )


def ask(
    data: DetectionData,
    extra: list[str],
    images: Path,
    detector: glip.Detector,
    shortlists: list[int],
    photos: int | None,
) -> dict[int | None, Tally]:
    """A tally for no shortlist (None) and for each length of one.

    Args:
        data: The truth; all its names are asked of each photo.
        extra: Names that are asked beside; those of the truth are left out.
        images: Folder or tar.
        detector: Who is asked.
        shortlists: Numbers of names.
        photos: How many; None for all.
    """
    names = list(dict.fromkeys([*data.names, *extra]))
    places = list(range(len(data.records)))
    random.Random(0).shuffle(places)
    drawn = Packed(data.records[place] for place in sorted(places[:photos]))
    data = replace(data, records=drawn)
    tallies: dict[int | None, Tally] = defaultdict(lambda: Tally(CocoEvaluator(data)))
    passes = len(detector.torch_engine.passes.of(glip.Prompt.from_classes(names)))
    source = open_pictures(images)
    for record in data.records:
        picture = source.read(record.file_name)
        for shortlist in (None, *shortlists):
            tally = tallies[shortlist]
            start = time.perf_counter()
            [found] = detector.predict([picture], names, threshold=0.0, shortlist=shortlist)
            tally.seconds += time.perf_counter() - start
            tally.full += passes if shortlist is None else 1
            tally.glances += 0 if shortlist is None else passes
            kept = found[found.phrase_ids < len(data.names)]
            ids = [data.category_ids[row] for row in kept.phrase_ids]
            tally.evaluator.update(prediction(record.image_id, kept.boxes, kept.scores, ids))
    return dict(tallies)


if __name__ == "__main__":
    main()
