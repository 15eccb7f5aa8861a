"""The evaluations of the paper by name: COCO, LVIS, Flickr30k, ODinW, and any annotated data of
yours.

Each is the general `evaluate` with the prompts, options and evaluator of its protocol (reference
H).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from glip.config import PostprocessOptions
from glip.data.formats.flickr import read_flickr
from glip.data.formats.recognise import Part, evaluated_part
from glip.data.matching import pictures_for
from glip.data.packed import Packed
from glip.data.pictures import Pictures
from glip.data.records import Annotated, DetectionData
from glip.detector import Detector
from glip.distributed import is_main, on_main, wait_for_all
from glip.errors import ConfigError, DataError
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.config import EvaluationConfig, TaskOptions
from glip.evaluation.doubts import read_evaluated
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
from glip.evaluation.report import write_evaluation_report
from glip.evaluation.results import read_results, write_results
from glip.evaluation.reworded import REWORDED, add_reworded, reworded_part
from glip.evaluation.table import results_table
from glip.progress import Progress

logger = logging.getLogger(__name__)

LVIS_CHUNK = 40
"""Class names of one run over a picture, and detections it may give (reference H.2)."""
LVIS_DETECTIONS = 300


class _Protocol(NamedTuple):
    """What a task asks of which pictures, and what measures the answers."""

    questions: list[Question]
    pictures: Pictures
    truth: Evaluator
    options: PostprocessOptions
    per_picture: int | None = None
    """Most detections of a picture over all its prompts."""


def run_task(
    options: TaskOptions,
    detector: Predictor | None,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    annotated: Annotated | None = None,
) -> dict[str, Any]:
    """Evaluate a detector by the protocol of a task; writes into `output` and returns what it
    wrote.

    Args:
        options: The protocol and how it is carried out.
        detector: None measures the predictions that are in `output` already.
        data: Annotation files or folders; more than one for "odinw" only, where a folder of data
            sets counts as all of them.
        output: Folder for predictions and results, made if need be; ODinW makes one below it for
            each data set.
        settings: What else the results depend on, such as the weights.
        progress: Is told of each picture that is done.
        annotated: The one data set with classes, where it has been read already.
    Raises:
        ConfigError: An option that does not fit the data.
        DataError: The data cannot be read.
        StorageError: Another run is at work in `output`.
    """
    paths, output = [Path(path) for path in data], Path(output)
    described = {"task": options.task, **(settings or {}), "limit": options.limit}
    if options.images is not None:  # of other pictures by the same names nothing is known
        described["images"] = os.fspath(options.images)
    if options.task == "odinw":
        return evaluate_odinw(options, detector, paths, output, described, progress)
    if len(paths) != 1:
        raise ConfigError(
            f"task {options.task} takes one data set, got {len(paths)}; only odinw takes more"
        )
    (path,) = paths

    def measure(protocol: _Protocol, output: Path, name: str) -> None:
        if not protocol.questions:
            raise DataError(f"{path} has no pictures to evaluate on")
        evaluate(
            detector,
            protocol.questions,
            protocol.pictures,
            protocol.truth,
            output,
            options=protocol.options,
            per_picture=protocol.per_picture,
            batch_size=options.batch_size,
            settings={**described, "data": str(path)},
            what=name,
            progress=progress,
        )

    doubts: list[str] | None = None
    if options.task == "flickr":
        protocol = _flickr(options, path)
    else:
        if annotated is None:
            annotated, doubts = read_evaluated(options, _part(options, path))
        protocol = _classes(options, path, annotated)
    measure(protocol, output, path.name)
    on_main(lambda: _add_analysis(options, protocol, output, doubts))
    wait_for_all()
    if options.wordings is not None:
        wordings, named = options.wordings, protocol.truth
        again = _in_other_words(options, protocol)
        measure(again, output / REWORDED, f"{path.name}, reworded")
        assert isinstance(named, CocoEvaluator) and isinstance(again.truth, CocoEvaluator)
        worded = again.truth
        on_main(lambda: add_reworded(output, wordings, named, worded))
        wait_for_all()
    return read_results(output)


def _part(options: TaskOptions, path: Path) -> Part:
    """What of a data set is evaluated on."""
    part = evaluated_part(path, options.split)
    if part != (path, options.split):
        logger.info(
            "%s: evaluated on the part that it holds out, %s", path, part.split or part.path
        )
    return part


def _add_analysis(
    options: TaskOptions, protocol: _Protocol, output: Path, doubts: list[str] | None
) -> None:
    """The page of an evaluation, and what is said there that programs may want."""
    results = read_results(output)
    if doubts:
        results["doubts"] = doubts
    if options.report and isinstance(protocol.truth, CocoEvaluator):
        data = protocol.truth.data
        results |= write_evaluation_report(output, data, protocol.pictures, results)
    write_results(output, results)


def _classes(options: TaskOptions, path: Path, annotated: Annotated) -> _Protocol:
    """COCO's protocol, or that of LVIS."""
    data = limited(detection_only(annotated.data, path), options.limit)
    truth: LvisEvaluator | CocoEvaluator
    chunk: int | None
    if options.task == "lvis":
        truth = LvisEvaluator(data, backend=options.backend, fixed=options.fixed_ap)
        most, chunk = options.max_detections or LVIS_DETECTIONS, options.chunk or LVIS_CHUNK
        per_picture = None  # official: LVIS has its limit for each chunk.
    else:
        truth = CocoEvaluator(data, backend=options.backend)
        most, chunk = options.max_detections or 100, options.chunk
        per_picture = None if chunk is None else most
    questions = detection_questions(data, chunk=chunk)
    kept = PostprocessOptions(max_detections=most)
    return _Protocol(questions, annotated.pictures, truth, kept, per_picture)


