"""`glip doctor`: a data set -> what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from glip.choices import Split
from glip.cli.options import add_max_bad_option
from glip.cli.terminal import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("data", type=Path, help="annotations in any format that training reads")
    parser.add_argument(
        "--images", type=Path, metavar="PATH", help="folder or tar; by default beside the data"
    )
    parser.add_argument("--split", choices=get_args(Split), help="of a folder with several")
    parser.add_argument("--quick", action="store_true", help="do not decode the pictures")
    add_max_bad_option(parser)


def run(args: argparse.Namespace) -> int:
    """Examine and print the report; returns the exit code."""
    from glip.data.doctor.examine import examine

    with progress_bar() as show:
        report = examine(
            args.data,
            args.images,
            quick=args.quick,
            split=args.split,
            max_bad=args.max_bad,
            progress=show,
        )
    print(report.text())
    return report.exit_code
