"""`glip.label`: photos and a list of things -> data sets and a report, in one folder.

In that folder: `journal`, with all that is done so far; a folder for each format, with the data
set; `data_sets.json`, which says what each was written from; `report.html`; and `rejected.txt`, if
pictures could not be used. Knows nothing about command lines.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import os
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from glip import distributed
from glip.choices import Aggregate, DType, LabelFormat, PictureMode
from glip.config import PostprocessOptions
from glip.data.faults import MAX_BAD
from glip.data.formats.layout import LABEL_STUDIO_PREFIX, DataSet
from glip.data.labels import Labelled
from glip.detector import load
from glip.errors import ConfigError, DataError
from glip.files import read_json, whole_file, write_json
from glip.images import list_pictures, warn_of_unread
from glip.jobs.journal import Journal, check_spared
from glip.jobs.pipeline import file_mark
from glip.labelling.changes import Corrections
from glip.labelling.corrected import changed_since, read_corrected
from glip.labelling.export import NEEDS_PICTURES, check_target, write_data_set
from glip.labelling.label import JournalPictures, label_photos
from glip.labelling.next import label_next
from glip.labelling.ontology import Ontology
from glip.labelling.ray_engine import label_photos_with_ray
from glip.labelling.review import Rejected, write_report
from glip.labelling.video import extract_frames
from glip.model_files import find_model, is_zero_shot, model_sha256
from glip.progress import Progress
from glip.settings import one_of, within
from glip.version import __version__
from glip.video.reading import is_video

logger = logging.getLogger(__name__)

JOURNAL = "journal"
WRITTEN = "data_sets.json"
REJECTED = "rejected.txt"
REPORT = "report.html"
FRAMES = "frames"
NEXT = "next.txt"
"""Photos whose labels a person should look at first, one a line with the reason."""
FEW_BOXES = 0.05
"""Boxes for each picture, fewer than which are next to nothing."""


@dataclass(frozen=True)
class Labels:
    """What labelling came to."""

    out: Path
    data_sets: Mapping[LabelFormat, Path]
    """Format -> folder of the data set."""
    report: Path
    pictures: int
    """With labels, or found to show nothing."""
    rejected: int
    """That cannot be used; `rejected.txt` says why."""
    newly_rejected: int
    """Of them, in this call."""
    boxes: Mapping[str, int] = field(default_factory=dict)
    """Class -> its boxes."""
    already: bool = False
    """Whether all was done before this call."""
    next: Sequence[str] = ()
    """Pictures that a person should look at next, as `next.txt` lists them; empty if `already`."""
    corrections: Corrections | None = None
    """What people changed, if these are their labels and those of the model were found."""

    def __str__(self) -> str:
        """Counts for each class and for the pictures, and of what people changed."""
        width = max(map(len, self.boxes), default=0)
        rows = [f"{name:<{width}}  {count:>7,}" for name, count in self.boxes.items()]
        rows.append(f"{self.pictures} pictures labelled, {self.rejected} rejected")
        if (made := self.corrections) is not None:
            rows += ["", f"what people changed in {made.pictures} pictures:", str(made)]
        return "\n".join(rows)


@dataclass(frozen=True)
class Output:
    """How data sets are written."""

    formats: Sequence[LabelFormat] = ("coco",)
    val: float = 0.0
    """Share of pictures for validation, chosen by their names."""
    pictures: PictureMode | None = None
    """In the data sets; None: links where a format needs them."""
    force: bool = False
    """Replace data sets that are there."""
    prefix: str = LABEL_STUDIO_PREFIX
    """For Label Studio, before the names of pictures."""

    def __post_init__(self) -> None:
        within("the share for validation", self.val, least=0, below=1, way_out="0.2 is a fifth")
        one_of("pictures", self.pictures, PictureMode)
        for kind in self.formats:
            one_of("format", kind, LabelFormat)
        if not self.formats:
            raise ConfigError("no format to write; name one, such as coco")

    def settings(self, kind: LabelFormat) -> dict[str, Any]:
        """For a `DataSet`."""
        place = self.pictures or ("link" if kind in NEEDS_PICTURES else "none")
        return {"place": place, "val_share": self.val, "prefix": self.prefix}


@dataclass(frozen=True)
class LabelOptions:
    """Which model labels, and how."""

    weights: str | os.PathLike[str] | None = None
    """A file, or the name of a model."""
    device: Any = None
    """Where it is; by default a GPU if there is one."""
    dtype: DType = "float32"
    """In which numbers it computes."""
    nms: float = 0.6
    """Of two boxes of a phrase or group that overlap by more, the better one stays."""
    max_detections: int = 100
    """For each picture."""
    aggregate: Aggregate | None = None
    """How the scores of a phrase's tokens become one; by default as the model was trained."""
    exclusive: bool = False
    """One phrase for each thing: boxes of different phrases suppress each other, too."""
    engine: Literal["local", "ray"] = "local"
    """This process, or those of torchrun; or the machines of a Ray cluster."""
    actors: int | None = None
    """With Ray, models at work."""
    batch_size: int = 1
    """Pictures that go through the model together."""
    workers: int | None = None
    """Threads that read pictures; by default 2, and on a GPU half the cores, from 2 to 8."""
    shortlist: int | None = None
    """Most phrases that are looked for in a whole picture, see `Detector.with_shortlist`."""
    every: int = 30
    """Of a video, take each N-th frame."""
    limit: int | None = None
    """Only the first pictures by name, to look at before all are labelled."""
    retry_rejected: bool = False
    """Try pictures again that could not be used."""

    def __post_init__(self) -> None:
        within("every", self.every, least=1, whole=True)
        within("limit", self.limit, least=1, whole=True, way_out="leave it out for all pictures")
        within("shortlist", self.shortlist, least=1, whole=True)
        one_of("engine", self.engine, Literal["local", "ray"])
        if self.actors is not None and self.engine != "ray":
            raise ConfigError("actors are of the engine ray; leave them out, or say engine ray")

    def of_detections(self) -> PostprocessOptions:
        """What becomes of the model's output."""
        return PostprocessOptions(
            nms=self.nms,
            max_detections=self.max_detections,
            aggregate=self.aggregate,
            exclusive=self.exclusive,
        )

    def job(self, images: Path, weights: Path, ontology: Ontology) -> dict[str, Any]:
        """All that labels depend on; the limit is not, so that a preview counts."""
        usual = None if is_zero_shot(weights) else "mean"  # detectors of others have their own
        return {
            "images": str(images.resolve()),
            "weights": model_sha256(weights),
            "glip": __version__,
            "dtype": self.dtype,
            "nms": self.nms,
            "max_detections": self.max_detections,
            "aggregate": self.aggregate or usual,
            "exclusive": self.exclusive,
            "ontology": ontology.to_dict(),
            **({"every": self.every, "film": file_mark(images)} if is_video(images) else {}),
            **({} if self.shortlist is None else {"shortlist": self.shortlist}),
        }


