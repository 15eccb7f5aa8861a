"""evaluate(): predict over a data set, keep what was predicted, measure it.

Predictions go to a file as they come, so a run that was stopped goes on where it was, and a
finished one can be measured again without the model. Several processes share the pictures and merge
their files; the numbers are those of one process, as they are computed from the same lines in the
same order.

Knows nothing about the truth (that is the evaluator's) or about how boxes are found.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from glip.config import PostprocessOptions
from glip.data.pictures import Pictures
from glip.data.records import DetectionData, ImageId
from glip.distributed import broadcast_object, on_main, rank, wait_for_all, world_size
from glip.errors import ImageError
from glip.evaluation.causes import likely_causes
from glip.evaluation.predictions import (
    Prediction,
    PredictionWriter,
    check_settings,
    prediction,
    read_predictions,
    read_settings,
    write_predictions,
)
from glip.evaluation.questions import Asked, Question, by_picture
from glip.evaluation.results import json_numbers, versions, write_results
from glip.images import ImageLike
from glip.jobs.batches import Pace, in_order, through_model
from glip.jobs.folder import held
from glip.pixels import Prepared
from glip.postprocess import Found, merge
from glip.progress import Counter, Progress
from glip.structures import Detections
from glip.text.prompt import Prompt

logger = logging.getLogger(__name__)

MERGED = "predictions.jsonl"
"""In the folder of an evaluation; `predictions.part*.jsonl` while it goes on."""
WRITTEN_PROMPTS = 50
"""Of data whose every caption is a prompt, results name this many; a digest stands for all."""


class Predictor(Protocol):
    """Whatever finds boxes as `glip.Detector` does."""

    @property
    def pace(self) -> Pace:
        """How many threads read pictures for it, and ask it."""

    def prepare(self, source: ImageLike, number: int = 0) -> Prepared:
        """A picture as the model takes it."""

    def detect(
        self,
        pictures: Sequence[Prepared],
        prompts: Sequence[Sequence[Prompt]],
        *,
        options: PostprocessOptions | None = None,
    ) -> list[list[Detections]]:
        """Detections of each picture for each of its prompts."""


class Evaluator(Protocol):
    """Whatever turns predictions into numbers."""

    @property
    def version(self) -> str:
        """What does the counting, for the record."""

    def update(self, prediction: Prediction) -> None:
        """Add the detections of one picture."""

    def compute(self) -> dict[str, float]:
        """The numbers; NaN where there is nothing to measure."""

    def per_class(self) -> dict[str, float]:
        """A number for each class, or the like."""


def evaluate(
    detector: Predictor | None,
    questions: Sequence[Question],
    pictures: Pictures,
    evaluator: Evaluator,
    output: str | Path,
    *,
    options: PostprocessOptions | None = None,
    per_picture: int | None = None,
    batch_size: int = 1,
    settings: Mapping[str, Any] | None = None,
    what: str = "pictures",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Predict what has not been predicted yet, measure, and write both down.

    A collective call where several processes work together (`glip.distributed`); all of them get
    the numbers.

    Args:
        detector: What predicts; None measures the predictions that are there already.
        questions: What to ask about which picture.
        pictures: Where the pictures are.
        evaluator: What measures, new and without predictions.
        output: Folder for `predictions.jsonl` and `results.json`.
        options: Of post-processing, for each prompt; by default those of the official evaluation.
        per_picture: Most detections of a picture over all its prompts; None keeps those of each.
        batch_size: Pictures that go through the model together.
        settings: What else the results depend on, such as the weights; JSON values. A run goes on
            only if they are the same.
        what: Is evaluated, in a word for `progress`.
        progress: Is told of each picture that is done.
    Returns:
        The numbers, NaN where there is nothing to measure.
    Raises:
        ConfigError: The folder holds predictions of other settings.
        DataError: `detector` is None and there are no predictions.
        StorageError: Another run is at work in the folder.
    """
    output = Path(output)
    options = options or PostprocessOptions()
    merged = output / MERGED
    if detector is None:
        described = read_settings(merged)
        now = _pictures_digest(questions)
        if described.get("pictures_sha256", now) != now:
            logger.warning(
                "%s: predicted for other pictures, or under other ids; what is measured is by id",
                merged,
            )
    else:
        limit = {} if per_picture is None else {"per_picture": per_picture}
        described = _settings(questions, options, {**(settings or {}), **limit})

        def predict(left: Sequence[Sequence[Question]]) -> Iterator[Prediction]:
            return _predict(detector, left, pictures, options, per_picture, batch_size)

        # A folder with all predictions is not written to, so measuring again works in one that is
        # read-only.
        if not broadcast_object(on_main(lambda: _is_complete(output, questions, described))):
            with held(output):
                _predict_missing(predict, questions, output, described, what, progress)
    numbers = on_main(lambda: _measure(merged, questions, evaluator, described, output))
    result = broadcast_object(numbers)
    assert result is not None
    return result


