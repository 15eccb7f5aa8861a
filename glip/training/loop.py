"""Training, the whole story in one function.

Knows nothing about files: batches come in, losses go to `report`, checkpoints to `save`. Where the
official loop replaces a NaN loss by zero and steps on, this one leaves the weights, and the
statistics of batch norms, as they are and says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from glip.data.batch import Batch
from glip.distributed import any_process, mean_over_processes, world_size
from glip.errors import CheckpointError, ConfigError, GlipError
from glip.jobs.interrupt import signals_held
from glip.settings import one_of, within
from glip.training.freezing import moving_statistics, to_training
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
        for name in ("steps", "accumulate", "log_every", "save_every", "evaluate_every"):
            within(name, getattr(self, name), least=1)
        one_of("precision", self.precision, Precision)

    def reports_at(self, step: int) -> bool:
        """Whether a report is due after a step."""
        return step == self.steps or step % self.log_every == 0

    def evaluates_at(self, step: int) -> bool:
        """Whether an evaluation is due after a step."""
        every = self.evaluate_every
        return step == self.steps or (every is not None and step % every == 0)


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
    advance: Callable[[], None] | None = None,
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
        advance: Called on every process, after each step.
        report: The same, every `log_every` steps.
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
        KeyboardInterrupt: Ctrl-C or SIGTERM, as whoever handles them has it: after the step that
            is going on, with a checkpoint.
    """
    model = state.model
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    to_training(unwrapped(model), resting)
    statistics = _Kept(moving_statistics(unwrapped(model)))
    stream = iter(batches)
    state.restore_generators()
    meter, bad_steps = _Meter(state.step), 0
    with _Milestones(state, config, resting, save, evaluate) as milestones:
        milestones.catch_up()
        while state.step < config.steps and not state.stopped:
            with signals_held() as signals:
                lr = set_rates(state.optimizer, schedule, state.step, state.plateau)
                statistics.keep()
                batch, losses = _gather_gradients(state, stream, criterion, config, meter)
                with milestones.changing():
                    norm, moved = _step(state, parameters, config.clip_norm)
                    if not moved:
                        statistics.bring_back()
                bad_steps = 0 if moved else bad_steps + 1
                if bad_steps:
                    _bad_step(state.step, bad_steps, norm, losses, batch)
                state.step += 1
                if any_process(bool(signals)):
                    milestones.stop()
            if advance is not None:
                advance()
            if report is not None and config.reports_at(state.step):
                report(meter.report(state.step, lr, norm))
            with meter.paused():
                milestones.reach()
    return state


def _gather_gradients(
    state: TrainState,
    stream: Iterator[Batch],
    criterion: Criterion,
    config: LoopConfig,
    meter: _Meter,
) -> tuple[Batch, dict[str, Tensor]]:
    """The gradients of all batches of a step; the last of these with its losses."""
    for micro in range(config.accumulate):
        with meter.waiting():
            batch = _next(stream, state.step, config.steps).to(state.device)
        with gradients_stay_local(state.model, active=micro < config.accumulate - 1):
            losses = _backward(state, batch, criterion, config)
        meter.add(losses, 1 / config.accumulate)
    return batch, losses


def _backward(
    state: TrainState, batch: Batch, criterion: Criterion, config: LoopConfig
) -> dict[str, Tensor]:
    """Losses of a batch and their sum, "total", all (); their gradients join those that are there.

    A gradient that joins is divided by the number of batches of a step.
    """
    with _autocast(batch.tokens.mask.device, config.precision):
        output = state.model(batch.pixels, batch.tokens)
    losses = criterion(output, batch.targets)
    total = torch.stack(list(losses.values())).sum()
    state.scaler.scale(total / config.accumulate).backward()
    return {**losses, "total": total}


def _next(stream: Iterator[Batch], step: int, steps: int) -> Batch:
    try:
        return next(stream)
    except StopIteration:
        raise ConfigError(f"the data ended at step {step} of {steps}") from None


def _step(
    state: TrainState, parameters: Sequence[nn.Parameter], clip_norm: float | None
) -> tuple[Tensor, bool]:
    """Move the weights along their gradients, if those are numbers.

    Returns:
        () norm of the gradients before clipping, the same on every process; and whether the weights
        moved, which is read from the device here only.
    """
    state.scaler.unscale_(state.optimizer)
    norm = clip_gradients(parameters, clip_norm)
    moved = bool(torch.isfinite(norm))
    if moved:
        state.scaler.step(state.optimizer)
        if state.ema is not None:
            state.ema.update(unwrapped(state.model))
    state.scaler.update()
    state.optimizer.zero_grad()
    return norm, moved


def _bad_step(
    step: int, bad_steps: int, norm: Tensor, losses: Mapping[str, Tensor], batch: Batch
) -> None:
    """Say that a step was skipped, and give up after too many of them in a row."""
    logger.warning(
        "step %d skipped: gradients are %s, losses %s, pictures %s",
        step,
        norm.item(),
        {name: loss.item() for name, loss in losses.items()},
        batch.image_ids,
    )
    if bad_steps >= MAX_BAD_STEPS:
        raise DivergedError(
            f"gradients were no numbers for {bad_steps} steps up to {step}; lower "
            "the learning rate, or train in bfloat16 or float32"
        )


