"""What an exported model is worth: accuracy, time and size of each runtime and number format,
beside torch, in one run.

python benchmarks/exported.py --calibration photos --data datasets/coco_val.json --images images.tar
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

import glip
from glip.choices import ExportDType, Runtime
from glip.detector import Detector

KINDS = ("onnx/float32", "onnx/float16", "onnx/int8", "openvino/float32", "openvino/int8")
NAMES = {"few words": 2, "many words": 50}
"""How many names a prompt has whose time is measured."""


class Row(NamedTuple):
    """One way to run the model."""

    kind: str
    place: str | None
    megabytes: float | None


def exported(kind: str, folder: Path, args: argparse.Namespace) -> Row:
    """Export to one runtime and number format, unless it is there from an earlier run."""
    runtime, dtype = kind.split("/")
    out = folder / kind.replace("/", "_")
    if not (out / "glip.json").is_file():
        glip.export(
            out,
            weights=args.weights,
            format=cast(Runtime, runtime),
            dtype=cast(ExportDType, dtype),
            calibration=args.calibration if dtype == "int8" else None,
        )
    files = [file for file in out.iterdir() if file.suffix in (".onnx", ".xml", ".bin")]
    return Row(kind, str(out), sum(file.stat().st_size for file in files) / 1e6)


def seconds(detectors: dict[str, Detector], names: list[str], repeats: int) -> dict[str, float]:
    """Processor seconds of one prediction at 320x480, all detectors in turns, words remembered."""
    picture = np.random.default_rng(0).integers(0, 255, (320, 480, 3), np.uint8)
    times: dict[str, list[float]] = {kind: [] for kind in detectors}
    for turn in range(repeats + 1):
        for kind, detector in detectors.items():
            start = time.process_time()
            detector.predict(picture, names)
            if turn:  # the first one prepares
                times[kind].append(time.process_time() - start)
    return {kind: statistics.median(own) for kind, own in times.items()}


def accuracy(row: Row, args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """AP and AP50 on the data."""
    results = glip.evaluate(
        args.data,
        images=args.images,
        weights=row.place or args.weights,
        limit=args.limit,
        device="cpu",
        output=folder / "evaluation" / row.kind.replace("/", "_"),
    )
    assert results is not None  # one process
    metrics: dict[str, float] = results["metrics"]
    return metrics


def main() -> None:
    """Print a row for torch and for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="file or name of a model; by default the packaged one")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, metavar="KIND")
    parser.add_argument("--calibration", help="folder of photos, for int8")
    parser.add_argument("--data", help="annotations to measure accuracy on; by default none")
    parser.add_argument("--images", help="their folder or tar")
    parser.add_argument("--limit", type=int, help="only the first N photos of them")
    parser.add_argument("--repeats", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="keep the exported models here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        rows = [Row("torch", None, None), *(exported(kind, folder, args) for kind in args.kinds)]
        table = _table(rows, args, folder)
    columns = list(table[0])
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join(["---", *["--:"] * (len(columns) - 1)]) + " |")
    for line in table:
        print("| " + " | ".join(line.values()) + " |")


def _table(rows: list[Row], args: argparse.Namespace, folder: Path) -> list[dict[str, str]]:
    detectors = {row.kind: glip.load(row.place or args.weights, device="cpu") for row in rows}
    times: dict[str, Any] = {
        title: seconds(detectors, [f"thing {one}" for one in range(count)], args.repeats)
        for title, count in NAMES.items()
    }
    del detectors
    table = []
    for row in rows:
        line = {"": row.kind, "MB": "" if row.megabytes is None else f"{row.megabytes:.0f}"}
        line |= {f"{title}, s": f"{own[row.kind]:.3f}" for title, own in times.items()}
        if args.data is not None:
            metrics = accuracy(row, args, folder)
            line |= {name: f"{100 * metrics[name]:.1f}" for name in ("AP", "AP50")}
        table.append(line)
    return table


if __name__ == "__main__":
    main()