def label(
    images: str | os.PathLike[str],
    ontology: Ontology,
    out: str | os.PathLike[str],
    options: LabelOptions | None = None,
    *,
    output: Output | None = None,
    progress: Progress | None = None,
) -> Labels | None:
    """Label a folder of photos, and write data sets and a report.

    Stopped at any moment, the same call goes on where it was; new or changed pictures are labelled,
    the others are not looked at again. In a job of several processes all of them call this.

    Args:
        images: Folder with the pictures, or a video.
        ontology: What to label.
        out: Folder of results.
        options: See there.
        output: How data sets are written; by default one in COCO's format.
        progress: Is told what is done.
    Returns:
        What it came to; None on other processes than the main one.
    Raises:
        GlipError: What cannot be used, with the way out; what is done stays.
    """
    output, out, root = output or Output(), Path(out), Path(images)
    options = options or LabelOptions()
    file = find_model(options.weights)
    options.of_detections()  # what is wrong is said before the work
    if not is_video(root):
        _check_folder(root, out)
    job = options.job(root, file, ontology)
    own = (REPORT, REJECTED, NEXT, WRITTEN, *([FRAMES] if is_video(root) else []))
    distributed.on_main(lambda: check_spared(out / JOURNAL, (out / name for name in own)))
    with _open_journal(out / JOURNAL, job, retry=options.retry_rejected) as journal:
        if is_video(root):
            root = _frames(root, out / FRAMES, options.every, progress)
        names = _Names(root, out, options.limit)
        distributed.on_main(lambda: warn_of_unread(names.root, without=out))
        before, left, state = _counts(names, journal)
        asked = {"limit": options.limit, "pictures": before + left, "state": state}
        if not left and (done := _already(out, output, asked, journal)):
            return done if distributed.is_main() else None
        for kind in output.formats:
            check_target(out / kind, replace=output.force)
        rejected = journal.count("rejected")
        if left:
            _ask(file, options, names, ontology, journal, before, before + left, progress)
        if not distributed.is_main():
            return None
        parents = {c.name: c.parent for c in ontology.classes if c.parent is not None}
        labelled = names.labelled(journal)
        source = _Source(labelled, ontology.names, root, file.name, parents, journal)
        labels = _write(out, output, source, asked, before_rejected=rejected)
        if options.limit is None and (gone := journal.count("done") - labels.pictures):
            logger.warning("%d labelled pictures are gone from %s: left out", gone, root)
        return labels


