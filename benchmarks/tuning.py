"""Seconds of a tuning step: from pixels, and from what is not trained computed once beforehand.

Both take the same steps on the same pictures, in turns in one process, so that whatever else the
machine does falls on both. Seconds of processors are given too: on a machine that others use they
are the steadier ones.

    python benchmarks/tuning.py                                   # glip_nano's make, random weights
    python benchmarks/tuning.py --weights glip_tiny --repeats 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from glip.checkpoint import Weights, read
from glip.choices import TuneMode
from glip.data.augment import AugmentConfig
from glip.data.batch import Batch
from glip.data.formats.coco import read_detection
from glip.data.loader import TrainingSet, collate
from glip.data.mixture import MixtureSampler
from glip.data.pictures import PictureFolder
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource
from glip.detector import Detector
from glip.model.presets import build, preset
from glip.released import find
from glip.text.prompt import Prompt
from glip.training.features import CachedBatches, FeatureCache, FromFeatures
from glip.training.freezing import FreezeConfig, freeze, to_training
from glip.training.lora import LoraConfig, add_lora
from glip.training.losses import Criterion
from glip.training.optim import OptimizerConfig, build_optimizer
from glip.training.words import as_table

NAMES = ("red blood cell", "white blood cell", "platelet")
CPU = torch.device("cpu")


class Row(NamedTuple):
    """What a way of tuning takes, a picture."""

    mode: str
    kept: str
    """How far pictures go before they are kept."""
    pixels_s: float
    cached_s: float
    pixels_processor_s: float
    cached_processor_s: float
    mib: float
    """Memory of what is kept of one picture."""


def draw(folder: Path, pictures: int, size: tuple[int, int]) -> None:
    """A data set of noise with two boxes a picture; only its sizes matter."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    width, height = size
    for number in range(pictures):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.jpg")
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
        )
        for label in (number % 3, (number + 1) % 3):
            x, y = (int(rng.integers(0, side // 2)) for side in size)
            box = [x, y, width // 3, height // 3]
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": label, "bbox": box}
            )
    categories = [{"id": row, "name": name} for row, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))


def measure(weights: Weights, mode: TuneMode, folder: Path, repeats: int) -> Row:
    """Steps of one picture over a set, from pixels and from features, in turns."""
    detector = Detector.from_weights(weights)
    if mode == "prompt":
        detector = detector.with_prompt(as_table(detector, Prompt.from_classes(NAMES)))
    if mode == "lora":
        add_lora(detector.model, LoraConfig())
    model = detector.model
    whole = FromFeatures(model)
    tower = ("head.stages",) if mode == "linear_probe" else ()  # as `glip tune` does
    resting = freeze(model, FreezeConfig(parts=tower), mode)
    to_training(model, resting)
    optimizer = build_optimizer(model.named_parameters(), OptimizerConfig())
    pixels = weights.config.pixels
    augment = AugmentConfig((pixels.short_side,), pixels.long_side, flip=0.0)
    source = DetectionSource(
        read_detection(folder / "train.json"),
        PictureFolder(folder),
        detector.tokenizer,
        SamplingConfig("all", shuffle=False),
    )
    dataset = TrainingSet([source], detector.tokenizer, pixels, augment)
    sampler = MixtureSampler([len(source)], batch_size=1, steps=len(source))
    cache = FeatureCache(64)
    cached = CachedBatches(dataset, sampler, model, resting, cache, CPU)
    for _ in cached:  # computed once, which is not part of a step
        pass

    def from_pixels() -> Iterator[Batch]:
        return (collate([dataset[draw] for draw in draws]) for draws in sampler)

    def steps(batches: Callable[[], Iterator[Batch]]) -> tuple[float, float]:
        clock, processor = time.perf_counter(), time.process_time()
        for batch in batches():
            output = whole(batch.pixels, batch.tokens)
            losses = Criterion()(output, batch.targets)
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        pictures = len(source)
        return (
            (time.perf_counter() - clock) / pictures,
            (time.process_time() - processor) / pictures,
        )

    rounds = [(steps(from_pixels), steps(lambda: iter(cached))) for _ in range(repeats)]
    plain, kept = (list(zip(*side, strict=True)) for side in zip(*rounds, strict=True))
    return Row(
        mode,
        cached.depth,
        statistics.median(plain[0]),
        statistics.median(kept[0]),
        statistics.median(plain[1]),
        statistics.median(kept[1]),
        cache.bytes / max(1, len(cache)) / 2**20,
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| tuned | kept | from pixels, s | from features, s | ratio | from pixels, processor s "
        "| from features, processor s | ratio | MiB a picture |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        lines.append(
            f"| {row.mode} | {row.kept} | {row.pixels_s:.3f} | {row.cached_s:.3f} "
            f"| {row.pixels_s / row.cached_s:.1f} | {row.pixels_processor_s:.3f} "
            f"| {row.cached_processor_s:.3f} "
            f"| {row.pixels_processor_s / row.cached_processor_s:.1f} | {row.mib:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the ways of tuning that leave backbone and pyramid alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="file or name; by default random ones of glip_nano")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 360), metavar=("W", "H"))
    parser.add_argument("--repeats", type=int, default=3)
    ways = [mode for mode in get_args(TuneMode) if mode != "full"]
    parser.add_argument("--modes", nargs="+", choices=ways, default=ways)
    args = parser.parse_args()
    if args.weights is None:
        torch.manual_seed(0)
        config = preset("glip_nano")
        weights = Weights(config, build(config).state_dict())
    else:
        weights = read(find(args.weights))
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), args.pictures, tuple(args.size))
        bar = tqdm(args.modes, file=sys.stderr, unit="mode")
        rows = [measure(weights, mode, Path(name), args.repeats) for mode in bar]
    print(f"{weights.config.name}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
