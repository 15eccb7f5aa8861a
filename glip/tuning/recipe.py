"""The training run that tuning is.

Knows nothing about the folder of a result.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from glip.checkpoint import find
from glip.choices import TuneMode
from glip.config import ModelConfig
from glip.data.augment import AugmentConfig
from glip.data.sampling import SamplingConfig
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
    pictures = max(1, len(inputs.drawn))
    cached = options.cache and options.mode != "full" and options.replay is None
    names = inputs.drawn.names
    known = frozenset(names)
    turned = options.mode == "prompt" and any(mirror_name(n, known) != n for n in names)
    augment = AugmentConfig(flip=0.0 if turned else 0.5)
    if cached:  # features are kept for one size, that of prediction
        augment = replace(
            augment,
            short_sides=(model.pixels.short_side,),
            long_side=model.pixels.long_side,
        )
    sources = [
        SourceConfig(
            str(output / "train.json"),
            images=str(inputs.pictures.root),
            sampling=SamplingConfig("all", shuffle=False),
        )
    ]
    if inputs.replay is not None:
        wanted = pictures * options.replay_share / (1 - options.replay_share)
        sources.append(
            SourceConfig(
                str(inputs.replay.path),
                images=options.replay_images,
                split=inputs.replay.split,
                weight=wanted / max(1, inputs.replayed),
            )
        )
        pictures = math.ceil(pictures + wanted)
    steps = options.steps
    if steps is None and options.epochs is None:
        epochs = math.ceil(EPOCHS * pictures / options.batch_size)
        steps = min(MAX_STEPS, max(MIN_STEPS, epochs))
    length = steps or math.ceil((options.epochs or 1) * pictures / options.batch_size)
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
            plateau=None
            if inputs.evaluation.annotations is None
            else PlateauConfig(patience=2, stop_patience=4),
        ),
        tune=options.mode,
        # official: a linear probe leaves dropout in the tower on; resting, it is computed once.
        freeze=FreezeConfig(
            parts=("head.stages",) if cached and options.mode == "linear_probe" else ()
        ),
        data=DataConfig(
            sources=tuple(sources),
            augment=augment,
            workers=0,
            group_by_shape=False,
            cache=cached,
        ),
        prompt=options.prompt,
        evaluation=replace(
            inputs.evaluation, every_epochs=None, every_steps=max(1, length // options.evaluations)
        ),
    )


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
