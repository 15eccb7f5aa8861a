"""`glip evaluate` and `tools/evaluate.py`: the options of an evaluation, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from glip.choices import Backend, Split, Task
from glip.cli.options import (
    add_batch_size_option,
    add_device_option,
    add_dtype_option,
    add_max_bad_option,
)
from glip.cli.terminal import DONE, SOME_FAILED, progress_bar, written
from glip.errors import ConfigError

if TYPE_CHECKING:
    from glip.detector import Detector
    from glip.evaluation.config import TaskOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
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
        "--split",
        choices=get_args(Split),
        help="of a folder with several; by default what it holds out from training",
    )
    add_max_bad_option(parser)
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
    from glip import distributed
    from glip.evaluation.table import results_table
    from glip.evaluation.tasks import run_task

    if args.rescore:
        _check_rescore(args)
    device = args.device
    if distributed.started_by_torchrun():
        own = distributed.start()
        device = own if device is None else device
    try:
        detector, settings = (None, {}) if args.rescore else _detector(args, device)
        with progress_bar(shown=distributed.is_main()) as show:
            results = run_task(
                _options(args), detector, args.data, args.output, settings=settings, progress=show
            )
        if distributed.is_main():
            print(results_table(results))
            written(Path(args.output) / "results.json")
    finally:
        distributed.stop()
    return SOME_FAILED if results.get("unreadable") else DONE


def _options(args: argparse.Namespace) -> TaskOptions:
    from glip.evaluation.config import TaskOptions

    return TaskOptions(
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
        max_bad=args.max_bad,
    )


def _detector(args: argparse.Namespace, device: Any) -> tuple[Detector, dict[str, Any]]:
    """What predicts, and what its predictions depend on."""
    from glip.checkpoint import file_sha256, find
    from glip.detector import load

    path = find(args.weights)
    detector = load(path, device=device, dtype=args.dtype, prompt=args.prompt)
    settings = {"weights": path.name, "weights_sha256": file_sha256(path), "dtype": args.dtype}
    if args.prompt is not None:
        settings |= {"prompt": args.prompt.name, "prompt_sha256": file_sha256(args.prompt)}
    return detector, settings


def _check_rescore(args: argparse.Namespace) -> None:
    """Predictions that are there are measured as they are.

    Raises:
        ConfigError: An option asks for others.
    """
    given = ("weights", "prompt", "max_detections", "chunk")
    if extra := [name for name in given if getattr(args, name) is not None]:
        raise ConfigError(
            f"--rescore measures the predictions that are in --output; leave "
            f"--{extra[0].replace('_', '-')} out, or --rescore"
        )


def read_other_words(path: Path) -> dict[str, str]:
    """Class name -> other words for it, from a JSON file.

    Raises:
        DataError: It cannot be read.
        ConfigError: It holds something else, or nothing.
    """
    from glip.data.formats.content import read_json

    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise ConfigError(f'{path} must hold {{"class name": "other words", ...}}')
    for name, words in content.items():
        if not isinstance(words, str) or not words.strip():
            raise ConfigError(f"{path}: the other words for '{name}' must be text, got {words!r}")
    wordings: dict[str, str] = content
    return wordings