class _Kept:
    """Tensors that can go back to what they were; no GPU is waited for.

    Args:
        tensors: That others change in place.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        # One kind of number at a time, which a GPU copies in few launches.
        kinds = {tensor.dtype for tensor in tensors}
        alike = [[tensor for tensor in tensors if tensor.dtype == kind] for kind in kinds]
        self._pairs = [(own, [tensor.clone() for tensor in own]) for own in alike]

    def keep(self) -> None:
        """Take note of what they are now."""
        for own, copies in self._pairs:
            torch._foreach_copy_(copies, own)

    def bring_back(self) -> None:
        """Make them what they were when noted."""
        for own, copies in self._pairs:
            torch._foreach_copy_(own, copies)


class _Meter:
    """Means of losses and times since the last report.

    Args:
        step: Where the run stands.
    """

    def __init__(self, step: int) -> None:
        self._restart(step)

    def _restart(self, step: int) -> None:
        self._since, self._sums = step, dict[str, Tensor]()
        self._started, self._waited = time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in which data is waited for."""
        asked = time.perf_counter()
        yield
        self._waited += time.perf_counter() - asked

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that belongs to no step."""
        paused = time.perf_counter()
        yield
        self._started += time.perf_counter() - paused

    def add(self, losses: Mapping[str, Tensor], share: float) -> None:
        """The losses of a batch, which is a share of a step."""
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0) + loss.detach() * share

    def report(self, step: int, lr: float, norm: Tensor) -> StepReport:
        """Means of all that was added since the report before; a collective call."""
        steps, now = step - self._since, time.perf_counter()
        means = mean_over_processes(torch.stack(list(self._sums.values()))) / steps
        result = StepReport(
            step,
            dict(zip(self._sums, means.tolist(), strict=True)),
            lr,
            norm.item(),
            (now - self._started) / steps,
            self._waited / steps,
        )
        self._restart(step)
        return result


class _Milestones:
    """Evaluations and checkpoints: those that are due after a step, and the one of a stop.

    As a context it writes a checkpoint on the way out of an error, where one process works alone
    and the weights are whole. None after divergence, which would only diverge again.
    """

    def __init__(
        self,
        state: TrainState,
        config: LoopConfig,
        resting: Sequence[str],
        save: Callable[[TrainState], object] | None,
        evaluate: Callable[[nn.Module], Mapping[str, float]] | None,
    ) -> None:
        self._state, self._config, self._resting = state, config, resting
        self._save, self._evaluate = save, evaluate
        self._tried = state.step  # the last one that was to be saved
        self._whole = True

    def __enter__(self) -> _Milestones:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if error is None or isinstance(error, DivergedError) or not self._whole:
            return
        if world_size() == 1:
            self._save_before_leaving()

    def stop(self) -> None:
        """Save, and leave on every process; a collective call."""
        self._save_before_leaving()
        raise KeyboardInterrupt

    @contextmanager
    def changing(self) -> Iterator[None]:
        """An error meanwhile leaves weights that are neither those before nor those after."""
        self._whole = False
        yield
        self._whole = True

    def catch_up(self) -> None:
        """The evaluation of the step that a run was stopped at, if it was stopped before it."""
        step, history = self._state.step, self._state.history
        pending = step > 0 and self._config.evaluates_at(step)
        if self._evaluate is not None and pending and (not history or history[-1]["step"] != step):
            self.reach()

    def reach(self) -> None:
        """Evaluate and save what is due after the state's step; a collective call."""
        state, config = self._state, self._config
        at_end = state.step == config.steps
        best_before = state.best, state.best_step
        if self._evaluate is not None and config.evaluates_at(state.step):
            _evaluate(state, self._evaluate, config.metric)
            to_training(unwrapped(state.model), self._resting)
        is_last = at_end or state.stopped
        if self._save is None or not (
            is_last or state.step % config.save_every == 0 or state.best_step == state.step
        ):
            return
        self._tried = state.step
        try:
            self._save(state)
        except CheckpointError as error:
            if is_last:
                raise
            if state.best_step == state.step:  # these weights are not on the disk
                state.best, state.best_step = best_before
            logger.error("%s; training goes on", error)

    def _save_before_leaving(self) -> None:
        if self._save is None or self._state.step == self._tried:
            return
        self._tried = self._state.step
        try:
            self._save(self._state)
        except CheckpointError as error:
            logger.error("%s", error)


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
    state.judge_by(name)
    state.history.append({"step": state.step, **metrics})
    logger.info("step %d: %s", state.step, {key: round(v, 4) for key, v in metrics.items()})
    if metrics[name] > state.best:
        state.best, state.best_step = metrics[name], state.step
    if state.plateau is not None:
        state.stopped = state.plateau.update(metrics[name])
