"""`glip demo`: the page of the server in a browser, for trying words on photos."""

from __future__ import annotations

import argparse
import webbrowser

from glip.cli.serve import add_model_arguments, model_options, start
from glip.serve.options import ServeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_model_arguments(parser)
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="by default one that is free"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="only print the address of the page"
    )


def run(args: argparse.Namespace) -> int:
    """Serve this machine only, and open the page; returns the exit code."""
    options = ServeOptions(port=args.port, **model_options(args))
    return start(options, opened=None if args.no_browser else webbrowser.open)
