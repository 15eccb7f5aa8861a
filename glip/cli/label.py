"""`glip label` and `tools/pseudo_label.py`: the options of `glip.labelling.job`, and what is said
of its results.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, cast, get_args

from glip.choices import LabelFormat, PictureMode
from glip.cli.options import (
    add_detection_options,
    add_device_option,
    add_dtype_option,
    add_max_bad_option,
    add_out_option,
    add_strict_option,
    class_names,
)
from glip.cli.terminal import DONE, SOME_FAILED, note, progress_bar, written
from glip.errors import ConfigError

if TYPE_CHECKING:
    from glip.labelling.job import Labels
    from glip.labelling.ontology import Ontology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--images", metavar="PATH", help="folder with the pictures, or a video")
    parser.add_argument(
        "--every",
        type=int,
        default=30,
        metavar="N",
        help="of a video, take each N-th frame (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only the first pictures by name, to look at before all are labelled",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--classes",
        metavar="NAMES",
        help='what to label, with commas: "raccoon, trash can"; or a file, one name a line',
    )
    what.add_argument(
        "--ontology",
        metavar="YAML",
        help="classes with their wordings, what they are mistaken for, thresholds and sizes",
    )
    add_out_option(parser, "results, journal")
    parser.add_argument(
        "--format",
        type=label_formats,
        action="extend",
        metavar="FORMAT",
        help=f"{', '.join(get_args(LabelFormat))}; several with commas between them, or the option "
        "again (default: coco)",
    )
    parser.add_argument(
        "--val",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of pictures for validation, chosen by their names (default: none)",
    )
    parser.add_argument(
        "--pictures",
        choices=get_args(PictureMode),
        help="in the data set: none, links, or upright copies without EXIF orientation (default: "
        "link for yolo and voc, else none)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a data set that is there already"
    )
    parser.add_argument(
        "--corrected",
        metavar="PATH",
        help="write labels that people corrected, in any format that training reads, instead of a "
        "model's",
    )
    add_max_bad_option(parser)
    parser.add_argument(
        "--label-studio-prefix",
        metavar="URL",
        help="before the names of pictures (default: that of its storage of local files)",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--weights", metavar="NAME", help="a file, or the name of a model")
    model.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="labels score above this, unless the ontology says otherwise (default: that of the "
        "weights)",
    )
    add_detection_options(model, overlapping="two boxes of a phrase or group")
    add_device_option(model)
    add_dtype_option(model)
    model.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this process, or those of torchrun; or the machines of the Ray cluster in "
        "RAY_ADDRESS (without one, this machine), all of which see pictures and weights",
    )
    model.add_argument(
        "--actors",
        type=int,
        metavar="N",
        help="with --engine ray, models at work (default: one for each GPU, or each CPU core)",
    )
    model.add_argument("--batch-size", type=int, default=1, metavar="N", help="more helps on a GPU")
    model.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="threads that read pictures (default: %(default)s)",
    )
    model.add_argument(
        "--retry-rejected", action="store_true", help="try pictures again that could not be used"
    )
    add_strict_option(model)


def label_formats(text: str) -> list[LabelFormat]:
    """Formats, from a command line, with commas between them.

    Raises:
        ArgumentTypeError: One is not known.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in get_args(LabelFormat):
            known = ", ".join(get_args(LabelFormat))
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {known}")
    return cast(list[LabelFormat], names)


def run(args: argparse.Namespace) -> int:
    """Label, or take corrected labels, and say what came of it; returns the exit code."""
    from glip import distributed
    from glip.data.formats.layout import LABEL_STUDIO_PREFIX
    from glip.labelling.job import Output, label, take_corrected

    ontology = _ontology(args)
    output = Output(
        formats=tuple(dict.fromkeys(args.format or ("coco",))),
        val=args.val,
        pictures=args.pictures,
        force=args.force,
        prefix=args.label_studio_prefix or LABEL_STUDIO_PREFIX,
    )
    if args.corrected is not None:
        names = None if ontology is None else ontology.names
        corrected = take_corrected(
            args.corrected,
            args.out,
            images=args.images,
            names=names,
            output=output,
            max_bad=args.max_bad,
        )
        return _tell(corrected, strict=args.strict)
    if ontology is None:
        raise ConfigError("say what to label, with --classes NAMES or --ontology YAML")
    if args.images is None:
        raise ConfigError("say where the pictures are, with --images DIR")
    by_torchrun = distributed.started_by_torchrun()
    device = distributed.start() if by_torchrun else args.device
    options = ("weights", "nms", "max_detections", "aggregate", "exclusive", "dtype", "engine",
               "actors", "batch_size", "workers", "every", "limit", "retry_rejected")  # fmt: skip
    try:
        with progress_bar(shown=distributed.is_main()) as show:
            labels = label(
                args.images,
                ontology,
                args.out,
                output=output,
                device=device,
                progress=show,
                **{name: getattr(args, name) for name in options},
            )
    finally:
        distributed.stop()
    if labels is None:
        return DONE
    code = _tell(labels, strict=args.strict)
    return DONE if by_torchrun else code  # which would take another one for a crash


def _ontology(args: argparse.Namespace) -> Ontology | None:
    """What to label; corrected labels have no scores and need no threshold."""
    from glip.checkpoint import find, read_config
    from glip.labelling.ontology import Ontology

    if args.ontology is None and args.classes is None:
        return None
    threshold = args.threshold
    if threshold is None:
        threshold = 0.0 if args.corrected else read_config(find(args.weights)).threshold
    if args.classes is not None:
        return Ontology.of_names(class_names(args.classes), threshold=threshold)
    ontology = Ontology.read(args.ontology, threshold=threshold)
    if args.threshold is not None:
        own = [f"{c.name} {c.threshold:g}" for c in ontology.classes if c.threshold != threshold]
        if own:
            note(
                f"warning: --threshold {threshold:g} does not hold where {args.ontology} says "
                f"otherwise: {', '.join(own[:10])}"
            )
    return ontology


def _tell(labels: Labels, *, strict: bool) -> int:
    """Say what there is; returns the exit code."""
    note(str(labels))
    if labels.already:
        note(f"all of it was done already: {', '.join(map(str, labels.data_sets.values()))}")
    else:
        places = [*labels.data_sets.values(), labels.report]
        written(*places, *([labels.out / "rejected.txt"] if labels.rejected else []))
    return SOME_FAILED if labels.newly_rejected or (strict and labels.rejected) else DONE