def _check_folder(root: Path, out: Path) -> None:
    """Refuse a folder without pictures before anything is written.

    Raises:
        ConfigError, DataError: It is missing, empty, or that of the results.
    """
    if os.path.realpath(root) == os.path.realpath(out):
        raise ConfigError(f"{out} is the folder of the pictures; name another one for the results")
    if next(list_pictures(root, without=out), None) is None:
        warn_of_unread(root, without=out)
        raise DataError(f"folder {root} holds no picture")


def _ask(
    weights: Path,
    options: LabelOptions,
    names: _Names,
    ontology: Ontology,
    journal: Journal,
    before: int,
    total: int,
    progress: Progress | None,
) -> None:
    """Label what the journal does not have yet."""
    common: dict[str, Any] = {
        "options": options.of_detections(),
        "batch_size": options.batch_size,
        "workers": options.workers,
        "shortlist": options.shortlist,
        "total": total,
        "before": before,
        "progress": progress if distributed.is_main() else None,
    }
    if options.engine == "ray":
        common |= {"device": options.device, "dtype": options.dtype, "actors": options.actors}
        label_photos_with_ray(weights, names.root, names, ontology, journal, **common)
    else:
        detector = load(weights, device=options.device, dtype=options.dtype)
        label_photos(detector, names.root, names, ontology, journal, **common)


def take_corrected(
    corrected: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    proposed: str | os.PathLike[str] | None = None,
    names: tuple[str, ...] | None = None,
    output: Output | None = None,
    max_bad: float = MAX_BAD,
) -> Labels:
    """Write labels that people corrected in place of a model's.

    Classes keep the order that they have in `out`, if something was written there before.

    Args:
        corrected: A file, folder or zip in any format that `glip.data.formats.recognise` reads.
        out: Folder of results.
        images: Folder with the pictures.
        proposed: Folder of results of `label`, to say what people changed in them; by default
            `out` or the folder that holds `corrected`, if it is one.
        names: Of the classes, in order; by default as they come.
        output: How data sets are written.
        max_bad: Share of entries that cannot be used and may be left out.
    Raises:
        ConfigError: `proposed` is no folder of `label`.
        DataError: It cannot be read, or nobody has looked at any picture.
    """
    output, out = output or Output(), Path(out)
    for kind in output.formats:
        check_target(out / kind, replace=output.force)
    journal = _journal_of_proposals(corrected, out, proposed)
    before = next((tuple(one["boxes"]) for one in _read_written(out).values()), None)
    found = read_corrected(corrected, images, names=names, order=before, max_bad=max_bad)
    if not found.pictures:
        raise DataError(f"{corrected} has no picture that anybody has looked at")
    made_by = f"corrections in {Path(corrected).name}"
    corrections = None if journal is None else changed_since(journal, found)
    source = _Source(found.pictures, found.names, found.root, made_by, corrections=corrections)
    return _write(out, output, source, {}, before_rejected=0)


