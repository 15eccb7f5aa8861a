"""`glip ground` and `tools/pseudo_ground.py`: captions -> grounding data for a student.

In the output folder: `data`, which training reads; `report.html` and `report.txt`; `journal`, with
all that is done so far; and `survey`, what was counted for the filters.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from glip import api
from glip.cli.options import add_strict_option
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import DONE, SOME_FAILED, progress_bar, written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    function = api.ground_captions
    add_options_of(parser, function, "captions", "images", "out", "weights", "preset", "config")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="a.b=value",
        dest="overrides",
        help="single options, over all others: boxes.min_score=0.1 batch_size=8",
    )
    add_options_of(parser, function, "leave_out", "limit", "survey_only", "device", "dtype")
    add_strict_option(parser)


def run(args: argparse.Namespace) -> int:
    """Ground, print the report and say where the data is; returns the exit code."""
    from glip.pseudo.config import DATA, REJECTED

    with progress_bar() as show:
        report = api.ground_captions(**options_of(args, api.ground_captions), progress=show)
    if report is None:
        return DONE
    print(report.text())
    written(Path(args.out, DATA), Path(args.out, "report.html"))
    failed = report.newly_rejected or (args.strict and report.entries.get(REJECTED))
    return SOME_FAILED if failed else DONE