def _flickr(options: TaskOptions, path: Path) -> _Protocol:
    """The sentences of Flickr30k Entities, whose phrases are to be found."""
    sentences = read_flickr(path, split=options.split)
    questions = flickr_questions(sentences)[: options.limit]
    if options.limit is not None:
        asked = {question.image_id for question in questions}
        kept = [s for s in sentences.sentences if f"{s.image_id}#{s.number}" in asked]
        sentences = type(sentences)(sentences.path, Packed(kept))
    some = [question.file_name for question in questions[:10]]
    return _Protocol(
        questions,
        pictures_for(path, options.images, some),
        FlickrEvaluator(sentences),
        PostprocessOptions(max_detections=options.max_detections or 100),
    )


def _in_other_words(options: TaskOptions, protocol: _Protocol) -> _Protocol:
    """The same for the classes that have other words, asked for by those."""
    assert isinstance(protocol.truth, CocoEvaluator) and options.wordings is not None
    changed = reworded_part(protocol.truth.data, options.wordings)
    return protocol._replace(
        questions=detection_questions(changed, chunk=options.chunk, wordings=options.wordings),
        truth=CocoEvaluator(changed, backend=options.backend),
    )


def evaluate_on(
    config: EvaluationConfig,
    detector: Detector,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    annotated: Annotated | None = None,
) -> dict[str, Any]:
    """Results of a detector by the protocol of the config, as `glip.evaluation.tasks.run_task`.

    Args:
        config: What to evaluate on.
        detector: The detector.
        folder: Of this evaluation; one that was stopped there goes on.
        settings: What tells this detector from others that may be evaluated into the same folder.
        annotated: What `read_evaluation` has read of it; by default it is read here.
    Raises:
        DataError: The folder holds predictions of other settings.
    """
    assert config.annotations is not None
    results = run_task(
        _options(config),
        detector,
        [config.annotations],
        folder,
        settings=settings,
        annotated=annotated,
    )
    if is_main():
        logger.info("%s\n%s", folder, results_table(results))
    return results


def numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of results; those without a value are left out."""
    return {name: value for name, value in results["metrics"].items() if value is not None}


def read_evaluation(config: EvaluationConfig, *, examine: bool = False) -> Annotated | None:
    """The data with classes that a config evaluates on; a collective call.

    Args:
        config: What to evaluate on.
        examine: Log what the doctor doubts about it.
    Returns:
        None where there is none, or where each evaluation reads its own kind.
    Raises:
        DataError: It cannot be read, or has no box to measure on.
    """
    if config.annotations is None or config.task not in ("coco", "lvis", "custom"):
        return None
    options = replace(_options(config), examine=examine)
    annotated, _ = read_evaluated(options, _part(options, Path(config.annotations)))
    data = annotated.data
    if not isinstance(data, DetectionData):
        return annotated  # the evaluation says what is wrong
    count = len(data) if config.limit is None else min(config.limit, len(data))
    if not any((~data.records[row].crowd).any() for row in range(count)):
        which = "" if config.limit is None else f" in its first {config.limit} pictures"
        raise DataError(
            f"evaluation: {config.annotations} has no box{which}, so nothing can be measured on "
            "it; name other annotations, or none (evaluation.annotations=null)"
        )
    return annotated


def _options(config: EvaluationConfig) -> TaskOptions:
    return TaskOptions(
        config.task,
        images=config.images,
        split=config.split,
        batch_size=config.batch_size,
        limit=config.limit,
        max_bad=config.max_bad,
        examine=False,
        report=False,
    )
