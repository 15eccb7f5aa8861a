"""A run from its configuration to weights, logs and a report: where config meets constructors.

The folder of a run holds

    config.yaml                 all values of the run
    checkpoints/                to resume from
    metrics.jsonl, tensorboard/ losses, rates and evaluations
    evaluation/step_.../        predictions and results of each evaluation
    model_best.safetensors      weights of the best evaluation
    model_final.safetensors     weights of the end
                                (tune: prompt writes model_*.prompt.safetensors instead)
    report.html                 what was gained, curves, AP of each class, sample pictures
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glip.checkpoint import fingerprint
from glip.detector import Detector
from glip.distributed import broadcast_object, on_main
from glip.errors import CheckpointError, ConfigError, NotFiniteError, listed
from glip.evaluation.tasks import evaluate_on, numbers, read_evaluation
from glip.files import whole_file
from glip.jobs.folder import held
from glip.model_files import model_sha256
from glip.progress import Progress
from glip.released import find
from glip.settings import differences, parse_yaml, read_yaml, to_yaml
from glip.training.build import (
    materials,
    new_state,
    plain_detector,
    starting_point,
    steps_between_evaluations,
    steps_of,
)
from glip.training.feed import Feed
from glip.training.loop import DivergedError, LoopConfig, train
from glip.training.optim import Schedule
from glip.training.outcome import (
    FOLDER_OF_STEP,
    LearnedFrom,
    save_outcome,
    weights_suffix,
    write_run_report,
)
from glip.training.parallel import unwrapped
from glip.training.record import Recorder
from glip.training.run_config import RunConfig
from glip.training.state import CheckpointFolder, TrainState

logger = logging.getLogger(__name__)


def run_training(
    config: RunConfig,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train as configured; a collective call where several processes work together.

    Args:
        config: The run.
        output: Its folder, made if need be; all processes have to see it.
        device: Of this process.
        resume: Go on from the newest checkpoint in the folder, if there is one.
        progress: Is told of the steps, in the place of a bar on stderr.
    Returns:
        Metrics of the last evaluation, empty without one.
    Raises:
        GlipError: Data, weights or options that do not fit, a folder that already holds a run or is
            in use, too many pictures that cannot be read, or training that diverged.
    """
    output = Path(output)
    with held(output):
        on_main(lambda: _check_folder(output, resume))
        run = _Run(config, output, device, resume, progress)
        on_main(lambda: _write_config(output, config, resume))
        with run.recorder:
            run.train()
        on_main(
            lambda: write_run_report(output, config, run.state, run.learned_from, run.evaluated)
        )
    return run.metrics


