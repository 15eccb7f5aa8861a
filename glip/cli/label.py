"""`glip label` and `tools/pseudo_label.py`: photos -> data sets, and what is said of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from glip import api
from glip.choices import LabelFormat
from glip.cli.options import (
    add_shortlist_option,
    add_strict_option,
    formats_option,
)
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import DONE, SOME_FAILED, note, progress_bar, written

if TYPE_CHECKING:
    from glip.labelling.job import Labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    images = {"required": False, "metavar": "PATH"}
    add_options_of(parser, api.label, "images", "every", "limit", images=images)
    what = parser.add_mutually_exclusive_group()
    names = {
        "nargs": None,
        "metavar": "NAMES",
        "help": 'what to label, with commas: "raccoon, trash can"; or a file, one name a line',
    }
    add_options_of(what, api.label, "classes", "ontology", classes=names)
    formats = formats_option(LabelFormat, "coco")
    add_options_of(
        parser,
        api.label,
        *(
            "out",
            "format",
            "val",
            "pictures",
            "force",
            "corrected",
            "proposed",
            "max_bad",
            "label_studio_prefix",
        ),
        format=formats,
        val={"metavar": "SHARE"},
        label_studio_prefix={"metavar": "URL"},
    )
    model = parser.add_argument_group("model")
    add_options_of(
        model,
        api.label,
        *("weights", "threshold", "nms", "max_detections", "aggregate", "exclusive", "device"),
        *("dtype", "engine", "actors", "batch_size", "workers", "retry_rejected"),
    )
    add_shortlist_option(model)
    add_strict_option(model)


def run(args: argparse.Namespace) -> int:
    """Label, or take corrected labels, and say what came of it; returns the exit code."""
    from glip import distributed

    options = options_of(args, api.label)
    options["format"] = args.format or ("coco",)
    with progress_bar() as show:
        labels = api.label(**options, progress=show)
    if labels is None:
        return DONE
    code = _tell(labels, strict=args.strict)
    if args.corrected is not None and labels.corrections is None:
        note("to see what people changed, name the folder of the model's labels with --proposed")
    # torchrun would take another one for a crash.
    return DONE if distributed.started_by_torchrun() else code


def _tell(labels: Labels, *, strict: bool) -> int:
    """Say what there is; returns the exit code."""
    note(str(labels))
    if labels.already:
        note(f"all of it was done already: {', '.join(map(str, labels.data_sets.values()))}")
    else:
        places = [*labels.data_sets.values(), labels.report]
        written(*places, *([labels.out / "rejected.txt"] if labels.rejected else []))
        if labels.next:
            first = ", ".join(labels.next[:3]) + (", ..." if len(labels.next) > 3 else "")
            note(f"look at these next ({labels.out / 'next.txt'}): {first}")
    return SOME_FAILED if labels.newly_rejected or (strict and labels.rejected) else DONE