def _predict_missing(
    predict: Callable[[Sequence[Sequence[Question]]], Iterable[Prediction]],
    questions: Sequence[Question],
    output: Path,
    settings: Mapping[str, Any],
    what: str,
    progress: Progress | None,
) -> None:
    """Predict what has not been predicted yet, and put all of it into one file; collective."""
    done = broadcast_object(on_main(lambda: _done(output, settings)))
    assert done is not None
    own = [
        left
        for sharing in by_picture(questions)[rank() :: world_size()]
        if (left := [q for q in sharing if q.image_id not in done])
    ]
    if own:
        left_out = len(questions) - sum(map(len, own))
        counter = Counter(progress, what, len(questions), done=left_out)
        with PredictionWriter(output / f"predictions.part{rank()}.jsonl", settings) as writer:
            for one in predict(own):
                writer.write(one)
                counter.add()
    wait_for_all()
    on_main(lambda: _merge(output, questions, settings))


def _predict(
    detector: Predictor,
    questions: Sequence[Sequence[Question]],
    pictures: Pictures,
    options: PostprocessOptions,
    per_picture: int | None,
    batch_size: int,
) -> Iterator[Prediction]:
    """Predictions in the order of the questions, which come by picture; the backbone sees it once
    for all its prompts.
    """

    def read(item: tuple[int, Sequence[Question]]) -> Prepared:
        place, (question, *_) = item
        return detector.prepare(pictures.read(question.file_name), place)

    def ask(batch: Sequence[tuple[int, Prepared]]) -> list[list[Detections]]:
        prompts = [
            [asked.prompt for question in questions[place] for asked in question.asked]
            for place, _ in batch
        ]
        return detector.detect([picture for _, picture in batch], prompts, options=options)

    results = through_model(
        ((place, (place, sharing)) for place, sharing in enumerate(questions)),
        read,
        ask,
        size_of=lambda picture: picture.padded_hw,
        batch_size=batch_size,
        pace=detector.pace,
    )
    for place, result in in_order(results):
        sharing = questions[place]
        if isinstance(result, ImageError):
            logger.warning("image %s: %s", sharing[0].image_id, result)
            yield from (prediction(q.image_id, [], [], [], str(result)) for q in sharing)
            continue
        found = iter(cast(list[Detections], result))
        for question in sharing:
            yield _answer(question, list(islice(found, len(question.asked))), per_picture)


