"""`glip doctor`: a data set -> what is wrong with it."""

from __future__ import annotations

import argparse

from glip import api
from glip.cli.options import some_path
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    what = "annotations in any format that training reads"
    parser.add_argument("data", type=some_path, help=what)
    add_options_of(parser, api.doctor, "images", "split", "quick", "max_bad")


def run(args: argparse.Namespace) -> int:
    """Examine and print the report; returns the exit code."""
    with progress_bar() as show:
        report = api.doctor(**options_of(args, api.doctor), progress=show)
    print(report.text())
    return report.exit_code
