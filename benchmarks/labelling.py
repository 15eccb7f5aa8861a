"""Labelling photos: pictures a second against the bare model, and memory against their number.

    python benchmarks/labelling.py --weights glip_nano --images photos
    python benchmarks/labelling.py --memory-only

Speed is a ratio within one run: the same pictures through the bare model, one after the other and
prepared beforehand, and through reading, model, ontology and journal. Memory is the peak of a
process of its own for each number of pictures. They go through the whole engine, the journal and
the COCO writer, but are drawn in memory and labelled without a model, as a million takes minutes
then, not weeks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from latency import peak_memory
from tqdm import tqdm

from glip.config import PostprocessOptions
from glip.data.formats.layout import DataSet
from glip.data.labels import Label, Labelled
from glip.detector import Detector, load
from glip.images import ImageLike, list_pictures
from glip.jobs.journal import Journal
from glip.jobs.pipeline import Read, work_through
from glip.labelling.export import write_data_set
from glip.labelling.label import JournalPictures, label_photos
from glip.labelling.ontology import Ontology
from glip.pixels import Prepared
from glip.text.prompt import Prompt

COUNTS = (1_000, 10_000, 100_000)


def bare_seconds(
    detector: Detector, pictures: Sequence[Prepared], ontology: Ontology, batch_size: int
) -> float:
    """The model alone, over pictures that are prepared, in batches of those that came together."""
    prompt = Prompt.from_classes(ontology.phrases)
    options = PostprocessOptions(score=ontology.lowest_threshold)
    start = time.perf_counter()
    for first in range(0, len(pictures), batch_size):
        batch = pictures[first : first + batch_size]
        detector.detect(batch, [[prompt]] * len(batch), options=options)
    return time.perf_counter() - start


def compare(args: argparse.Namespace) -> None:
    """Print pictures a second of the bare model and of the factory, in turns."""
    detector = load(args.weights, device=args.device)
    ontology = Ontology.of_names(args.classes.split(","))
    root = Path(args.images)
    names = list(islice(list_pictures(root), args.limit))
    prepared = [detector.prepare(root / name) for name in names]
    bare_seconds(detector, prepared[: args.batch_size], ontology, args.batch_size)  # warm up
    bare, whole = [], []
    for _ in tqdm(range(args.rounds), desc="rounds"):
        bare.append(bare_seconds(detector, prepared, ontology, args.batch_size))
        with tempfile.TemporaryDirectory() as folder, Journal(folder, {}) as journal:
            start = time.perf_counter()
            label_photos(
                detector,
                root,
                names,
                ontology,
                journal,
                batch_size=args.batch_size,
                workers=args.workers,
            )
            whole.append(time.perf_counter() - start)
    print(f"bare model:     {len(names) / min(bare):8.2f} pictures/s, best of {args.rounds}")
    print(f"whole factory:  {len(names) / min(whole):8.2f} pictures/s")
    print(f"ratio:          {min(bare) / min(whole):8.2f}")


def measure_memory(count: int) -> None:
    """In a process of its own: print the peak in MiB after labelling `count` pictures."""

    def items() -> Iterator[tuple[str, ImageLike]]:
        for number in range(count):
            yield f"folder {number % 100}/photo number {number}.jpg", str(number)

    def prepare(source: ImageLike) -> Prepared:
        return Prepared(0, torch.zeros(3, 32, 32), (480, 640))

    def answer(batch: Sequence[Read]) -> list[tuple[str, Any]]:
        labels = tuple(Label("cat", (1.5, 2.5, 30.0, 40.0), 0.5, "cat") for _ in range(5))
        return [("done", Labelled(read.key, (480, 640), labels).to_json()) for read in batch]

    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal", {}) as journal,
    ):
        work_through(items(), answer, prepare, journal, batch_size=8)
        data = DataSet(JournalPictures(journal), ("cat",), Path(folder))
        write_data_set(data, "coco", Path(folder) / "coco")
    print(f"{peak_memory() / 2**20:.0f}")


def main() -> int:
    """Speed, then memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="demo/images", metavar="DIR")
    parser.add_argument("--weights", metavar="NAME")
    parser.add_argument("--classes", default="person,cat", metavar="NAMES")
    parser.add_argument("--limit", type=int, default=50, help="pictures, which stay in memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="for memory")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of is not None:
        measure_memory(args.memory_of)
        return 0
    if not args.memory_only:
        compare(args)
    for count in args.counts:
        command = [sys.executable, __file__, "--memory-of", str(count)]
        peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        print(f"{count:>9,} pictures: peak {peak} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
