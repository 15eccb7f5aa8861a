"""A run from its configuration to weights, logs and a report: where config meets constructors.

The folder of a run holds

    config.yaml                 all values of the run
    checkpoints/                to resume from
    metrics.jsonl, tensorboard/ losses, rates and evaluations
    evaluation/step_.../        predictions and results of each evaluation
    model_best.safetensors      weights of the best evaluation
    model_final.safetensors     weights of the end
                                (tune: prompt writes model_*.prompt.safetensors instead)
    report.html                 curves, AP of each class, sample pictures
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from glip.checkpoint import file_sha256, find
from glip.data.batch import Batch
from glip.data.loader import TrainingSet, training_loader
from glip.data.mixture import MixtureSampler
from glip.distributed import on_main, rank, world_size
from glip.errors import CheckpointError, ConfigError, NotFiniteError
from glip.evaluation.tasks import check_evaluation, evaluate_on, numbers
from glip.files import whole_file
from glip.settings import differences, to_yaml
from glip.training.build import (
    examine_sources,
    plain_detector,
    starting_point,
    steps_between_evaluations,
    steps_of,
    training_source,
    with_learned_part,
)
from glip.training.ema import Ema
from glip.training.features import (
    CachedBatches,
    CachedPyramids,
    FeatureCache,
    FromFeatures,
)
from glip.training.freezing import freeze
from glip.training.loop import DivergedError, LoopConfig, train
from glip.training.optim import Plateau, Schedule, build_optimizer
from glip.training.outcome import FOLDER_OF_STEP, save_outcome, weights_suffix, write_run_report
from glip.training.parallel import (
    checkpoint_activations,
    parallelise,
    synchronise_batch_norm,
    unwrapped,
)
from glip.training.record import Recorder
from glip.training.run_config import RunConfig
from glip.training.state import CheckpointFolder, TrainState, seed_generators

logger = logging.getLogger(__name__)


def run_training(
    config: RunConfig,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train as configured; a collective call where several processes work together.

    Args:
        config: The run.
        output: Its folder, made if need be; all processes have to see it.
        device: Of this process.
        resume: Go on from the newest checkpoint in the folder, if there is one.
    Returns:
        Metrics of the last evaluation, empty without one.
    Raises:
        GlipError: Data, weights or options that do not fit, a folder that already holds a run, or
            training that diverged.
    """
    output = Path(output)
    checkpoints = CheckpointFolder(output / "checkpoints", config.keep_checkpoints)
    _prepare_folder(output, config, resume)

    detector = starting_point(config, device)
    if not config.data.sources:
        raise ConfigError("data.sources is empty; name at least one data set to train on")
    on_main(lambda: examine_sources(config.data.sources, detector))
    sources = [training_source(source, detector) for source in config.data.sources]
    detector = with_learned_part(detector, config, sources)
    model = detector.model
    resting = freeze(model, config.freeze, config.tune)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if config.freeze.batch_norm == "batch":
        model = synchronise_batch_norm(model)
    wrapped = parallelise(FromFeatures(model) if config.data.cache else model, config.strategy)
    plateau = config.schedule.plateau
    state = TrainState(
        wrapped,
        build_optimizer(unwrapped(wrapped).named_parameters(), config.optimizer),
        torch.amp.GradScaler(device.type, enabled=config.precision == "float16"),
        ema=None if config.ema is None else Ema(unwrapped(wrapped), config.ema),
        plateau=None if plateau is None else Plateau(plateau),
    )
    seed_generators(config.seed)
    if resume:
        checkpoints.load_newest(state)
        on_main(lambda: _drop_later_evaluations(output, state.step))
    on_main(lambda: check_evaluation(config.evaluation))

    per_process, rest = divmod(config.batch_size, world_size() * config.accumulate)
    if rest or not per_process:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be divided among {world_size()} processes and "
            f"{config.accumulate} batches of each"
        )
    accumulate = config.accumulate
    if config.data.cache and config.strategy == "fsdp" and world_size() > 1:
        raise ConfigError(
            "data.cache runs parts of the model by themselves, which strategy: fsdp has divided; "
            "use strategy: ddp, or data.cache=false"
        )
    if config.data.cache:  # pictures one by one, see `glip.training.features`
        per_process, accumulate = 1, per_process * accumulate

    def sampler(steps: int, start: int) -> MixtureSampler:
        grouped = config.data.group_by_shape and per_process > 1
        shapes = [source.is_tall() for source in sources] if grouped else None
        return MixtureSampler(
            [len(source) for source in sources],
            batch_size=per_process,
            steps=steps * accumulate,
            seed=config.seed,
            weights=[source.weight for source in config.data.sources],
            repeats=[source.repeats() for source in sources],
            start=start * accumulate,
            rank=rank(),
            world_size=world_size(),
            is_tall=shapes,
        )

    epoch = sampler(0, 0).steps_per_epoch / accumulate  # steps of the optimizer
    steps = steps_of(config, epoch)
    training_set = TrainingSet(
        sources,
        detector.tokenizer,
        detector.config.pixels,
        config.data.augment,
        max_tokens=detector.config.text.max_tokens,
        passes=None if detector.task is None else detector.task.passes,
    )
    loader: Iterable[Batch]
    encode_image: CachedPyramids | None = None
    if config.data.cache:
        cache = FeatureCache(config.data.cache_gib)
        loader = CachedBatches(
            training_set, sampler(steps, state.step), model, resting, cache, device
        )
        encode_image = CachedPyramids(model, cache)
    else:
        loader = training_loader(
            training_set,
            sampler(steps, state.step),
            workers=config.data.workers,
            pin_memory=device.type == "cuda",
        )
    loop = LoopConfig(
        steps,
        accumulate=accumulate,
        precision=config.precision,
        clip_norm=config.optimizer.clip_norm,
        log_every=min(config.log_every, steps),
        save_every=config.save_every,
        evaluate_every=steps_between_evaluations(config.evaluation, epoch),
        metric=config.evaluation.metric,
    )
    latest: dict[str, float] = dict(state.history[-1]) if state.history else {}
    recorder = Recorder(output, steps, start=state.step, pictures=config.batch_size)

    suffix = weights_suffix(config.tune)

    def evaluate(now: nn.Module) -> Mapping[str, float]:
        seen = plain_detector(now, detector, device, encode_image)
        folder = output / "evaluation" / FOLDER_OF_STEP.format(state.step)
        try:
            metrics = numbers(evaluate_on(config.evaluation, seen, folder))
        except NotFiniteError as error:
            raise DivergedError(
                f"after {state.step} steps the model gives NaN or infinity; lower the learning rate"
            ) from error
        recorder.evaluation(state.step, metrics)
        latest.clear()
        latest.update(metrics)
        return metrics

    def save(now: TrainState) -> None:
        # The weights first: a run that is killed in between does this step again.
        if now.best_step == now.step:
            save_outcome(output / f"model_best{suffix}", now, detector, config)
        if now.stopped or now.step == steps:
            save_outcome(output / f"model_final{suffix}", now, detector, config)
        checkpoints.save(now)

    with recorder:
        train(
            state,
            loader,
            config.losses,
            Schedule(config.schedule, steps),
            loop,
            resting=resting,
            report=recorder.step,
            save=save,
            evaluate=evaluate if config.evaluation.annotations is not None else None,
        )
    on_main(lambda: write_run_report(output, config, state))
    latest.pop("step", None)
    return latest


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
        weights = next((file for file in files if file.exists()), None)
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
        of = {"weights_sha256": file_sha256(find(config.weights))}
    return numbers(evaluate_on(config.evaluation, detector, output / "evaluation" / name, of))


def _drop_later_evaluations(output: Path, step: int) -> None:
    """Those of a run that died after its last checkpoint: its steps come again, perhaps changed."""
    for folder in (output / "evaluation").glob("step_*"):
        if folder.name > FOLDER_OF_STEP.format(step):  # as numbers, having as many digits
            shutil.rmtree(folder)


def _prepare_folder(output: Path, config: RunConfig, resume: bool) -> None:
    def prepare() -> None:
        if not resume and (output / "checkpoints").exists():
            raise ConfigError(
                f"{output} already holds a run; go on with it (--resume), or choose another folder"
            )
        file = output / "config.yaml"
        if resume and file.exists():
            before = yaml.safe_load(file.read_text(encoding="utf-8"))
            changed = differences(before, yaml.safe_load(to_yaml(config)))
            if changed:
                logger.warning("going on with other values: %s", "; ".join(changed))
        with whole_file(file) as writing:
            writing.write(to_yaml(config))

    on_main(prepare)
