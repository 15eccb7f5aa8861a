"""The training run that tuning is.

Knows nothing about the folder of a result.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from glip.choices import TuneMode
from glip.config import ModelConfig
from glip.data.augment import AugmentConfig
from glip.data.sampling import SamplingConfig
from glip.released import find
from glip.text.mirror import mirror_name
from glip.training.freezing import FreezeConfig
from glip.training.optim import OptimizerConfig, PlateauConfig, ScheduleConfig
from glip.training.record import read_records
from glip.training.run_config import DataConfig, RunConfig, SourceConfig
from glip.tuning.inputs import Inputs
from glip.tuning.options import RATES, TuneOptions

EPOCHS = 8
MIN_STEPS, MAX_STEPS = 200, 1000
"""Without a length of its own a run takes eight epochs, but no fewer and no more steps than these:
minutes on a CPU with glip_nano."""


def run_config(options: TuneOptions, model: ModelConfig, output: Path, inputs: Inputs) -> RunConfig:
    """The run that tuning is, at the rates of its mode."""
    cached = options.cache and options.mode != "full" and options.replay is None
    replayed = _replayed(options, inputs)
    pictures = math.ceil(max(1, len(inputs.drawn)) + replayed)
    steps = _steps(options, pictures)
    length = steps or math.ceil((options.epochs or 1) * pictures / options.batch_size)
    decides = inputs.evaluation.annotations is not None
    return RunConfig(
        weights=str(find(options.weights)),
        seed=options.seed,
        batch_size=options.batch_size,
        epochs=options.epochs if steps is None else None,
        steps=steps,
        log_every=max(1, length // 50),
        save_every=max(1, length // 4),
        keep_checkpoints=1,
        schedule=ScheduleConfig(
            "constant",
            warmup_steps=0,
            plateau=PlateauConfig(patience=2, stop_patience=4) if decides else None,
        ),
        tune=options.mode,
        # official: a linear probe leaves dropout in the tower on; resting, it is computed once.
        freeze=FreezeConfig(
            parts=("head.stages",) if cached and options.mode == "linear_probe" else ()
        ),
        data=DataConfig(
            sources=_sources(options, output, inputs, replayed),
            augment=_augment(options, model, inputs, cached),
            workers=0,
            group_by_shape=False,
            cache=cached,
        ),
        prompt=options.prompt,
        evaluation=replace(
            inputs.evaluation,
            before=False,  # measured outside of the run, once for all rates
            every_epochs=None,
            every_steps=max(1, length // options.evaluations),
        ),
    )


def _replayed(options: TuneOptions, inputs: Inputs) -> float:
    """Pictures of an epoch that are not the task's."""
    if inputs.replay is None:
        return 0.0
    share = options.replay_share
    return max(1, len(inputs.drawn)) * share / (1 - share)


def _steps(options: TuneOptions, pictures: int) -> int | None:
    """Length of the run, unless epochs say it."""
    if options.steps is not None or options.epochs is not None:
        return options.steps
    epochs = math.ceil(EPOCHS * pictures / options.batch_size)
    return min(MAX_STEPS, max(MIN_STEPS, epochs))


def _sources(
    options: TuneOptions, output: Path, inputs: Inputs, replayed: float
) -> tuple[SourceConfig, ...]:
    drawn = SourceConfig(
        str(output / "train.json"),
        images=str(inputs.pictures.root),
        sampling=SamplingConfig("all", shuffle=False),
    )
    if inputs.replay is None:
        return (drawn,)
    base = SourceConfig(
        str(inputs.replay.path),
        images=options.replay_images,
        split=inputs.replay.split,
        max_bad=options.max_bad,
        weight=replayed / max(1, inputs.replayed),
    )
    return (drawn, base)


def _augment(
    options: TuneOptions, model: ModelConfig, inputs: Inputs, cached: bool
) -> AugmentConfig:
    """Flips, unless a learned prompt says left and right; sizes, unless features are kept."""
    names = inputs.drawn.names
    known = frozenset(names)
    turned = options.mode == "prompt" and any(mirror_name(n, known) != n for n in names)
    flip = 0.0 if turned else 0.5
    if not cached:
        return AugmentConfig(flip=flip)
    # Features are kept for one size, that of prediction.
    pixels = model.pixels
    return AugmentConfig(flip=flip, short_sides=(pixels.short_side,), long_side=pixels.long_side)


def best_metric(folder: Path) -> float | None:
    """The greatest AP of a run's evaluations; None if there were none."""
    values = [row.get("evaluation/AP") for row in read_records(folder)]
    return max((value for value in values if value is not None), default=None)


def at_rate(config: RunConfig, mode: TuneMode, rate: float) -> RunConfig:
    """The same run at another learning rate."""
    rates = RATES[mode].at(rate)
    return replace(
        config,
        optimizer=OptimizerConfig(
            lr=rates.lr, text_lr=rates.text_lr, weight_decay=rates.weight_decay
        ),
    )
