"""`glip label` and `tools/pseudo_label.py`: photos and a list of things -> a data set and a report.

In the output folder: `journal`, with all that is done so far; a folder named after the format, with
the data set; `report.html`; and `rejected.txt`, if pictures could not be used.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from glip import distributed
from glip.cli.main import DONE, SOME_FAILED
from glip.cli.options import (
    add_detection_options,
    add_device_option,
    add_dtype_option,
    add_out_option,
)
from glip.data.formats.layout import LABEL_STUDIO_PREFIX, DataSet, PictureMode
from glip.data.labels import Labelled
from glip.errors import ConfigError, DataError
from glip.files import whole_file
from glip.jobs.journal import Journal
from glip.labelling.export import NEEDS_PICTURES, Format, check_target, write_data_set
from glip.labelling.ontology import Ontology
from glip.labelling.review import Rejected, write_report
from glip.version import __version__

if TYPE_CHECKING:
    from tqdm import tqdm

    from glip.jobs.pipeline import Tally


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
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--classes", metavar="NAMES", help='what to label, with commas: "raccoon, trash can"'
    )
    what.add_argument(
        "--ontology",
        metavar="YAML",
        help="classes with their wordings, what they are mistaken for, thresholds and sizes",
    )
    add_out_option(parser, "results, journal")
    parser.add_argument(
        "--format", default="coco", choices=get_args(Format), help="(default: %(default)s)"
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
        f"link for {' and '.join(NEEDS_PICTURES)}, else none)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a data set that is there already"
    )
    parser.add_argument(
        "--corrected",
        metavar="PATH",
        help="write labels that people corrected (Label Studio, CVAT, COCO, YOLO, VOC) instead of "
        "a model's",
    )
    parser.add_argument(
        "--label-studio-prefix",
        default=LABEL_STUDIO_PREFIX,
        metavar="URL",
        help="before the names of pictures (default: %(default)s)",
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


def run(args: argparse.Namespace) -> int:
    """Label, or take corrected labels, and write data set and report; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    ontology = _ontology(args)
    target = args.out / args.format
    check_target(target, replace=args.force)
    place = args.pictures or ("link" if args.format in NEEDS_PICTURES else "none")
    settings = {"place": place, "val_share": args.val, "prefix": args.label_studio_prefix}
    DataSet((), (), Path(), **settings)  # what is wrong is said before the work
    if args.corrected is not None:
        return _write_corrected(args, ontology, settings)
    if ontology is None:
        raise ConfigError("say what to label, with --classes NAMES or --ontology YAML")
    if args.images is None:
        raise ConfigError("say where the pictures are, with --images DIR")
    device = distributed.start() if distributed.started_by_torchrun() else args.device
    try:
        return _label(args, ontology, device, settings)
    finally:
        distributed.stop()


def _ontology(args: argparse.Namespace) -> Ontology | None:
    if args.ontology is not None:
        return Ontology.read(args.ontology, threshold=_threshold(args))
    if args.classes is not None:
        names = [" ".join(name.split()) for name in args.classes.split(",")]
        if not all(names):
            raise ConfigError(f"--classes {args.classes!r} has an empty name between commas")
        return Ontology.of_names(names, threshold=_threshold(args))
    return None


def _threshold(args: argparse.Namespace) -> float:
    """Where the ontology says nothing; corrected labels have no scores."""
    if args.threshold is not None or args.corrected is not None:
        return args.threshold or 0.0
    from glip.checkpoint import find, read_config

    return read_config(find(args.weights)).threshold


def _label(
    args: argparse.Namespace, ontology: Ontology, device: Any, settings: dict[str, Any]
) -> int:
    from glip.checkpoint import file_sha256, find
    from glip.detector import load
    from glip.labelling.label import JournalPictures, label_photos
    from glip.labelling.ray_engine import label_photos_with_ray
    from glip.labelling.video import is_video
    from glip.postprocess import PostprocessOptions

    weights = find(args.weights)
    root = Path(args.images)
    job = {
        "images": str(root.resolve()),
        "weights": file_sha256(weights),
        "glip": __version__,
        "dtype": args.dtype,
        "nms": args.nms,
        "max_detections": args.max_detections,
        "aggregate": args.aggregate,
        "ontology": ontology.to_dict(),
    }
    options = PostprocessOptions(
        nms=args.nms, max_detections=args.max_detections, aggregate=args.aggregate
    )
    with ExitStack() as opened:
        if video := is_video(root):
            job["every"] = args.every
        journal = _open_journal(args.out / "journal", job, retry=args.retry_rejected)
        opened.enter_context(journal)
        if video:
            root = _frames(root, args.out / "frames", args.every)
        before, left = _counts(root, args.out, journal)
        if left:
            with _bar(before + left, before) as bar:
                common: dict[str, Any] = {
                    "options": options,
                    "batch_size": args.batch_size,
                    "workers": args.workers,
                    "without": args.out,
                    "progress": lambda tally: _show(bar, tally, before),
                }
                if args.engine == "ray":
                    label_photos_with_ray(
                        weights,
                        root,
                        ontology,
                        journal,
                        device=args.device,
                        dtype=args.dtype,
                        actors=args.actors,
                        **common,
                    )
                else:
                    detector = load(weights, device=device, dtype=args.dtype)
                    label_photos(detector, root, ontology, journal, **common)
        if not distributed.is_main():
            return DONE
        done, rejected = journal.count("done"), journal.count("rejected")
        pictures = JournalPictures(journal, root)
        if gone := done - sum(1 for _ in pictures):
            print(f"{gone} labelled pictures are gone from {root}: left out", file=sys.stderr)
            done -= gone
        data = DataSet(
            pictures,
            ontology.names,
            root,
            parents={c.name: c.parent for c in ontology.classes if c.parent is not None},
            source=weights.name,
            **settings,
        )
        if not done:
            _write_rejected(args.out, journal)
            raise DataError(f"none of the {rejected} pictures in {root} can be used")
        return _write_all(args, data, journal, done=done, rejected=rejected)