def _journal_of_proposals(
    corrected: str | os.PathLike[str], out: Path, proposed: str | os.PathLike[str] | None
) -> Path | None:
    """The folder with what the model proposed; data sets lie one or two folders below its own."""
    near = (out, *Path(os.path.abspath(corrected)).parents[:2])
    folders = near if proposed is None else (Path(proposed),)
    # isdir takes any name, also those that no disk does.
    journals = (folder / JOURNAL for folder in folders if os.path.isdir(folder / JOURNAL))
    found = next((one for one in journals if any(one.glob("journal-*.sqlite"))), None)
    if found is None and proposed is not None:
        raise ConfigError(
            f"{proposed} has no journal of what a model proposed; name the folder that "
            "glip label --images wrote to"
        )
    return found


@dataclass(frozen=True)
class _Source:
    """What data sets are written from."""

    pictures: Iterable[Labelled]
    names: tuple[str, ...]
    root: Path
    made_by: str
    parents: Mapping[str, str] = field(default_factory=dict)
    journal: Journal | None = None
    """None for labels of people, of which none is rejected."""
    corrections: Corrections | None = None
    """What people changed."""

    def rejected(self) -> Iterator[Rejected]:
        """Pictures that could not be used."""
        if self.journal is not None:
            for name, _, reason in self.journal.read("rejected"):
                yield Rejected(name, reason)


class _Names:
    """Names of the pictures of a folder; may be run through any number of times."""

    def __init__(self, root: Path, out: Path, limit: int | None) -> None:
        self.root, self._out, self._limit = root, out, limit

    def __iter__(self) -> Iterator[str]:
        found = list_pictures(self.root, without=self._out)
        return found if self._limit is None else iter(heapq.nsmallest(self._limit, found))

    def mark(self, name: str) -> str:
        """The state of a picture, as `work_through` remembers it."""
        return file_mark(self.root / name)

    def labelled(self, journal: Journal) -> Iterable[Labelled]:
        """The pictures of a journal that are there, and no more than were asked for."""
        pictures = JournalPictures(journal, self.root)
        if self._limit is None:
            return pictures
        asked = set(self)
        return [picture for picture in pictures if picture.picture in asked]


def _open_journal(folder: Path, job: dict[str, Any], *, retry: bool) -> Journal:
    """The journal of this process; the main one's first, whose refusal holds for all."""

    def first() -> Journal:
        journal = Journal(folder, job)
        if retry:
            journal.forget("rejected")
        return journal

    journal = distributed.on_main(first)
    return journal or Journal(folder, job, rank=distributed.rank())


def _frames(video: Path, folder: Path, every: int, progress: Progress | None) -> Path:
    """The folder with the frames of a video, which the main process makes."""
    distributed.on_main(lambda: extract_frames(video, folder, every=every, progress=progress))
    return folder


