"""`glip models`: the models that have a name."""

from __future__ import annotations

import argparse

from glip import api
from glip.cli.terminal import DONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: all of them are shown."""


def run(args: argparse.Namespace) -> int:
    """Print a line for each; returns the exit code."""
    for model in api.models():
        print(model)
    return DONE
