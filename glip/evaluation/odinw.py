"""ODinW (Object Detection in the Wild): many small data sets, each with its words, and their mean.

Caption prompts are those of the official code (reference N). Knows nothing about other protocols.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from glip.data.formats.folders import folders_below
from glip.data.formats.recognise import Part
from glip.data.pictures import Pictures
from glip.data.records import DetectionData
from glip.distributed import on_main
from glip.errors import DataError
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.config import TaskOptions
from glip.evaluation.doubts import read_evaluated
from glip.evaluation.evaluate import Predictor, evaluate
from glip.evaluation.questions import detection_only, detection_questions, limited
from glip.evaluation.report import write_evaluation_report
from glip.evaluation.results import read_results, write_results
from glip.progress import Progress

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
ODINW_FILES = (
    "annotations_without_background.json",
    "_annotations.coco.json",
    "val_annotations_without_background.json",
    "val.json",
    "test.json",
)
ODINW_SPLITS = ("", "valid", "val", "test")
ODINW_PARTS = ("train", *ODINW_SPLITS[1:])
"""Folders of the parts of a data set."""
_V = TypeVar("_V")


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
    if os.path.isfile(path):
        # A data set's parts lie in folders of their own, which do not name it.
        folder = place.parent.parent if place.parent.name in ODINW_PARTS else place.parent
        return [(folder.name or path.stem, path)]
    own = _annotations(path)
    if own is not None:
        return [(place.name, own)]
    if not os.path.isdir(path):
        return []
    found = folders_below(path, lambda folder: _annotations(folder) is not None)
    return [(name, file) for name, folder in found if (file := _annotations(folder)) is not None]


def evaluate_odinw(
    options: TaskOptions,
    detector: Predictor | None,
    paths: Sequence[Path],
    output: Path,
    settings: Mapping[str, Any],
    progress: Progress | None,
) -> dict[str, Any]:
    """Average precision of each data set and their mean, the ODinW score; see `run_task`."""
    metrics: dict[str, float | None] = {}
    causes: list[str] = []
    unreadable: dict[str, str] = {}
    doubts: list[str] = []
    for name, path in odinw_sets(paths).items():
        annotated, found = read_evaluated(options, Part(path))
        doubts += [f"{name}: {doubt}" for doubt in found or ()]
        detection = limited(detection_only(annotated.data, path), options.limit)
        questions = detection_questions(
            detection,
            decorations=_of_task(ODINW_DECORATIONS, name),
            wordings=_of_task(ODINW_WORDINGS, name),
        )
        evaluate(
            detector,
            questions,
            annotated.pictures,
            CocoEvaluator(detection, backend=options.backend),
            output / name,
            batch_size=options.batch_size,
            settings={**settings, "data": str(path)},
            what=name,
            progress=progress,
        )
        if options.report:
            on_main(partial(_add_report, output / name, detection, annotated.pictures))
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
        "doubts": doubts,
    }
    on_main(lambda: write_results(output, together))
    return together


def _add_report(output: Path, data: DetectionData, pictures: Pictures) -> None:
    results = read_results(output)
    write_results(output, {**results, **write_evaluation_report(output, data, pictures, results)})


def _annotations(folder: Path) -> Path | None:
    for split in ODINW_SPLITS:
        for name in ODINW_FILES:
            if os.path.isfile(folder / split / name):
                return folder / split / name
    return None


def _of_task(table: Mapping[str, Mapping[str, _V]], name: str) -> Mapping[str, _V]:
    """What a table has for a data set; folders often have a longer name than the task."""
    for task, own in table.items():
        if name.casefold().startswith(task.casefold()):
            return own
    return {}
