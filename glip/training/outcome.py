"""What a run leaves: weights, a report, pictures with their truth.

Knows nothing about training.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from torch import Tensor

from glip.checkpoint import Weights
from glip.checkpoint import save as save_weights
from glip.choices import TuneMode
from glip.data.records import Annotated, DetectionData
from glip.data.sampling import class_prompt
from glip.detector import Detector
from glip.distributed import on_main
from glip.evaluation.predictions import read_predictions
from glip.evaluation.results import read_results
from glip.report.page import per_cent
from glip.report.run import SamplePicture, write_report
from glip.settings import to_yaml
from glip.structures import Detections
from glip.task_prompt import SUFFIX, save_prompt
from glip.training.build import tokenizer_json
from glip.training.lora import merged
from glip.training.parallel import unwrapped, whole
from glip.training.record import read_records
from glip.training.run_config import RunConfig
from glip.training.state import TrainState
from glip.visualize import draw

logger = logging.getLogger(__name__)
FOLDER_OF_STEP = "step_{:08d}"


def weights_suffix(tune: TuneMode) -> str:
    """How the files end that a run leaves: weights, or a learned prompt."""
    return SUFFIX if tune == "prompt" else ".safetensors"


def save_outcome(path: Path, state: TrainState, detector: Detector, config: RunConfig) -> None:
    """What is evaluated, as a file that `glip.load` or `with_prompt` reads; a collective call."""
    tensors: Mapping[str, Tensor] = unwrapped(state.model).state_dict()
    if state.ema is not None:
        tensors = state.ema.average
    gathered = {name: whole(tensor, everywhere=False) for name, tensor in tensors.items()}

    def write() -> None:
        if config.tune == "prompt":
            assert detector.task is not None
            notes = {"tune": "prompt", "step": state.step, "seed": config.seed}
            task = detector.task.learned(gathered["text.offsets"].float().numpy())
            save_prompt(path, replace(task, notes=notes))
            return
        plain = merged(gathered, config.lora) if config.tune == "lora" else gathered
        save_weights(path, Weights(detector.config, plain, tokenizer_json(detector.tokenizer)))

    on_main(write)


class LearnedFrom(NamedTuple):
    """What a run has learned from, and how its model is used."""

    pictures: int
    """Pictures and captions that are drawn from."""
    model: str
    """Name of the model."""
    threshold: float
    """Detections that `predict` shows score above this."""


def write_run_report(
    output: Path,
    config: RunConfig,
    state: TrainState,
    learned_from: LearnedFrom,
    evaluated: Annotated | None,
) -> None:
    """Write `report.html`: what was gained, curves, AP of each class, pictures of the last
    evaluation; and say the first of these.

    Args:
        output: Folder of the run.
        config: The run.
        state: At its end.
        learned_from: See there.
        evaluated: What it was evaluated on, if that has classes.
    """
    metrics: dict[str, float | None] = {}
    per_class: dict[str, float | None] = {}
    pictures: list[SamplePicture] = []
    if state.history:
        folder = output / "evaluation" / FOLDER_OF_STEP.format(int(state.history[-1]["step"]))
        results = read_results(folder)
        metrics, per_class = results["metrics"], results.get("per_class", {})
        most = config.evaluation.sample_pictures
        pictures = sample_pictures(evaluated, folder, learned_from.threshold, most)
    summary = _summary(output, config, state, learned_from)
    logger.info("%s", "; ".join(f"{name}: {value}" for name, value in summary.items()))
    write_report(
        output / "report.html",
        read_records(output),
        title=f"Run {output.resolve().name}",
        summary=summary,
        metrics=metrics,
        per_class=per_class,
        pictures=pictures,
        settings=to_yaml(config),
    )
    logger.info("report: %s", output / "report.html")


def _summary(
    output: Path, config: RunConfig, state: TrainState, learned_from: LearnedFrom
) -> dict[str, str]:
    """What was gained from what, as short texts by their names."""
    words = {
        "learned from": f"{learned_from.pictures:,} pictures or captions",
        "started from": Path(config.weights).name if config.weights else "random weights",
        "model": learned_from.model,
        "trained": f"{config.tune}, {state.step:,} steps of {config.batch_size}",
    }
    if state.stopped:
        words["ended"] = "as the evaluations no longer rose"
    start = output / "evaluation" / FOLDER_OF_STEP.format(0)
    before = read_results(start)["metrics"] if os.path.exists(start / "results.json") else {}
    last = state.history[-1] if state.history else {}
    for name in list(last)[1:3]:  # the first metrics of the protocol, behind "step"
        words[name] = f"{per_cent(before.get(name))} before, {per_cent(last[name])} after"
    if state.best_step >= 0:
        name = config.evaluation.metric or next(iter(list(last)[1:]), "")
        words["best"] = f"{name} {per_cent(state.best)} at step {state.best_step:,}"
    if before and last.get("AP", 0.0) < (before.get("AP") or 0.0):
        words["advice"] = "the weights it started from are better on these pictures: keep them"
    return words


def sample_pictures(
    annotated: Annotated | None, folder: Path, threshold: float, most: int
) -> list[SamplePicture]:
    """The first pictures of detection data with boxes, each with its truth and its detections.

    Args:
        annotated: What was evaluated on.
        folder: Of the evaluation.
        threshold: Detections score above this, as those that `predict` shows.
        most: How many pictures.
    """
    if annotated is None:
        return []
    data = cast(DetectionData, annotated.data)
    prompt = class_prompt(data.names)
    rows = {category: row for row, category in enumerate(data.category_ids)}
    found = {one.image_id: one for one in read_predictions(folder / "predictions.jsonl")}
    pictures: list[SamplePicture] = []
    for record in data.records:
        if len(pictures) >= most:
            break
        one = found.get(record.image_id)
        if one is None or one.error is not None or not len(record.boxes):
            continue
        image = annotated.pictures.read(record.file_name)
        truth = Detections(
            np.asarray(record.boxes, np.float32),
            np.ones(len(record.boxes), np.float32),
            np.asarray(record.labels, np.int64),
            prompt,
            record.image_hw,
        )
        labels = np.array([rows[int(label)] for label in one.labels], np.int64)
        detected = Detections(
            np.asarray(one.boxes, np.float32),
            np.asarray(one.scores, np.float32),
            labels,
            prompt,
            record.image_hw,
        )
        pictures.append(
            SamplePicture(
                record.file_name,
                draw(image, truth, scores=False),
                draw(image, detected[detected.scores > threshold]),
            )
        )
    return pictures
