"""The evaluations of the paper by name: COCO, LVIS, Flickr30k, ODinW, and any annotated data of
yours.

Each is the general `evaluate` with the prompts, options and evaluator of its protocol (reference
H).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from glip.data.formats.flickr import read_flickr
from glip.data.formats.recognise import read_annotated
from glip.data.packed import Packed
from glip.data.pictures import pictures_for
from glip.data.records import DetectionData, Split
from glip.distributed import on_main, wait_for_all
from glip.errors import ConfigError, DataError
from glip.evaluation.average_precision import Backend
from glip.evaluation.coco import COCO_METRICS, CocoEvaluator
from glip.evaluation.evaluate import (
    Evaluator,
    Predictor,
    Question,
    detection_questions,
    evaluate,
    flickr_questions,
    json_numbers,
    read_results,
    write_results,
)
from glip.evaluation.flickr import FLICKR_METRICS, FlickrEvaluator
from glip.evaluation.lvis import LVIS_METRICS, LvisEvaluator
from glip.postprocess import PostprocessOptions

Task = Literal["coco", "lvis", "flickr", "odinw", "custom"]

METRICS: Mapping[Task, tuple[str, ...]] = {
    "coco": COCO_METRICS,
    "custom": COCO_METRICS,
    "lvis": LVIS_METRICS,
    "flickr": FLICKR_METRICS,
}
"""What each task measures; "odinw" has AP and, by the name of each data set, that of the set."""

REWORDED = "reworded"
"""Folder of an evaluation in other words."""

LVIS_CHUNK = 40
"""Class names of one run over a picture, and detections it may give (reference H.2)."""
LVIS_DETECTIONS = 300

ODINW_DECORATIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Aquarium": {
        "fish": (" ", ""),
        "penguin": ("", " , which is black and white"),
        "puffin": ("", " with orange beaks "),
        "stingray": ("", " which is flat and round"),
    },
    "EgoHands_generic": {"hand": (" ", " of a person")},
    "Packages_Raw": {"package": ("there is a ", " on the porch")},
    "pothole": {"holes": ("there are some ", " on the road")},
}
"""Task -> words for a class -> text before and after them: the caption prompts of ODinW (reference
N)."""
ODINW_WORDINGS: Mapping[str, Mapping[str, str]] = {"pothole": {"pothole": "holes"}}
"""Task -> class name -> what its caption prompt says instead."""

ODINW_FILES = ("_annotations.coco.json", "val.json", "test.json")
ODINW_SPLITS = ("", "valid", "val", "test")
ODINW_PARTS = ("train", *ODINW_SPLITS[1:])
"""Folders of the parts of a data set."""

_V = TypeVar("_V")


def run_task(
    task: Task,
    detector: Predictor | None,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    images: str | Path | None = None,
    split: Split | None = None,
    chunk: int | None = None,
    wordings: Mapping[str, str] | None = None,
    fixed_ap: bool = True,
    max_detections: int | None = None,
    batch_size: int = 1,
    limit: int | None = None,
    backend: Backend | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[str, int], Callable[[int], object]] | None = None,
) -> dict[str, Any]:
    """Evaluate a detector by the protocol of a task; writes into `output` and returns what it
    wrote.

    Args:
        task: Which protocol. "custom" is that of COCO for any detection data.
        detector: None measures the predictions that are in `output` already.
        data: Annotation files or folders; more than one for "odinw" only, where a folder of data
            sets counts as all of them.
        output: Folder for predictions and results, made if need be; ODinW makes one below it for
            each data set.
        images: Folder or tar of the pictures; by default beside the annotations.
        split: Of a folder with several.
        chunk: Class names asked for at a time, in prompts of their own; by default 40 for LVIS and
            all of them otherwise.
        wordings: Class name -> other words for it. The pictures whose vocabulary has such a class
            are then evaluated a second time with those words in the prompt, in the folder
            `reworded` below `output`, and both are compared on these classes. For "coco" and
            "custom".
        fixed_ap: For LVIS; off, standard AP.
        max_detections: Of a picture, or of a picture and chunk; by default 300 for LVIS, else 100.
        batch_size: Pictures that go through the model together.
        limit: Only the first pictures, for a quick look; the numbers are no results then.
        backend: Of average precision; by default the fastest that is installed.
        settings: What else the results depend on, such as the weights.
        progress: Given a name and the number of pictures, makes what is told how many more are
            done.
    Raises:
        ConfigError: An option that does not fit the task.
        DataError: The data cannot be read.
    """
    counts = {"limit": limit, "chunk": chunk, "max_detections": max_detections}
    for name, count in {**counts, "batch_size": batch_size}.items():
        if count is not None and count < 1:
            raise ConfigError(f"{name} must be at least 1, got {count}")
    if task not in get_args(Task):
        raise ConfigError(f"task {task!r} is not one of {', '.join(get_args(Task))}")
    paths = [Path(path) for path in data]
    described = {"task": task, **(settings or {}), "limit": limit}
    if task == "odinw":
        given = {"images": images, "split": split, "wordings": wordings, **counts, "limit": None}
        if extra := [name for name, value in given.items() if value is not None]:
            raise ConfigError(
                f"task odinw takes no {extra[0]}: each data set has its pictures beside it and is "
                "asked for all classes; evaluate a single one as 'custom'"
            )
        return _odinw(
            detector, paths, Path(output), batch_size, limit, backend, described, progress
        )
    if len(paths) != 1:
        raise ConfigError(
            f"task {task} takes one data set, got {len(paths)}; only odinw takes more"
        )
    if wordings is not None and task not in ("coco", "custom"):
        raise ConfigError(f"other wordings are for the tasks coco and custom, not for {task}")
    options = PostprocessOptions(
        max_detections=max_detections or (LVIS_DETECTIONS if task == "lvis" else 100)
    )
    if task == "flickr":
        sentences = read_flickr(paths[0], split=split)
        questions = flickr_questions(sentences)[:limit]
        if limit is not None:
            asked = {question.image_id for question in questions}
            kept = [s for s in sentences.sentences if f"{s.image_id}#{s.number}" in asked]
            sentences = type(sentences)(sentences.path, Packed(kept))
        some = [question.file_name for question in questions[:10]]
        pictures = pictures_for(paths[0], images, some)
        truth: FlickrEvaluator | LvisEvaluator | CocoEvaluator = FlickrEvaluator(sentences)
    else:
        annotated = read_annotated(paths[0], images, split=split)
        pictures = annotated.pictures
        detection = _limited(_detection(annotated.data, paths[0]), limit)
        if task == "lvis":
            truth = LvisEvaluator(detection, backend=backend, fixed=fixed_ap)
            chunk = chunk or LVIS_CHUNK
        else:
            truth = CocoEvaluator(detection, backend=backend)
        questions = detection_questions(detection, chunk=chunk)

    if not questions:
        raise DataError(f"{paths[0]} has no pictures to evaluate on")

    def measure(questions: Sequence[Question], truth: Evaluator, output: Path, name: str) -> None:
        evaluate(
            detector,
            questions,
            pictures,
            truth,
            output,
            options=options,
            # official: LVIS has its limit for each chunk.
            per_picture=None if task == "lvis" or chunk is None else options.max_detections,
            batch_size=batch_size,
            settings={**described, "data": str(paths[0])},
            progress=None if progress is None else progress(name, len(questions)),
        )

    measure(questions, truth, Path(output), paths[0].name)
    if wordings is not None:
        assert isinstance(truth, CocoEvaluator)
        changed = reworded_part(detection, wordings)
        again = CocoEvaluator(changed, backend=backend)
        other_words = detection_questions(changed, chunk=chunk, wordings=wordings)
        measure(other_words, again, Path(output) / REWORDED, f"{paths[0].name}, reworded")
        on_main(lambda: _add_reworded(Path(output), wordings, truth, again))
        wait_for_all()
    return read_results(output)


def reworded_part(data: DetectionData, wordings: Mapping[str, str]) -> DetectionData:
    """The pictures whose vocabulary has a class that is to be asked for in other words.

    Raises:
        ConfigError: A name that is no class of the data.
    """
    for name in wordings:
        if name not in data.names:
            near = difflib.get_close_matches(name, data.names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "leave it out"
            raise ConfigError(f"wordings: '{name}' is no class of {data.path}; {hint}")
    rows = {row for row, name in enumerate(data.names) if name in wordings}
    return replace(
        data, records=Packed(r for r in data.records if not rows.isdisjoint(data.vocabulary(r)))
    )


def _add_reworded(
    output: Path, wordings: Mapping[str, str], named: CocoEvaluator, worded: CocoEvaluator
) -> None:
    """Both numbers of the classes concerned, into the results of the first evaluation."""
    other = read_results(output / REWORDED)
    results = {
        **read_results(output),
        "reworded": {
            "wordings": dict(wordings),
            "by_name": json_numbers(named.of_classes(wordings)),
            "by_wording": json_numbers(worded.of_classes(wordings)),
            "metrics": other["metrics"],
            "results": f"{REWORDED}/results.json",
        },
    }
    write_results(output, results)


def odinw_sets(paths: Sequence[Path]) -> dict[str, Path]:
    """Name and annotations of each data set; a folder of data sets is opened.

    Raises:
        DataError: A path holds none, or two have the same name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        here = _sets_of(path)
        if not here:
            raise DataError(
                f"{path} holds no ODinW data set: no {' or '.join(ODINW_FILES)} in it, below it, "
                f"or in a folder {', '.join(filter(None, ODINW_SPLITS))} of those"
            )
        for name, file in here:
            if name in found:
                raise DataError(
                    f"{found[name]} and {file} are both of a data set named '{name}'; rename a "
                    "folder, or evaluate them one by one"
                )
            found[name] = file
    return found


