"""`glip tune`: its options, and what it prints."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import get_args

from glip.choices import TuneMode
from glip.cli.options import (
    add_device_option,
    add_max_bad_option,
    add_out_option,
    number_of_shots,
)
from glip.cli.terminal import DONE, written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; each is a field of `TuneOptions`, where it is described."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="pictures with boxes: a folder with train and val parts, or an annotation file",
    )
    parser.add_argument(
        "--mode",
        choices=get_args(TuneMode),
        default="prompt",
        help="what is trained: the words of this task (prompt), output layers (linear_probe), all "
        "behind the encoders (head), the text encoder (language), low-rank products (lora), or "
        "everything (default: %(default)s)",
    )
    parser.add_argument(
        "--shots",
        type=number_of_shots,
        metavar="N",
        help='pictures of each class, or "all" (default: all)',
    )
    parser.add_argument("--weights", metavar="NAME", help="the base model: a file or a name")
    parser.add_argument(
        "--prompt",
        metavar="FILE",
        help="words to start from, as glip prompts writes them, for --mode prompt; by default the "
        "names of the classes",
    )
    add_out_option(parser, "folder of results")
    parser.add_argument("--val", metavar="PATH", help="to choose the best on; by default of --data")
    parser.add_argument("--images", metavar="PATH", help="folder or tar; by default beside --data")
    add_max_bad_option(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the shots and the run (default: %(default)s)"
    )
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--lr", type=float, nargs="+", default=(), help="learning rates to try; the best is kept"
    )
    rates.add_argument("--search-lr", action="store_true", help="try three rates around the usual")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="of the optimizer; by default 200 to 1000")
    length.add_argument("--epochs", type=float)
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures (default: %(default)s)"
    )
    parser.add_argument(
        "--evaluations",
        type=int,
        default=10,
        metavar="N",
        help="on the way, of which the best decides (default: %(default)s)",
    )
    parser.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        help="pictures in several sizes, and features computed anew each time",
    )
    parser.add_argument(
        "--retention", metavar="PATH", help="a set not tuned on: what is left of the open words"
    )
    parser.add_argument("--retention-images", metavar="PATH")
    parser.add_argument("--replay", metavar="PATH", help="data of the base model to train on too")
    parser.add_argument("--replay-images", metavar="PATH")
    parser.add_argument(
        "--replay-share",
        type=float,
        default=0.5,
        help="of the training pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--interpolate",
        type=float,
        nargs="+",
        default=(),
        metavar="SHARE",
        help="also measure weights this far from base (0) to tuned (1)",
    )
    parser.add_argument(
        "--limit", type=int, help="evaluate on the first N pictures only, to try things out"
    )
    add_device_option(parser)


def run(args: argparse.Namespace) -> int:
    """Tune, print what it gave and say where it is; returns the exit code."""
    from glip.engine import usable_device
    from glip.tuning.options import TuneOptions
    from glip.tuning.result import in_words
    from glip.tuning.tune import tune

    given = vars(args)
    values = {field.name: given[field.name] for field in fields(TuneOptions) if field.name in given}
    values |= {name: tuple(values[name]) for name in ("lr", "interpolate")}
    result = tune(TuneOptions(**values), args.out, usable_device(args.device))
    for name, text in in_words(result).items():
        print(f"{name:<14}{text}")
    written(args.out / result["file"], args.out / "report.html")
    return DONE
