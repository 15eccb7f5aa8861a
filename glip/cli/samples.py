"""`glip samples`: the small data set that ships with the package, as a folder."""

from __future__ import annotations

import argparse

from glip.cli.options import some_path
from glip.cli.terminal import DONE
from glip.samples import copy_samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument(
        "folder", nargs="?", type=some_path, default="samples", help="where to (default: samples)"
    )


def run(args: argparse.Namespace) -> int:
    """Copy, and say where; returns the exit code."""
    folder = copy_samples(args.folder)
    print(f"{folder}: 22 pictures in images, boxes in train.json and val.json, captions.tsv")
    return DONE
