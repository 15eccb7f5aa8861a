"""`glip evaluate` and `tools/evaluate.py`: the options of an evaluation, and what it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from glip.cli.options import add_batch_size_option, add_device_option, add_dtype_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    from glip.evaluation.average_precision import Backend
    from glip.evaluation.config import Task

    parser.add_argument(
        "--weights", help="weights file or name of a model; by default the small one"
    )
    parser.add_argument(
        "--prompt",
        type=Path,
        metavar="FILE",
        help="a learned prompt (of glip tune or glip prompts) that answers for the classes",
    )
    parser.add_argument(
        "--task",
        required=True,
        choices=get_args(Task),
        help="the protocol; custom: that of COCO for any boxes",
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="PATH",
        help="annotation file, or folder of a data set",
    )
    parser.add_argument(
        "--images", metavar="PATH", help="folder or tar; by default beside the data"
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="of a folder with several"
    )
    parser.add_argument(
        "--output",
        default="evaluation",
        metavar="DIR",
        help="predictions and results (default: %(default)s)",
    )
    parser.add_argument("--chunk", type=int, help="class names asked for at a time (lvis: 40)")
    parser.add_argument(
        "--wordings",
        type=Path,
        metavar="JSON",
        help="class name -> other words: measure these classes a second time by those words",
    )
    parser.add_argument(
        "--standard-ap", action="store_true", help="lvis: 300 a picture, not fixed AP"
    )
    parser.add_argument("--max-detections", type=int, help="of a picture (lvis: and chunk)")
    add_batch_size_option(parser)
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N pictures, to try things out"
    )
    add_device_option(parser)
    add_dtype_option(parser)
    parser.add_argument("--backend", choices=get_args(Backend), help="of average precision")
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="measure the predictions in --output, without a model",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table and say where the rest is; returns the exit code."""
    from glip.checkpoint import file_sha256, find
    from glip.cli.main import DONE, SOME_FAILED
    from glip.detector import load
    from glip.distributed import is_main
    from glip.errors import ConfigError
    from glip.evaluation.config import TaskOptions
    from glip.evaluation.table import results_table
    from glip.evaluation.tasks import run_task

    detector, settings = None, {}
    if args.rescore:
        given = ("weights", "prompt", "max_detections", "chunk")
        if extra := [name for name in given if getattr(args, name) is not None]:
            raise ConfigError(
                f"--rescore measures the predictions that are in --output; leave "
                f"--{extra[0].replace('_', '-')} out, or --rescore"
            )
    else:
        path = find(args.weights)
        detector = load(path, device=args.device, dtype=args.dtype, prompt=args.prompt)
        settings = {"weights": path.name, "weights_sha256": file_sha256(path), "dtype": args.dtype}
        if args.prompt is not None:
            settings |= {"prompt": args.prompt.name, "prompt_sha256": file_sha256(args.prompt)}
    results = run_task(
        TaskOptions(
            args.task,
            images=args.images,
            split=args.split,
            chunk=args.chunk,
            wordings=None if args.wordings is None else read_other_words(args.wordings),
            fixed_ap=not args.standard_ap,
            max_detections=args.max_detections,
            batch_size=args.batch_size,
            limit=args.limit,
            backend=args.backend,
        ),
        detector,
        args.data,
        args.output,
        settings=settings,
        progress=_progress_bar,
    )
    if is_main():
        print(results_table(results))
        print(f"written: {Path(args.output) / 'results.json'}", file=sys.stderr)
    return SOME_FAILED if results.get("unreadable") else DONE


def read_other_words(path: Path) -> dict[str, str]:
    """Class name -> other words for it, from a JSON file.

    Raises:
        DataError: It cannot be read.
        ConfigError: It holds something else, or nothing.
    """
    from glip.data.formats.coco import read_json
    from glip.errors import ConfigError

    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f'{path} must hold {{"class name": "other words", ...}}')
    for name, words in content.items():
        if not isinstance(words, str) or not words.strip():
            raise ConfigError(f"{path}: the other words for '{name}' must be text, got {words!r}")
    wordings: dict[str, str] = content
    return wordings


def _progress_bar(name: str, total: int) -> Callable[[int], Any]:
    from tqdm import tqdm

    from glip.distributed import is_main

    bar: Any = tqdm(total=total, desc=name, unit="picture", disable=not is_main())
    update: Callable[[int], Any] = bar.update
    return update