def _answer(question: Question, found: Sequence[Detections], per_picture: int | None) -> Prediction:
    """What was found for each prompt of a picture, under the labels of the file."""
    parts = [
        Found(
            torch.from_numpy(one.boxes),
            torch.from_numpy(one.scores),
            torch.tensor(asked.labels)[one.phrase_ids],
        )
        for asked, one in zip(question.asked, found, strict=True)
    ]
    if per_picture is None:
        together = Found(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
    else:
        together = merge(parts, per_picture)
    boxes, scores, labels = (column.numpy() for column in together)
    return prediction(question.image_id, boxes, scores, labels)


def _settings(
    questions: Sequence[Question], options: PostprocessOptions, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that predictions depend on: prompts, options, and what the caller knows."""
    digest = hashlib.sha256()
    prompts: dict[Prompt, Asked] = {}
    for question in questions:
        digest.update(f"{question.image_id}\n".encode())
        for asked in question.asked:
            prompts.setdefault(asked.prompt, asked)
    for prompt, asked in prompts.items():
        digest.update(f"{prompt.text}\n{prompt.phrases}\n{asked.labels}\n".encode())
    return {
        **settings,
        "options": asdict(options),
        "pictures": len(questions),
        "pictures_sha256": _pictures_digest(questions),
        "prompts": [
            {"text": prompt.text, "names": list(prompt.names), "labels": list(asked.labels)}
            for prompt, asked in list(prompts.items())[:WRITTEN_PROMPTS]
        ],
        "prompt_count": len(prompts),
        "questions_sha256": digest.hexdigest(),
    }


def _pictures_digest(questions: Sequence[Question]) -> str:
    """Tells pictures from others that a file, written anew, has given the same ids."""
    named = [[question.image_id, question.file_name] for question in questions]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _parts(output: Path) -> list[Path]:
    """What processes have written and nobody has put together yet."""
    return sorted(output.glob("predictions.part*.jsonl")) if os.path.isdir(output) else []


def _is_complete(output: Path, questions: Sequence[Question], settings: Mapping[str, Any]) -> bool:
    """Whether every picture has a prediction, with the same settings."""
    merged = output / MERGED
    if _parts(output) or not os.path.exists(merged):
        return False
    check_settings(merged, settings)
    done = {one.image_id for one in read_predictions(merged) if one.error is None}
    return all(question.image_id in done for question in questions)


def _done(output: Path, settings: Mapping[str, Any]) -> set[ImageId]:
    """Ids of the pictures that were predicted already, with the same settings."""
    done: set[ImageId] = set()
    for path in [output / MERGED, *_parts(output)]:
        if not os.path.exists(path):
            continue
        if path.name != MERGED and (
            not path.stat().st_size or next(read_predictions(path), None) is None
        ):
            path.unlink()  # begun, and ended by an error: it binds nobody to its settings
            continue
        check_settings(path, settings)
        done |= {one.image_id for one in read_predictions(path) if one.error is None}
    return done


def _merge(output: Path, questions: Sequence[Question], settings: Mapping[str, Any]) -> None:
    """One file in the order of the questions; the parts go when it is there."""
    parts = _parts(output)
    if not parts:
        return
    files = [path for path in (output / MERGED, *parts) if os.path.exists(path)]
    found = {one.image_id: one for path in files for one in read_predictions(path)}
    ordered = (found[q.image_id] for q in questions if q.image_id in found)
    write_predictions(ordered, output / MERGED, settings)
    for path in parts:
        path.unlink()


def _measure(
    merged: Path,
    questions: Sequence[Question],
    evaluator: Evaluator,
    settings: Mapping[str, Any],
    output: Path,
) -> dict[str, float]:
    """Numbers of a predictions file, written to `results.json`."""
    predictions = list(read_predictions(merged))
    for one in predictions:
        evaluator.update(one)
    numbers = evaluator.compute()
    missing = len({q.image_id for q in questions} - {one.image_id for one in predictions})
    if missing:
        logger.warning("%s: %d pictures have no prediction and count as empty", merged, missing)
    data = getattr(evaluator, "data", None)
    nothing = numbers.get("AP") == 0 and isinstance(data, DetectionData)
    results = {
        "metrics": json_numbers(numbers),
        "per_class": json_numbers(evaluator.per_class()),
        "settings": dict(settings),
        "evaluator": evaluator.version,
        "versions": versions(),
        "predictions": merged.name,
        "without_prediction": missing,
        "unreadable": {
            str(one.image_id): one.error for one in predictions if one.error is not None
        },
        "likely_causes": likely_causes(data, predictions) if nothing and data is not None else [],
    }
    write_results(output, results)
    return numbers