def _open_journal(folder: Path, job: dict[str, Any], *, retry: bool) -> Journal:
    """The journal of this process; the main one's first, whose refusal holds for all."""

    def first() -> Journal:
        journal = Journal(folder, job)
        if retry:
            journal.forget("rejected")
        return journal

    journal = distributed.on_main(first)
    return journal or Journal(folder, job, rank=distributed.rank())


def _frames(video: Path, folder: Path, every: int) -> Path:
    """The folder with the frames of a video, which the main process makes."""
    from tqdm import tqdm

    from glip.labelling.video import extract_frames

    def extract() -> None:
        with tqdm(desc="frames", unit="frame", disable=None) as bar:
            extract_frames(video, folder, every=every, progress=bar.update)

    distributed.on_main(extract)
    return folder


def _counts(root: Path, out: Path, journal: Journal) -> tuple[int, int]:
    """How many pictures are done and how many are left; the same on each process."""
    from glip.images import list_pictures

    def count() -> tuple[int, int]:
        done = left = 0
        for name in list_pictures(root, without=out):
            if journal.is_done(name):
                done += 1
            else:
                left += 1
        if not done + left:
            raise DataError(f"folder {root} holds no picture")
        return done, left

    return distributed.broadcast_object(distributed.on_main(count) or (0, 0))


def _bar(total: int, before: int) -> tqdm[Any]:
    from tqdm import tqdm

    slow = 0.1 if sys.stderr.isatty() else 10.0  # seconds between lines of a log
    return tqdm(
        total=total,
        initial=before,
        unit="picture",
        mininterval=slow,
        disable=not distributed.is_main(),
    )


def _show(bar: tqdm[Any], tally: Tally, before: int) -> None:
    if tally.get("rejected"):
        bar.set_postfix(rejected=tally["rejected"], refresh=False)
    bar.update(before + sum(tally.values()) - bar.n)


def _write_all(
    args: argparse.Namespace,
    data: DataSet,
    journal: Journal | None,
    *,
    done: int,
    rejected: int,
) -> int:
    """Data set, report and list of the rejected."""
    target = write_data_set(data, args.format, args.out / args.format, replace=args.force)
    listed = _rejected(journal) if journal is not None else ()
    report = write_report(
        data.pictures,
        data.names,
        data.root,
        args.out / "report.html",
        title=f"Labels by {data.source}",
        rejected=listed,
    )
    written = [str(target), str(report)]
    if journal is not None and rejected:
        written.append(str(_write_rejected(args.out, journal)))
    _say(f"{done} pictures labelled, {rejected} rejected")
    _say(f"written: {', '.join(written)}")
    # torchrun would take the exit code for a crash of this process.
    return SOME_FAILED if rejected and not distributed.started_by_torchrun() else DONE


def _rejected(journal: Journal) -> Iterator[Rejected]:
    for name, _, reason in journal.read("rejected"):
        yield Rejected(name, reason)


def _write_rejected(out: Path, journal: Journal) -> Path:
    path = out / "rejected.txt"
    with whole_file(path) as file:
        file.writelines(f"{one.picture}\t{one.reason}\n" for one in _rejected(journal))
    return path


def _write_corrected(
    args: argparse.Namespace, ontology: Ontology | None, settings: dict[str, Any]
) -> int:
    from glip.labelling.corrected import read_corrected

    names = None if ontology is None else ontology.names
    corrected = read_corrected(args.corrected, args.images, names=names)
    pictures: Iterable[Labelled] = corrected.pictures
    if not corrected.pictures:
        raise DataError(f"{args.corrected} has no picture that anybody has looked at")
    source = f"corrections in {Path(args.corrected).name}"
    data = DataSet(pictures, corrected.names, corrected.root, source=source, **settings)
    return _write_all(args, data, None, done=len(corrected.pictures), rejected=0)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