def _counts(names: _Names, journal: Journal) -> tuple[int, int, str]:
    """How many pictures are done and how many are left, and what tells these pictures as they are
    now from any others; the same on each process.
    """

    def count() -> tuple[int, int, str]:
        done = left = state = 0
        for name in names:
            mark = names.mark(name)
            one = hashlib.blake2b(f"{name}\n{mark}".encode("utf-8", "surrogatepass"))
            state ^= int.from_bytes(one.digest()[:8], "big")  # in whatever order the disk has them
            if journal.is_done(name, mark):
                done += 1
            else:
                left += 1
        return done, left, f"{state:016x}"

    return distributed.broadcast_object(distributed.on_main(count) or (0, 0, ""))


def _already(
    out: Path, output: Output, asked: Mapping[str, Any], journal: Journal
) -> Labels | None:
    """What an earlier call came to, if it has done all that this one asks for."""
    known = _read_written(out)
    same = all(
        known.get(kind, {}).get("made_with") == {**output.settings(kind), **asked}
        and os.path.exists(out / kind)
        for kind in output.formats
    )
    if output.force or not same:
        return None
    first = known[output.formats[0]]
    return Labels(
        out,
        {kind: out / kind for kind in output.formats},
        out / REPORT,
        first["labelled"],
        journal.count("rejected"),
        0,
        first["boxes"],
        already=True,
    )


def _read_written(out: Path) -> dict[str, Any]:
    """By format, what the data sets of a folder were written with."""
    try:
        content = read_json(out / WRITTEN)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(
    out: Path, output: Output, source: _Source, asked: Mapping[str, Any], *, before_rejected: int
) -> Labels:
    """Data sets, report and list of the rejected."""
    boxes: Counts[str] = Counts(dict.fromkeys(source.names, 0))
    pictures = 0
    for picture in source.pictures:
        pictures += 1
        boxes.update(one.name for one in picture.labels)
    if rejected := sum(1 for _ in source.rejected()):
        with whole_file(out / REJECTED) as file:
            file.writelines(f"{one.picture}\t{one.reason}\n" for one in source.rejected())
    elif source.journal is not None:  # those of an earlier call can be used by now
        (out / REJECTED).unlink(missing_ok=True)
    if not pictures:
        raise DataError(f"none of the {rejected} pictures in {source.root} can be used")
    known = _read_written(out)
    data_sets: dict[LabelFormat, Path] = {}
    for kind in output.formats:
        data = DataSet(
            source.pictures,
            source.names,
            source.root,
            parents=source.parents,
            source=source.made_by,
            **output.settings(kind),
        )
        data_sets[kind] = write_data_set(data, kind, out / kind, replace=output.force)
        made_with = {**output.settings(kind), **asked}
        known[kind] = {"made_with": made_with, "labelled": pictures, "boxes": dict(boxes)}
    doubts = label_next(source.pictures)
    with whole_file(out / NEXT) as file:
        file.writelines(f"{one.picture}\t{one.name} {one.score:g}\n" for one in doubts)
    report = write_report(
        source.pictures,
        source.names,
        source.root,
        out / REPORT,
        title=f"Labels by {source.made_by}",
        rejected=source.rejected(),
        doubts=doubts,
        corrections=source.corrections,
    )
    write_json(out / WRITTEN, known)
    if source.journal is not None:
        _warn_of_little(boxes, pictures)
    return Labels(
        out,
        data_sets,
        report,
        pictures,
        rejected,
        max(0, rejected - before_rejected),
        boxes,
        next=tuple(one.picture for one in doubts),
        corrections=source.corrections,
    )


def _warn_of_little(boxes: Mapping[str, int], pictures: int) -> None:
    """Say so where nothing or next to nothing was found, and what may help."""
    way_out = (
        "lower the threshold, say it in other words (glip prompts --search measures them), or take "
        "a larger model"
    )
    if not sum(boxes.values()):
        logger.warning("nothing was found in %d pictures: %s", pictures, way_out)
        return
    if few := [name for name, count in boxes.items() if count < FEW_BOXES * pictures]:
        shown = ", ".join(f"{name} ({boxes[name]})" for name in few[:10])
        logger.warning("next to nothing was found of %s: %s", shown, way_out)
