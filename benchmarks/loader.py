"""What training spends on a picture before the model sees it, and what a cache of pictures saves.

Epochs over the same photos in turns in one process, the same draws each time: without a cache,
with an empty one, and with one that holds them. Times are of the processor, the smallest of all
epochs of a kind, so that what else the machine does counts little.

    python benchmarks/loader.py                                   # 1080p photos, glip_tiny's sizes
    python benchmarks/loader.py --photo 3000x4000 --config configs/nano/nano.yaml
    python benchmarks/loader.py --photo 3000x4000 --decoders      # other ways to a smaller picture
    python benchmarks/loader.py --photo 480x640 --raw             # 8-bit batches, as for a GPU
"""

from __future__ import annotations

import argparse
import json
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from cProfile import Profile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import size_hw
from PIL import Image
from torchvision.io import decode_jpeg

from glip.config import ModelConfig
from glip.data.augment import Extent, extent
from glip.data.formats.coco import read_detection
from glip.data.loader import TrainingSet, collate
from glip.data.mixture import Draw
from glip.data.picture_cache import PictureCache
from glip.data.pictures import PictureFolder
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource
from glip.model.presets import preset
from glip.samples import SAMPLE_SET
from glip.text.tokenizer import Tokenizer
from glip.training.run_config import DataConfig, read_run

STAGES = {
    "read": "scene",
    "augment": "augment",
    "prompt": "worded",
    "tokens": "passes",
    "normalise": "to_pixels",
    "leave raw": "raw_pixels",
    "batch": "collate",
}
"""What is told apart -> the function of the package that does it."""
KINDS = ("without", "filling", "cached")
BATCH = 2


def enlarged_samples(folder: Path, hw: tuple[int, int], photos: int) -> Path:
    """The package's photos as JPEGs of a size, with a grain that makes them no easier to decode
    than a camera's.

    Returns:
        A COCO file beside them.
    """
    content = json.loads((SAMPLE_SET / "train.json").read_text(encoding="utf-8"))
    content["images"] = content["images"][:photos]
    noise = np.random.default_rng(0)
    height, width = hw
    scales = {}
    for entry in content["images"]:
        small = Image.open(SAMPLE_SET / entry["file_name"]).convert("RGB")
        grain = noise.integers(-4, 5, (height, width, 1), dtype=np.int16)
        pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) + grain
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        entry["file_name"] = Path(entry["file_name"]).name
        picture.save(folder / entry["file_name"], quality=88)
        scales[entry["id"]] = (width / entry["width"], height / entry["height"]) * 2
        entry["width"], entry["height"] = width, height
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in scales]
    for one in content["annotations"]:
        of_image = scales[one["image_id"]]
        one["bbox"] = [a * b for a, b in zip(one["bbox"], of_image, strict=True)]
    path = folder / "photos.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def samples(
    file: Path, data: DataConfig, model: ModelConfig, cache: Path | None, *, raw: bool = False
) -> tuple[TrainingSet, int]:
    """The samples of a file as a run draws them, and how many records it has."""
    tokenizer = Tokenizer.bert_uncased()
    kept = None if cache is None else PictureCache(cache, 20.0, extent(data.augment, model.pixels))
    source = DetectionSource(
        read_detection(file), PictureFolder(file.parent), tokenizer, SamplingConfig(), cache=kept
    )
    return TrainingSet([source], tokenizer, model.pixels, data.augment, raw=raw), len(source)


def epoch(dataset: TrainingSet, records: int) -> dict[str, float]:
    """Milliseconds of each stage, and in all, that a picture of one epoch takes."""
    profile = Profile(time.process_time)
    draws = [Draw(0, record, seed=record) for record in range(records)]
    profile.enable()
    for start in range(0, records, BATCH):
        collate([dataset[draw] for draw in draws[start : start + BATCH]], pixels=dataset.pixels)
    profile.disable()
    stats = pstats.Stats(profile)
    per_picture = 1e3 / records
    spent = {
        stage: per_picture * sum(_cumulative(stats, function)) for stage, function in STAGES.items()
    }
    return {**spent, "all": per_picture * stats.total_tt}  # type: ignore[attr-defined]


