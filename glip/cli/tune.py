"""`glip tune`: its options, and what it prints."""

from __future__ import annotations

import argparse

from glip import api
from glip.cli.options import number_of_shots
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import DONE, written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    shots = {"type": number_of_shots, "help": 'pictures of each class, or "all" (default: all)'}
    first = (
        "data",
        "mode",
        "shots",
        "weights",
        "prompt",
        "out",
        "val",
        "images",
        "max_bad",
        "seed",
    )
    add_options_of(parser, api.tune, *first, shots=shots, val={"metavar": "PATH"})
    add_options_of(parser.add_mutually_exclusive_group(), api.tune, "lr", "search_lr")
    add_options_of(parser.add_mutually_exclusive_group(), api.tune, "steps", "epochs")
    add_options_of(
        parser,
        api.tune,
        *("batch_size", "evaluations", "cache", "retention", "retention_images", "replay"),
        *("replay_images", "replay_share", "interpolate", "limit", "device"),
        replay_share={"metavar": "SHARE"},
    )


def run(args: argparse.Namespace) -> int:
    """Tune, print what it gave and say where it is; returns the exit code."""
    result = api.tune(**options_of(args, api.tune))
    print(result)
    written(result.folder / result["file"], result.folder / "report.html")
    return DONE
