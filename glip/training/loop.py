"""Training, the whole story in one function.

Knows nothing about files: batches come in, losses go to `report`, checkpoints to `save`. Where the
official loop replaces a NaN loss by zero and steps on, this one leaves the weights as they are and
says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from glip.data.batch import Batch
from glip.distributed import mean_over_processes
from glip.errors import CheckpointError, ConfigError, GlipError
from glip.training.freezing import to_training
from glip.training.losses import Criterion
from glip.training.optim import Schedule, clip_gradients, set_rates
from glip.training.parallel import gradients_stay_local, unwrapped
from glip.training.state import TrainState

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "float16"]
MAX_BAD_STEPS = 50  # one after the other; float16 needs some twenty to find its first loss scale


class DivergedError(GlipError, ArithmeticError):
    """Losses or gradients that stay infinite or NaN."""


@dataclass(frozen=True)
class LoopConfig:
    """How long to train and what to do on the way. Steps are those of the optimizer."""

    steps: int
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    precision: Precision = "float32"
    """Of the arithmetic; weights, losses and output layers are float32 in any case."""
    clip_norm: float | None = 1.0
    """See `OptimizerConfig`."""
    log_every: int = 20
    save_every: int = 2500
    evaluate_every: int | None = None
    """None: only at the end."""
    metric: str | None = None
    """Of the evaluation; it decides which weights are the best. None: the first one."""

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise ConfigError(f"evaluate_every must be at least 1, got {self.evaluate_every}")
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"precision must be one of {get_args(Precision)}, got {self.precision!r}"
            )


class StepReport(NamedTuple):
    """What happened since the report before, as means over its steps and all processes."""

    step: int
    losses: dict[str, float]
    """By name, and their sum as "total"."""
    lr: float
    """Largest rate of the last step."""
    gradient_norm: float
    """Before clipping, of the last step."""
    seconds: float
    """Of one step."""
    data_seconds: float
    """The part of it that was spent waiting for data."""


def train(
    state: TrainState,
    batches: Iterable[Batch],
    criterion: Criterion,
    schedule: Schedule,
    config: LoopConfig,
    *,
    resting: Sequence[str] = (),
    report: Callable[[StepReport], None] | None = None,
    save: Callable[[TrainState], object] | None = None,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> TrainState:
    """Train from the state's step to the last one.

    Args:
        state: Where the run stands; changed in place.
        batches: In their order, from the state's step on: `accumulate` of them for each step.
        criterion: The losses.
        schedule: The rates.
        config: See there.
        resting: Modules that stay in evaluation mode, from `glip.training.freezing.freeze`.
        report: Called on every process, every `log_every` steps.
        save: Called on every process, every `save_every` steps and at the end; `state.best_step`
            equals `state.step` if these weights are the best so far. It may raise CheckpointError:
            the run then goes on with the checkpoints it has, but for the last one.
        evaluate: Called on every process with the model in evaluation mode and with the averaged
            weights, if there is an average. The same numbers have to come out everywhere.
    Returns:
        The state.
    Raises:
        DivergedError: Gradients are no numbers for many steps.
        ConfigError: The batches end too soon.
    """
    model = state.model
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    device = parameters[0].device
    to_training(unwrapped(model), resting)
    stream = iter(batches)
    state.restore_generators()
    bad_steps, since = 0, state.step
    sums: dict[str, Tensor] = {}
    started, waited = time.perf_counter(), 0.0

    while state.step < config.steps and not state.stopped:
        lr = set_rates(state.optimizer, schedule, state.step, state.plateau)
        for micro in range(config.accumulate):
            asked = time.perf_counter()
            try:
                batch = next(stream).to(device)
            except StopIteration:
                raise ConfigError(
                    f"the data ended at step {state.step} of {config.steps}"
                ) from None
            waited += time.perf_counter() - asked

            with gradients_stay_local(model, active=micro < config.accumulate - 1):
                with _autocast(device, config.precision):
                    output = model(batch.pixels, batch.tokens)
                losses = criterion(output, batch.targets, batch.token_maps, batch.tokens.mask)
                total = torch.stack(list(losses.values())).sum()
                state.scaler.scale(total / config.accumulate).backward()
            for name, loss in {**losses, "total": total}.items():
                sums[name] = sums.get(name, 0) + loss.detach() / config.accumulate

        state.scaler.unscale_(state.optimizer)
        norm = clip_gradients(parameters, config.clip_norm)
        if torch.isfinite(norm):  # the same on every process
            state.scaler.step(state.optimizer)
            if state.ema is not None:
                state.ema.update(unwrapped(model))
            bad_steps = 0
        else:
            bad_steps += 1
            logger.warning(
                "step %d skipped: gradients are %s, losses %s, pictures %s",
                state.step,
                norm.item(),
                {name: loss.item() for name, loss in losses.items()},
                batch.image_ids,
            )
            if bad_steps >= MAX_BAD_STEPS:
                raise DivergedError(
                    f"gradients were no numbers for {bad_steps} steps up to {state.step}; lower "
                    "the learning rate, or train in bfloat16 or float32"
                )
        state.scaler.update()
        state.optimizer.zero_grad()
        state.step += 1

        at_end = state.step == config.steps
        if report is not None and (at_end or state.step % config.log_every == 0):
            steps, now = state.step - since, time.perf_counter()
            means = mean_over_processes(torch.stack(list(sums.values()))) / steps
            report(
                StepReport(
                    state.step,
                    dict(zip(sums, means.tolist(), strict=True)),
                    lr,
                    norm.item(),
                    (now - started) / steps,
                    waited / steps,
                )
            )
            since, sums, started, waited = state.step, {}, time.perf_counter(), 0.0

        due = at_end or (
            config.evaluate_every is not None and state.step % config.evaluate_every == 0
        )
        best_before = state.best, state.best_step
        if evaluate is not None and due:
            _evaluate(state, evaluate, config.metric)
            to_training(unwrapped(model), resting)
            started = time.perf_counter()

        is_last = at_end or state.stopped
        if save is not None and (
            is_last or state.step % config.save_every == 0 or state.best_step == state.step
        ):
            try:
                save(state)
            except CheckpointError as error:
                if is_last:
                    raise
                if state.best_step == state.step:  # these weights are not on the disk
                    state.best, state.best_step = best_before
                logger.error("%s; training goes on", error)
            started = time.perf_counter()
    return state


def _autocast(device: torch.device, precision: Precision) -> torch.autocast | nullcontext[None]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def _evaluate(
    state: TrainState,
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    metric: str | None,
) -> None:
    """Evaluate, take note of the result, and let the plateau decide."""
    model = unwrapped(state.model)
    model.eval()
    with state.ema.applied(model) if state.ema is not None else nullcontext():
        metrics = dict(evaluate(model))
    name = metric if metric is not None else next(iter(metrics), "AP")
    if name not in metrics:
        has = ", ".join(metrics) or "none, as there was nothing to find"
        raise ConfigError(f"the evaluation has no metric '{name}'; it has {has}")
    state.history.append({"step": state.step, **metrics})
    logger.info("step %d: %s", state.step, {key: round(v, 4) for key, v in metrics.items()})
    if metrics[name] > state.best:
        state.best, state.best_step = metrics[name], state.step
    if state.plateau is not None:
        state.stopped = state.plateau.update(metrics[name])
