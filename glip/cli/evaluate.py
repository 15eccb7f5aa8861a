"""`glip evaluate` and `tools/evaluate.py`: weights and a data set -> a table and files."""

from __future__ import annotations

import argparse

from glip import api
from glip.cli.options import add_shortlist_option
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import DONE, SOME_FAILED, progress_bar, written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_options_of(
        parser,
        api.evaluate,
        *(
            "weights",
            "prompt",
            "task",
            "data",
            "images",
            "split",
            "max_bad",
            "output",
            "chunk",
            "wordings",
        ),
        *("standard_ap", "max_detections", "batch_size", "limit", "device", "dtype", "backend"),
        "rescore",
    )
    add_shortlist_option(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table and say where the rest is; returns the exit code."""
    with progress_bar() as show:
        results = api.evaluate(**options_of(args, api.evaluate), progress=show)
    if results is None:
        return DONE
    print(results)
    report = [results.folder / "report.html"] if "worst_photos" in results else []
    written(results.folder / "results.json", *report)
    return SOME_FAILED if results.get("unreadable") else DONE