class _Run:
    """A run that is ready to go, and what its loop calls on the way.

    Args:
        config: The run.
        output: Its folder.
        device: Of this process.
        resume: Whether to go on from the newest checkpoint.
        progress: See `run_training`.
    """

    def __init__(
        self,
        config: RunConfig,
        output: Path,
        device: torch.device,
        resume: bool,
        progress: Progress | None,
    ) -> None:
        self.config, self.output, self.device = config, output, device
        self.evaluated = read_evaluation(config.evaluation, examine=True)
        self.detector, sources = materials(config, device)
        self.learned_from = LearnedFrom(
            sum(map(len, sources)), self.detector.config.name, self.detector.lowest_threshold
        )
        self.feed = Feed(config, sources, self.detector, device)
        self.state, self.resting = new_state(config, self.detector, device)
        self.encode_image = self.feed.encode_image()
        self.steps = steps_of(config, self.feed.epoch)
        self.checkpoints = CheckpointFolder(output / "checkpoints", config.keep_checkpoints)
        if resume:
            self.checkpoints.load_newest(self.state)
            _check_words(output, self.detector, unwrapped(self.state.model))
            _check_length(output, self.steps, self.state.step)
            on_main(lambda: _drop_later_evaluations(output, self.state.step))
        self.recorder = Recorder(
            output,
            self.steps,
            start=self.state.step,
            pictures=config.batch_size,
            progress=progress,
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Of the last evaluation, empty without one."""
        latest = self.state.history[-1] if self.state.history else {}
        return {name: value for name, value in latest.items() if name != "step"}

    def train(self) -> None:
        """From where the run stands to its end."""
        config = self.config
        if self._is_measured_before():
            model = unwrapped(self.state.model)
            model.eval()
            self.evaluate(model)
        train(
            self.state,
            self.feed.batches(self.steps, self.state.step, self.resting),
            config.losses,
            Schedule(config.schedule, self.steps),
            LoopConfig(
                self.steps,
                accumulate=self.feed.accumulate,
                precision=config.precision,
                clip_norm=config.optimizer.clip_norm,
                log_every=min(config.log_every, self.steps),
                save_every=config.save_every,
                evaluate_every=steps_between_evaluations(config.evaluation, self.feed.epoch),
                metric=config.evaluation.metric,
            ),
            resting=self.resting,
            advance=self.recorder.advance,
            report=self.recorder.step,
            save=self.save,
            evaluate=None if config.evaluation.annotations is None else self.evaluate,
        )

    def _is_measured_before(self) -> bool:
        """Whether the weights that the run starts from are to be evaluated now."""
        config = self.config.evaluation
        wanted = config.annotations is not None and config.before
        results = self.output / "evaluation" / FOLDER_OF_STEP.format(0) / "results.json"
        return (
            wanted
            and self.config.weights is not None
            and self.state.step == 0
            and not broadcast_object(on_main(results.exists))
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the present weights; a collective call."""
        step = self.state.step
        seen = plain_detector(model, self.detector, self.device, self.encode_image)
        folder = self.output / "evaluation" / FOLDER_OF_STEP.format(step)
        try:
            metrics = numbers(
                evaluate_on(self.config.evaluation, seen, folder, annotated=self.evaluated)
            )
        except NotFiniteError as error:
            raise DivergedError(
                f"after {step} steps the model gives NaN or infinity; lower the learning rate"
            ) from error
        self.recorder.evaluation(step, metrics)
        return metrics

    def save(self, state: TrainState) -> None:
        """Write a checkpoint, and weights that are the best or the last; a collective call."""
        suffix = weights_suffix(self.config.tune)
        # The weights first: a run that is killed in between does this step again.
        if state.best_step == state.step:
            save_outcome(self.output / f"model_best{suffix}", state, self.detector, self.config)
        if state.stopped or state.step == self.steps:
            save_outcome(self.output / f"model_final{suffix}", state, self.detector, self.config)
        self.checkpoints.save(state)


def evaluate_only(
    config: RunConfig,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Evaluate the weights that a run starts from or, with `resume`, those it has come to.

    Raises:
        GlipError: Nothing to evaluate on, or weights or data that do not fit.
    """
    output = Path(output)
    if config.evaluation.annotations is None:
        raise ConfigError("evaluation.annotations is not set: there is nothing to evaluate on")
    name, weights = "start", None
    if resume:
        suffix = weights_suffix(config.tune)
        files = [output / f"model_final{suffix}", output / f"model_best{suffix}"]
        weights = next((file for file in files if os.path.exists(file)), None)
        if weights is None:
            raise CheckpointError(f"{output} holds no weights yet; evaluate without --resume")
        if config.tune != "prompt":
            config = replace(config, weights=str(weights))
        # Later weights of the same name are evaluated anew.
        name = f"{weights.stem}_{int(weights.stat().st_mtime)}"
    detector = starting_point(config, device)
    if weights is not None and config.tune == "prompt":
        detector = detector.with_prompt(weights)
    of: dict[str, Any] = {"model": config.model, "seed": config.seed}
    if config.weights is not None:
        of = {"weights_sha256": model_sha256(find(config.weights))}
    return numbers(evaluate_on(config.evaluation, detector, output / "evaluation" / name, of))


def _drop_later_evaluations(output: Path, step: int) -> None:
    """Those of a run that died after its last checkpoint: its steps come again, perhaps changed."""
    for folder in (output / "evaluation").glob("step_*"):
        if folder.name > FOLDER_OF_STEP.format(step):  # as numbers, having as many digits
            shutil.rmtree(folder)


def _check_folder(output: Path, resume: bool) -> None:
    """Whether a run may begin, or go on, in a folder."""
    if not resume and os.path.exists(output / "checkpoints"):
        raise ConfigError(
            f"{output} already holds a run; go on with it (--resume), or choose another folder"
        )


def _check_words(output: Path, detector: Detector, model: nn.Module) -> None:
    """Whether words go on being learned for what they were begun for: it is not in their file.

    Args:
        output: Folder of the run.
        detector: That the run would begin with; checked only if it has a learned prompt.
        model: As the checkpoint left it.
    """
    if detector.task is None:
        return
    state = model.state_dict()
    if fingerprint(state) != detector.fingerprint:
        raise CheckpointError(
            f"{output} learns words for other weights than these; go on with those that it was "
            "begun with, or learn in another folder"
        )
    if tuple(state["text.ids"].tolist()) != detector.task.token_ids:
        raise CheckpointError(
            f"{output} learns the words of other classes than {listed(detector.task.names, 5)}; "
            "go on with those that it was begun with, or learn in another folder"
        )


def _check_length(output: Path, steps: int, done: int) -> None:
    """Whether a run that is to go on has come no further than it is to go."""
    if done > steps:
        raise ConfigError(
            f"{output} has {done} steps done, and the run is to have {steps}: go on with steps="
            f"{done} or more (or epochs that come to as many), or train {steps} steps in another "
            "folder"
        )


def _write_config(output: Path, config: RunConfig, resume: bool) -> None:
    """Write down the values of the run; what other values it had before is said."""
    file = output / "config.yaml"
    if resume and os.path.exists(file):
        changed = differences(read_yaml(file), parse_yaml(to_yaml(config), "this run"))
        if changed:
            logger.warning("going on with other values: %s", "; ".join(changed))
    with whole_file(file) as writing:
        writing.write(to_yaml(config))
