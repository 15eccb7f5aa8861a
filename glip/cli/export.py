"""`glip export`: a model as graphs that run without torch, words still their input."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from glip.choices import ExportDType, Runtime
from glip.cli.options import add_out_option
from glip.cli.terminal import DONE, note
from glip.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

EPILOG = """\
examples:
  glip export --out nano
  glip export --weights runs/mine/model_final.safetensors --format openvino --out mine
  glip export --dtype int8 --calibration photos --out small
  glip predict --weights nano --image street.jpg --prompt "person. dog."
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "--weights", help="a weights file or a model's name; by default what ships with glip"
    )
    add_out_option(parser, "the new folder; an exported model that stands there is replaced")
    parser.add_argument(
        "--format",
        choices=get_args(Runtime),
        default="onnx",
        help="what shall run it: ONNX Runtime or OpenVINO (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(ExportDType),
        default="float32",
        help="how weights are stored; float16 halves the files, int8 also computes the image "
        "encoder in 8 bits (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=size_hw,
        metavar="HxW",
        help="height and width of every picture that goes in, multiples of 32, such as 320x480; by "
        "default any",
    )
    words = parser.add_mutually_exclusive_group()
    words.add_argument(
        "--task", type=Path, metavar="FILE", help="a learned prompt (NAME.prompt.safetensors)"
    )
    words.add_argument(
        "--classes",
        metavar="NAMES",
        help='names to bake in, such as "cat, dog": the folder answers these and no others',
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="photos like those to come, some dozens; for int8",
    )


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
    if args.dtype == "int8" and args.calibration is None:
        raise ConfigError(
            "int8 measures the ranges of numbers on photos: add --calibration DIR with some dozens "
            "like those to come"
        )
    classes = None
    if args.classes is not None:
        classes = [name.strip() for name in args.classes.split(",") if name.strip()]

    from glip.detector import load
    from glip.export.export import export

    detector = load(args.weights, device="cpu")
    if args.task is not None:
        detector = detector.with_prompt(args.task)
    export(
        detector,
        args.out,
        format=args.format,
        dtype=args.dtype,
        size_hw=args.size,
        classes=classes,
        calibration=_photos(args.calibration) if args.calibration else (),
        progress=lambda name: note(f"writing {name} ..."),
    )
    files = sorted(path for path in args.out.iterdir())
    for file in files:
        print(f"{file.stat().st_size / 1e6:9.2f} MB  {file.name}")
    print(f"written: {args.out}; run it with glip.load({str(args.out)!r}) or --weights {args.out}")
    return DONE


def _photos(folder: Path) -> Iterator[Image.Image]:
    from glip.export.export import CALIBRATION_PICTURES
    from glip.images import list_images, load_image

    paths = list_images(folder)
    step = max(1, len(paths) // CALIBRATION_PICTURES)
    return (load_image(path) for path in paths[::step][:CALIBRATION_PICTURES])
