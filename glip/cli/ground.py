"""`glip ground` and `tools/pseudo_ground.py`: captions -> grounding data for a student.

In the output folder: `data`, which training reads; `report.html` and `report.txt`; `journal`, with
all that is done so far; and `survey`, what was counted for the filters.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

from glip.choices import Preset
from glip.cli.options import (
    add_device_option,
    add_dtype_option,
    add_out_option,
    add_strict_option,
)
from glip.cli.terminal import DONE, SOME_FAILED, progress_bar, written

if TYPE_CHECKING:
    from PIL import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "--captions",
        required=True,
        nargs="+",
        metavar="PATH",
        help="COCO captions (.json), a table of picture and caption (.tsv, .csv, .jsonl), a folder "
        "with a .txt beside each picture, or shards of a web data set (.tar, or their folder)",
    )
    parser.add_argument(
        "--images", metavar="PATH", help="folder or tar; by default beside the captions"
    )
    add_out_option(parser, "results, journal")
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="the teacher: GLIP weights, or a folder with a Grounding DINO, OWL-ViT or OWLv2 of "
        "transformers",
    )
    parser.add_argument(
        "--preset",
        choices=get_args(Preset),
        default="web",
        help="filters for alt-texts from the web, or for captions that people wrote, of which all "
        "are kept (default: %(default)s)",
    )
    parser.add_argument("--config", metavar="YAML", help="all options, over those of the preset")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="a.b=value",
        dest="overrides",
        help="single options, over all others: boxes.min_score=0.1 batch_size=8",
    )
    parser.add_argument(
        "--leave-out",
        nargs="+",
        default=[],
        metavar="PATH",
        help="folders or tars with pictures for tests: near duplicates of them are left out",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first pictures")
    parser.add_argument(
        "--survey-only", action="store_true", help="count for the filters, and stop"
    )
    add_device_option(parser)
    add_dtype_option(parser)
    add_strict_option(parser)


def run(args: argparse.Namespace) -> int:
    """Ground, print the report and say where the data is; returns the exit code."""
    from glip import distributed
    from glip.data.pictures import open_pictures
    from glip.pseudo.captions import CaptionSet
    from glip.pseudo.config import DATA, REJECTED, GroundingConfig
    from glip.pseudo.filters import CaptionFilters
    from glip.pseudo.ground import ground_captions
    from glip.pseudo.teachers import load_teacher
    from glip.settings import read_config

    preset = asdict(CaptionFilters.preset(args.preset))
    config = read_config(GroundingConfig, args.config, args.overrides, under={"filters": preset})
    captions = CaptionSet(args.captions, args.images)
    sets = [open_pictures(path) for path in args.leave_out]

    def left_out() -> Iterator[Image.Image]:
        return (pictures.read(name) for pictures in sets for name in pictures.names())

    device = distributed.start() if distributed.started_by_torchrun() else args.device
    try:
        teacher = load_teacher(args.weights, device=device, dtype=args.dtype)
        with progress_bar(shown=distributed.is_main()) as show:
            report = ground_captions(
                captions,
                teacher,
                config,
                args.out,
                leave_out=[pictures.root.name for pictures in sets],
                limit=args.limit,
                survey_only=args.survey_only,
                load_left_out=left_out,
                progress=show,
            )
    finally:
        distributed.stop()
    if report is None:
        return DONE
    print(report.text())
    written(args.out / DATA, args.out / "report.html")
    failed = report.newly_rejected or (args.strict and report.entries.get(REJECTED))
    return SOME_FAILED if failed else DONE
