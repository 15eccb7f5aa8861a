"""The `glip` command: which commands there are, and how one of them is begun.

Each command is a module of its own in this room, which is imported when it is asked for, with
`add_arguments(parser)` and `run(args) -> exit code`. Neither imports anything heavy before the
work begins, so that help and errors of the command line answer at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

from glip.cli.terminal import EXIT_CODES, guarded
from glip.processors import share_out
from glip.version import __version__

COMMANDS = {
    "predict": "find what a prompt names in pictures and draw boxes around it",
    "label": "label a folder of photos, for training a detector of your own",
    "track": "follow what a prompt names through a video or before a camera",
    "train": "train on your own pictures",
    "tune": "adapt a model to a few pictures of your own",
    "prompts": "find the words for your classes that help a model most",
    "evaluate": "measure weights on a data set",
    "ground": "find the phrases of captions in their pictures, as data to train a student on",
    "serve": "answer programs, browsers and labelling tools over HTTP",
    "demo": "try words on photos in a browser",
    "doctor": "look for what is wrong with a data set before training on it",
    "samples": "copy the small data set that ships with the package, to try things on",
    "models": "list the models that have a name, their size, source and place on this machine",
    "export": "write a model as graphs that run without torch, words still their input",
    "convert": "turn an official checkpoint into a safetensors file with the config inside",
}
PACKAGES = ("torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow")
"""Those whose versions decide about numbers."""


def main(argv: Sequence[str] | None = None) -> int:
    """The `glip` command; returns its exit code.

    Args:
        argv: Without the program's name; by default those of the process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return run_alone(words[0], words[1:], prog=f"glip {words[0]}")

    def without_command() -> int:
        whole_parser().parse_args(words)
        raise AssertionError("help, or an error")

    return guarded(without_command)


def run_alone(name: str, argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """One command as a program of its own, for the scripts in `demo/` and `tools/`."""

    def work() -> int:
        # Options and the words between them in any order.
        args = parser_of(name, prog=prog).parse_intermixed_args(argv)
        share_out(getattr(args, "processes", 1))
        return int(_module(name).run(args))

    return guarded(work)


def parser_of(name: str, *, prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = argparse.ArgumentParser(prog=prog)
    _configure(parser, name)
    return parser


def whole_parser(*, with_options: bool = False) -> argparse.ArgumentParser:
    """The parser of `glip` itself.

    Args:
        with_options: Those of all commands too, as the completion of shells needs them.
    """
    parser = argparse.ArgumentParser(
        prog="glip",
        description="Boxes for words: detect in pictures what a prompt names.",
        epilog=f"{EXIT_CODES}\nglip COMMAND --help tells more about each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show the versions of glip and what it runs on"
    )
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        help="write a script that completes commands and options: source it from your shell's "
        "profile",
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, help in COMMANDS.items():
        sub_parser = commands.add_parser(name, help=help)
        if with_options:
            _configure(sub_parser, name)
    return parser


def versions() -> dict[str, str]:
    """Package -> its version, of glip, Python and `PACKAGES`; none of them is imported."""
    found = {"glip": __version__, "python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _module(name: str) -> ModuleType:
    return import_module(f"glip.cli.{name}")


def _configure(parser: argparse.ArgumentParser, name: str) -> None:
    help, command = COMMANDS[name], _module(name)
    parser.description = f"{help[0].upper()}{help[1:]}."
    parser.epilog = "\n".join([*filter(None, [getattr(command, "EPILOG", None)]), EXIT_CODES])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_arguments(parser)


class _Version(argparse.Action):
    """Prints versions and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        parser.exit()


class _Completion(argparse.Action):
    """Prints the script for a shell and ends."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: object, shell: Any, option: str | None = None
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.error("completion needs shtab; install it with: pip install 'glip[completion]'")
        print(shtab.complete(whole_parser(with_options=True), shell=shell))
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