def _cumulative(stats: pstats.Stats, function: str) -> Iterator[float]:
    """Seconds in the functions of the package that have a name."""
    for (file, _, name), row in stats.stats.items():  # type: ignore[attr-defined]
        if name == function and Path(file).parts[-3:-2] == ("glip",):
            yield row[3]


def measure(
    file: Path, data: DataConfig, model: ModelConfig, repeats: int, *, raw: bool = False
) -> dict[str, dict[str, float]]:
    """Of each kind of epoch, the least milliseconds of each stage."""
    epochs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            for kind in KINDS:
                folder = None if kind == "without" else Path(cache)
                epochs[kind].append(epoch(*samples(file, data, model, folder, raw=raw)))
    return {
        kind: {stage: min(one[stage] for one in times) for stage in (*STAGES, "all")}
        for kind, times in epochs.items()
    }


def table(measured: dict[str, dict[str, float]]) -> str:
    """A row for each stage, in Markdown."""
    rows = [
        "| ms of a picture | " + " | ".join(KINDS) + " | without / cached |",
        "| --- " + "| --: " * 4 + "|",
    ]
    for stage in (*STAGES, "all"):
        times = [measured[kind][stage] for kind in KINDS]
        if not any(times):
            continue
        ratio = times[0] / max(times[-1], 1e-6)
        rows.append(f"| {stage} | " + " | ".join(f"{t:.1f}" for t in times) + f" | {ratio:.1f} |")
    return "\n".join(rows)


def decoders(file: Path, largest: Extent, repeats: int) -> dict[str, float]:
    """Milliseconds from a JPEG to a picture of the size that training asks for, by several ways."""
    paths = sorted(file.parent.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        cache, photos = PictureCache(folder, 20.0, largest), PictureFolder(file.parent)

        def full(path: Path) -> Image.Image:
            return Image.open(path).convert("RGB")

        def scaled(path: Path) -> Image.Image:
            picture = Image.open(path)
            height, width = largest.of((picture.height, picture.width))
            picture.draft("RGB", (width, height))
            return picture.convert("RGB")

        def torchvisions(path: Path) -> Image.Image:
            content = torch.from_numpy(np.fromfile(path, np.uint8))
            return Image.fromarray(decode_jpeg(content).permute(1, 2, 0).numpy())

        def shrunk(decode: Callable[[Path], Image.Image], path: Path) -> None:
            picture = decode(path)
            height, width = largest.of((picture.height, picture.width))
            picture.resize((width, height), Image.Resampling.BILINEAR)

        ways: dict[str, Callable[[Path], object]] = {
            "Pillow": partial(shrunk, full),
            "Pillow, scaled while decoding": partial(shrunk, scaled),
            "torchvision.io": partial(shrunk, torchvisions),
            "read from the cache": lambda path: cache.read(photos, path.name),
        }
        return {way: _least_ms(decode, paths, repeats) for way, decode in ways.items()}


def _least_ms(decode: Callable[[Path], object], paths: Sequence[Path], repeats: int) -> float:
    """Of a path, after one round that does not count."""
    rounds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        for path in paths:
            decode(path)
        rounds.append(1e3 * (time.process_time() - start) / len(paths))
    return min(rounds[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=size_hw, default=(1080, 1920), help="size of the photos")
    parser.add_argument("--config", type=Path, help="of a run, whose augmentation is taken")
    parser.add_argument("--model", default="glip_tiny", help="whose sizes are taken")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--raw", action="store_true", help="normalise on the device, not here")
    parser.add_argument("--decoders", action="store_true", help="only ways to a smaller picture")
    options: Any = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = DataConfig() if options.config is None else read_run(options.config).data
    with tempfile.TemporaryDirectory() as folder:
        file = enlarged_samples(Path(folder), options.photo, options.photos)
        model = preset(options.model)
        if options.decoders:
            ways = decoders(file, extent(data.augment, model.pixels), options.repeats)
            print("\n".join(f"| {way} | {ms:.1f} ms |" for way, ms in ways.items()))
        else:
            print(table(measure(file, data, model, options.repeats, raw=options.raw)))


if __name__ == "__main__":
    main()
