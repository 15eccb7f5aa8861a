"""The data of a task, read and found good before anything is computed.

Knows nothing about training.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from glip.data.formats.coco import to_coco
from glip.data.formats.recognise import Part, read_annotated, train_and_val
from glip.data.pictures import Pictures
from glip.data.records import Annotated, DetectionData
from glip.errors import DataError
from glip.evaluation.config import EvaluationConfig
from glip.files import file_sha256
from glip.model_files import model_sha256
from glip.released import find
from glip.task_prompt import read_prompt
from glip.text.prompt import reads_as
from glip.training.words import check_names
from glip.tuning.few_shot import Selection, select
from glip.tuning.options import TuneOptions

logger = logging.getLogger(__name__)
OPENED_FIRST = 200
"""Pictures to learn from, if they are no more than these, are opened before anything else is done:
of a few shots each one counts."""


class Inputs(NamedTuple):
    """What a task is made of, read and found good."""

    drawn: DetectionData
    """The pictures to learn from."""
    selection: Selection
    pictures: Pictures
    evaluation: EvaluationConfig
    """Of the part that decides which weights are the best; without annotations if there is none."""
    retention: EvaluationConfig
    """Of the set that is not tuned on, likewise."""
    replay: Part | None
    replayed: int
    """Pictures of the replayed data."""
    digests: dict[str, str]
    """SHA-256 of what the result depends on, by name: a rerun is told if it has changed."""


def read_inputs(options: TuneOptions) -> Inputs:
    """Read all data of a task.

    Raises:
        DataError: Something in it makes the task impossible.
    """
    train, val = _parts(options)
    annotated = read_annotated(
        train.path, options.images, split=train.split, max_bad=options.max_bad
    )
    data = _detection(annotated, train.path)
    check_names(data.names)
    drawn, selection = select(data, options.shots, options.seed)
    digests = {"weights": model_sha256(find(options.weights)), str(train.path): _digest(data)}
    if options.prompt is not None:
        read_prompt(options.prompt)
        digests[options.prompt] = file_sha256(options.prompt)
    evaluation = retention = EvaluationConfig(task="custom", limit=options.limit)
    if val is not None:
        held_out = _detection(
            read_annotated(val.path, options.images, split=val.split, max_bad=options.max_bad),
            val.path,
        )
        _check_val(data, held_out)
        digests[str(val.path)] = _digest(held_out)
        evaluation = replace(
            evaluation,
            annotations=str(val.path),
            images=options.images,
            split=val.split,
            max_bad=options.max_bad,
            sample_pictures=4,
        )
    if options.retention is not None:
        whole, held_out_part = train_and_val(options.retention)
        part = held_out_part or whole
        kept = read_annotated(
            part.path, options.retention_images, split=part.split, max_bad=options.max_bad
        )
        if not any(len(record.boxes) for record in _detection(kept, part.path).records):
            raise DataError(f"{part.path} has no box, so no retention can be measured on it")
        retention = replace(
            retention,
            annotations=str(part.path),
            images=options.retention_images,
            split=part.split,
            max_bad=options.max_bad,
        )
    replay, replayed = None, 0
    if options.replay is not None:
        replay, _ = train_and_val(options.replay)
        replayed = len(
            read_annotated(
                replay.path, options.replay_images, split=replay.split, max_bad=options.max_bad
            ).data
        )
    return Inputs(
        drawn, selection, annotated.pictures, evaluation, retention, replay, replayed, digests
    )


def _digest(data: DetectionData) -> str:
    """Of all that a file says."""
    return hashlib.sha256(json.dumps(to_coco(data)).encode()).hexdigest()


def _parts(options: TuneOptions) -> tuple[Part, Part | None]:
    """What to train on and what to choose the best weights on."""
    train, val = train_and_val(options.data)
    if options.val is not None:
        val = Part(Path(options.val))
    if val is None:
        logger.warning(
            "%s has no part to evaluate on: the run goes to its end and nothing says which weights "
            "are the best; name one (--val)",
            options.data,
        )
    return train, val


def _detection(annotated: Annotated, path: Path) -> DetectionData:
    if not isinstance(annotated.data, DetectionData):
        raise DataError(f"{path} holds captions; tuning needs boxes with classes")
    return annotated.data


def _check_val(train: DetectionData, val: DetectionData) -> None:
    """Classes are matched by name, in any order and with any ids."""
    check_names(val.names)
    if not any(len(record.boxes) for record in val.records):
        raise DataError(f"{val.path} has no box, so nothing can be measured on it")
    known = {reads_as(name) for name in train.names}
    strange = [name for name in val.names if reads_as(name) not in known]
    if strange:
        raise DataError(
            f"{val.path} has the class {strange[0]!r}, which {train.path} does not have "
            f"({', '.join(train.names[:10])}); give both files the same classes"
        )
