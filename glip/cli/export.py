"""`glip export`: a model as graphs that run without torch, words still their input."""

from __future__ import annotations

import argparse
import re

from glip import api
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import DONE, note, progress_bar

EPILOG = """\
examples:
  glip export --out nano
  glip export --weights runs/mine/model_final.safetensors --format openvino --out mine
  glip export --dtype int8 --calibration photos --out small
  glip export --dtype float16 --web package --out page && python -m http.server -d page
  glip predict --weights nano --image street.jpg --prompt "person. dog."
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    size = {
        "nargs": None,
        "type": size_hw,
        "metavar": "HxW",
        "help": "height and width of every picture that goes in, multiples of 32, such as 320x480; "
        "by default any",
    }
    names = {
        "nargs": None,
        "metavar": "NAMES",
        "help": 'names to bake in, such as "cat, dog", or a file, one name a line: the folder '
        "answers these and no others",
    }
    add_options_of(parser, api.export, "weights", "out", "format", "dtype", "size", size=size)
    words = parser.add_mutually_exclusive_group()
    add_options_of(words, api.export, "task", "classes", task={"metavar": "FILE"}, classes=names)
    folder = {"metavar": "DIR"}
    add_options_of(parser, api.export, "calibration", "web", calibration=folder, web=folder)


def size_hw(text: str) -> tuple[int, int]:
    """Height and width from "320x480".

    Raises:
        ArgumentTypeError: Written in another way.
    """
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; write height x width in pixels, such as 320x480"
        )
    return int(match[1]), int(match[2])


def run(args: argparse.Namespace) -> int:
    """Export and say what came of it; returns the exit code."""
    options = options_of(args, api.export)
    with progress_bar() as show:
        result = api.export(**options, progress=show)
    print(result)
    place = str(result.folder)
    note(f"written: {place}; run it with glip.load({place!r}) or --weights {place}")
    return DONE
