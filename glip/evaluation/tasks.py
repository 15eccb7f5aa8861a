"""The evaluations of the paper by name: COCO, LVIS, Flickr30k, ODinW, and any annotated data of
yours.

Each is the general `evaluate` with the prompts, options and evaluator of its protocol (reference
H).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from glip.data.formats.flickr import read_flickr
from glip.data.formats.recognise import read_annotated
from glip.data.packed import Packed
from glip.data.pictures import pictures_for
from glip.data.records import DetectionData, Split
from glip.detector import Detector
from glip.distributed import is_main, on_main, wait_for_all
from glip.errors import ConfigError, DataError
from glip.evaluation.average_precision import Backend
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.config import EvaluationConfig, Task
from glip.evaluation.evaluate import Evaluator, Predictor, evaluate
from glip.evaluation.flickr import FlickrEvaluator
from glip.evaluation.lvis import LvisEvaluator
from glip.evaluation.odinw import evaluate_odinw
from glip.evaluation.questions import (
    Question,
    detection_only,
    detection_questions,
    flickr_questions,
    limited,
)
from glip.evaluation.results import read_results
from glip.evaluation.reworded import REWORDED, add_reworded, reworded_part
from glip.evaluation.table import results_table
from glip.postprocess import PostprocessOptions

logger = logging.getLogger(__name__)


LVIS_CHUNK = 40
"""Class names of one run over a picture, and detections it may give (reference H.2)."""
LVIS_DETECTIONS = 300


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
        return evaluate_odinw(
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
        detection = limited(detection_only(annotated.data, paths[0]), limit)
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
        on_main(lambda: add_reworded(Path(output), wordings, truth, again))
        wait_for_all()
    return read_results(output)


def evaluate_on(
    config: EvaluationConfig,
    detector: Detector,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Results of a detector by the protocol of the config, as `glip.evaluation.tasks.run_task`.

    Args:
        config: What to evaluate on.
        detector: The detector.
        folder: Of this evaluation; one that was stopped there goes on.
        settings: What tells this detector from others that may be evaluated into the same folder.
    Raises:
        DataError: The folder holds predictions of other settings.
    """
    assert config.annotations is not None
    results = run_task(
        config.task,
        detector,
        [config.annotations],
        folder,
        images=config.images,
        split=config.split,
        batch_size=config.batch_size,
        limit=config.limit,
        settings=settings,
    )
    if is_main():
        logger.info("%s\n%s", folder, results_table(results))
    return results


def numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of results; those without a value are left out."""
    return {name: value for name, value in results["metrics"].items() if value is not None}


def check_evaluation(config: EvaluationConfig) -> None:
    """Refuse, before anything is trained, what no evaluation could decide on.

    Raises:
        DataError: No box to measure on.
    """
    if config.annotations is None or config.task not in ("coco", "lvis", "custom"):
        return
    data = read_annotated(config.annotations, config.images, split=config.split).data
    if not isinstance(data, DetectionData):
        return  # the evaluation says what is wrong
    count = len(data) if config.limit is None else min(config.limit, len(data))
    if not any((~data.records[row].crowd).any() for row in range(count)):
        which = "" if config.limit is None else f" in its first {config.limit} pictures"
        raise DataError(
            f"evaluation: {config.annotations} has no box{which}, so nothing can be measured on "
            "it; name other annotations, or none (evaluation.annotations=null)"
        )