def _sets_of(path: Path) -> list[tuple[str, Path]]:
    """Name and annotations of the data sets of one path: itself, or what lies in it."""
    place = Path(os.path.abspath(path))  # "." has a name then
    if path.is_file():
        # A data set's parts lie in folders of their own, which do not name it.
        folder = place.parent.parent if place.parent.name in ODINW_PARTS else place.parent
        return [(folder.name or path.stem, path)]
    own = _annotations(path)
    if own is not None:
        return [(place.name, own)]
    below = [(p.name, _annotations(p)) for p in sorted(path.glob("*")) if p.is_dir()]
    return [(name, file) for name, file in below if file is not None]


def _odinw(
    detector: Predictor | None,
    paths: Sequence[Path],
    output: Path,
    batch_size: int,
    limit: int | None,
    backend: Backend | None,
    settings: Mapping[str, Any],
    progress: Callable[[str, int], Callable[[int], object]] | None,
) -> dict[str, Any]:
    """Average precision of each data set and their mean, the ODinW score."""
    metrics: dict[str, float | None] = {}
    causes: list[str] = []
    unreadable: dict[str, str] = {}
    for name, path in odinw_sets(paths).items():
        annotated = read_annotated(path)
        detection = _limited(_detection(annotated.data, path), limit)
        questions = detection_questions(
            detection,
            decorations=_of_task(ODINW_DECORATIONS, name),
            wordings=_of_task(ODINW_WORDINGS, name),
        )
        evaluate(
            detector,
            questions,
            annotated.pictures,
            CocoEvaluator(detection, backend=backend),
            output / name,
            batch_size=batch_size,
            settings={**settings, "data": str(path)},
            progress=None if progress is None else progress(name, len(questions)),
        )
        results = read_results(output / name)
        metrics[name] = results["metrics"]["AP"]
        causes += [f"{name}: {cause}" for cause in results["likely_causes"]]
        unreadable |= {f"{name}/{key}": error for key, error in results["unreadable"].items()}
    values = [value for value in metrics.values() if value is not None]
    together = {
        "metrics": {"AP": sum(values) / len(values) if values else None, **metrics},
        "settings": dict(settings),
        "unreadable": unreadable,
        "likely_causes": causes,
    }
    on_main(lambda: write_results(output, together))
    return together


def _annotations(folder: Path) -> Path | None:
    for split in ODINW_SPLITS:
        for name in ODINW_FILES:
            if (folder / split / name).is_file():
                return folder / split / name
    return None


def _of_task(table: Mapping[str, Mapping[str, _V]], name: str) -> Mapping[str, _V]:
    """What a table has for a data set; folders often have a longer name than the task."""
    for task, own in table.items():
        if name.casefold().startswith(task.casefold()):
            return own
    return {}


def _detection(data: object, path: Path) -> DetectionData:
    if not isinstance(data, DetectionData):
        raise ConfigError(f"{path} holds captions; average precision needs boxes with classes")
    return data


def _limited(data: DetectionData, limit: int | None) -> DetectionData:
    """The first pictures of a data set."""
    if limit is None:
        return data
    return replace(data, records=Packed(data.records[row] for row in range(min(limit, len(data)))))
