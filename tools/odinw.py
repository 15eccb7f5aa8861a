"""Compare ways of tuning over a folder of small data sets, with few shots and with all.

    python tools/odinw.py --data datasets/odinw --weights glip_nano --out runs/odinw

goes on where it was stopped, and writes results.md, results.json and a curve for each set.
"""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from glip.choices import TuneMode
from glip.cli.options import add_out_option, number_of_shots
from glip.cli.terminal import DONE, FAILED, guarded, note, written
from glip.engine import usable_device
from glip.errors import DataError
from glip.tuning.options import TuneOptions
from glip.tuning.protocol import ALL, Plan, cells_table, compare, finished, write_results


def parse() -> argparse.Namespace:
    """The command line."""
    usual = Plan("")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="a data set, or many")
    parser.add_argument("--weights", metavar="NAME", help="the base model: a file or a name")
    add_out_option(parser, "folder of results")
    parser.add_argument("--modes", nargs="+", choices=get_args(TuneMode), default=usual.modes)
    parser.add_argument(
        "--shots",
        nargs="+",
        type=lambda text: number_of_shots(text) or ALL,
        default=usual.shots,
        help='pictures of each class, or "all"',
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=usual.seeds)
    parser.add_argument("--steps", type=int, help="of each run; by default 200 to 1000")
    parser.add_argument("--evaluations", type=int, default=usual.options.evaluations, metavar="N")
    parser.add_argument("--lr", type=float, nargs="+", default=(), help="for a single mode")
    parser.add_argument("--search-lr", action="store_true", help="three rates for each run")
    parser.add_argument("--retention", metavar="PATH", help="a set that is not tuned on")
    parser.add_argument("--replay", metavar="PATH", help="data of the base model to train on too")
    parser.add_argument("--keep-weights", action="store_true", help="not only numbers and prompts")
    parser.add_argument(
        "--finished-only", action="store_true", help="run nothing, only gather what is there"
    )
    parser.add_argument("--limit", type=int, help="of pictures to evaluate on; no result then")
    parser.add_argument("--device", help='such as "cpu" or "cuda:1"')
    return parser.parse_args()


def main() -> int:
    """Every result, and the table."""
    args = parse()
    options = TuneOptions(
        args.data,
        weights=args.weights,
        steps=args.steps,
        evaluations=args.evaluations,
        lr=tuple(args.lr),
        search_lr=args.search_lr,
        retention=args.retention,
        replay=args.replay,
        keep_weights=args.keep_weights,
        limit=args.limit,
    )
    plan = Plan(args.data, tuple(args.modes), tuple(args.shots), tuple(args.seeds), options)
    failures: list[str] = []
    if args.finished_only:
        cells = finished(args.out)
        if not cells:
            raise DataError(f"{args.out} holds no finished result")
        write_results(cells, args.out)
    else:
        cells = compare(
            plan,
            args.out,
            usable_device(args.device),
            failed=lambda run, error: failures.append(f"{run}: {error}"),
            progress=lambda step: note(step.what),
        )
    if cells:
        print(cells_table(cells))
        written(args.out / "results.md")
    for failure in failures:
        note(f"error: {failure}")
    return FAILED if failures else DONE


if __name__ == "__main__":
    sys.exit(guarded(main))
