"""Options that several commands have, so that they are the same in all of them.

Imports nothing heavy: a command line asks for its options before it knows what it will run.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, get_args

from glip.choices import Aggregate, DType


class Options(Protocol):
    """A parser, or a group of its options."""

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """As of argparse."""


def some_path(text: str) -> str:
    """A path; never an empty one, as a variable of a shell that is not set leaves it.

    Raises:
        ArgumentTypeError: It is empty, which would be the working folder.
    """
    if not text:
        raise ArgumentTypeError("an empty path; '.' is the working folder")
    return text


def add_detection_options(parser: Options) -> None:
    """What becomes of the model's output: `nms`, `max_detections`, `aggregate`, `exclusive`."""
    parser.add_argument(
        "--nms",
        type=float,
        default=0.6,
        metavar="IOU",
        help="of two boxes of a phrase that overlap by more, the better one stays (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        default=100,
        metavar="N",
        help="for each picture (default: %(default)s)",
    )
    parser.add_argument(
        "--aggregate",
        choices=get_args(Aggregate),
        help="how the scores of a phrase's tokens become one; by default as the model was trained: "
        "the mean for GLIP",
    )
    parser.add_argument(
        "--exclusive",
        action="store_true",
        help="one phrase for each thing: boxes of different phrases suppress each other, too",
    )


def add_device_option(parser: Options) -> None:
    """Where the model is: `device`."""
    parser.add_argument(
        "--device", help='such as "cpu" or "cuda:1"; by default a GPU if there is one'
    )


def add_batch_size_option(parser: Options) -> None:
    """Pictures in one pass of the model: `batch_size`."""
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="pictures that go through the model together (default: %(default)s)",
    )


def add_shortlist_option(parser: Options) -> None:
    """How many of many names are looked for in a whole picture: `shortlist`."""
    parser.add_argument(
        "--shortlist",
        type=int,
        metavar="N",
        help="for hundreds of names: look for all of them at half the size, and for the N most "
        "probable ones in the whole picture; approximate, it finds less (default: off)",
    )


def add_max_bad_option(parser: Options) -> None:
    """How much of a data set may be left out: `max_bad`."""
    parser.add_argument(
        "--max-bad",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of entries that cannot be used, which are left out; more are refused (default: "
        "%(default)s)",
    )


def add_out_option(parser: Options, help: str, *, metavar: str = "DIR") -> None:
    """Where results go, under either of two names: `out`."""
    parser.add_argument(
        "--out", "--output", dest="out", type=Path, required=True, metavar=metavar, help=help
    )


def add_dtype_option(parser: Options) -> None:
    """In which numbers it computes: `dtype`."""
    parser.add_argument(
        "--dtype",
        choices=get_args(DType),
        default="float32",
        help="number format of the model (default: %(default)s)",
    )


def add_strict_option(parser: Options) -> None:
    """Whether rejected pictures of earlier calls count: `strict`."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit code 1 as long as any picture is rejected, not only in the call that rejects it",
    )


def number_of_shots(text: str) -> int | None:
    """Pictures of each class, from a command line; None for "all" of them.

    Raises:
        ArgumentTypeError: Neither "all" nor a whole number of at least 1.
    """
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number of pictures, 1 or more, nor 'all'")
    return int(text)


def formats_option(kinds: object, default: str) -> dict[str, Any]:
    """What argparse is told of an option `--format` that takes several.

    Args:
        kinds: The `Literal` of all formats.
        default: What the help says of the ones that are taken without the option.
    """
    return {
        "nargs": None,
        "type": words_of(kinds),
        "action": "extend",
        "choices": None,
        "default": None,
        "metavar": "FORMAT",
        "help": f"{', '.join(get_args(kinds))}; several with commas between them, or the option "
        f"again (default: {default})",
    }


def words_of(kinds: object) -> Callable[[str], list[str]]:
    """Reads words of a `Literal` from a command line, with commas between them.

    It raises ArgumentTypeError where one is not among them.
    """
    known = get_args(kinds)

    def words(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return words
