"""AdamW and its rates: which tensor learns how fast, and how that changes over a run.

Parameters fall into groups by their names (reference: the released training recipe). Schedules are
functions of the step, so a resumed run needs no memory of them; only `Plateau` has a state.
Knows nothing about models beyond parameter names.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glip.errors import ConfigError
from glip.settings import one_of, within
from glip.training.parallel import is_sharded

ScheduleKind = Literal["multistep", "cosine", "constant"]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (arXiv 1711.05101); the defaults are the released recipe of GLIP-T."""

    lr: float = 1e-4
    """Learning rate per step of everything without a rate of its own."""
    text_lr: float = 1e-5
    """Of the text encoder. official: the text layers inside the head use `lr`."""
    backbone_factor: float = 1.0
    """Times `lr`, for the image encoder without its pyramid."""
    bias_factor: float = 2.0
    """Times the rate of their part, for all tensors with "bias" in their name."""
    weight_decay: float = 1e-4
    """official: of norms and embeddings too, but of no tensor with "bias" in its name."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    """Gradients are scaled down to this L2 norm over all trained parameters; null leaves them."""

    def __post_init__(self) -> None:
        for name in ("lr", "text_lr", "backbone_factor", "bias_factor", "weight_decay", "eps"):
            within(f"optimizer: {name}", getattr(self, name), least=0)
        for beta in self.betas:
            within("optimizer: betas", beta, least=0, below=1)
        within("optimizer: clip_norm", self.clip_norm, above=0)


@dataclass(frozen=True)
class PlateauConfig:
    """Slow down, and in the end stop, when the metric of the evaluations no longer rises."""

    patience: int = 3
    """Evaluations below the best that are borne before the rates shrink."""
    factor: float = 0.1
    min_lr: float = 1e-6
    """No rate falls below this."""
    stop_patience: int = 8
    """Evaluations below the best, one after the other, that end the run."""

    def __post_init__(self) -> None:
        within("plateau: patience", self.patience, least=0)
        within("plateau: stop_patience", self.stop_patience, least=1)
        within("plateau: factor", self.factor, above=0, below=1)


@dataclass(frozen=True)
class ScheduleConfig:
    """How rates change over a run; all positions are fractions of it or steps of the optimizer."""

    kind: ScheduleKind = "multistep"
    warmup_steps: int = 2000
    """Rates rise linearly over these."""
    warmup_factor: float = 0.001
    """Of the first step."""
    milestones: tuple[float, ...] = (0.67, 0.89)
    """"multistep": where in the run, from 0 to 1, rates are multiplied by `gamma`."""
    gamma: float = 0.1
    final_factor: float = 0.0
    """"cosine": what is left of the rates at the end."""
    weight_decay_gamma: float = 1.0
    """"multistep": weight decay is multiplied by this at two thirds of each milestone. official:
    0.1 for GLIP-L."""
    plateau: PlateauConfig | None = None
    """On top of the above."""

    def __post_init__(self) -> None:
        one_of("schedule: kind", self.kind, ScheduleKind)
        within("schedule: warmup_steps", self.warmup_steps, least=0)
        for name in ("warmup_factor", "gamma", "final_factor", "weight_decay_gamma"):
            within(f"schedule: {name}", getattr(self, name), least=0)
        for milestone in self.milestones:
            within("schedule: milestones", milestone, least=0, most=1)
        if list(self.milestones) != sorted(self.milestones):
            raise ConfigError(f"schedule: milestones {self.milestones} must rise")


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Groups of equal rate and decay for an optimizer, of the parameters that require gradients.

    Args:
        parameters: Of the model, with names (`model.named_parameters()`).
        config: The rates.
    Returns:
        Each with "params", "lr" and "weight_decay", and the last two again as "base_lr" and
        "base_weight_decay", from which `set_rates` starts.
    Raises:
        ConfigError: Nothing is left to train.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault(_rate_and_decay(name, config), []).append(parameter)
    if not groups:
        raise ConfigError("no parameter is left to train: everything is frozen")
    return [
        {
            "params": members,
            "lr": lr,
            "weight_decay": decay,
            "base_lr": lr,
            "base_weight_decay": decay,
        }
        for (lr, decay), members in groups.items()
    ]


def _rate_and_decay(name: str, config: OptimizerConfig) -> tuple[float, float]:
    lr = config.lr
    if name.startswith("text."):
        lr = config.text_lr
    elif name.startswith("backbone."):
        lr = config.lr * config.backbone_factor
    # official: a matter of the name, so tables of relative positions count as biases as well.
    if "bias" in name:
        return lr * config.bias_factor, 0.0
    return lr, config.weight_decay


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`."""
    groups = parameter_groups(parameters, config)
    members = [parameter for group in groups for parameter in group["params"]]
    # All weights in a few launches; on a CPU the usual way is as fast.
    fused = all(one.device.type == "cuda" and not is_sharded(one) for one in members) or None
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=fused)


class Schedule:
    """Factors of rates and weight decay at each step of a run.

    Args:
        config: See there.
        steps: Of the optimizer, in the whole run.
    """

    def __init__(self, config: ScheduleConfig, steps: int) -> None:
        self.config = config
        self.steps = steps
        self._milestones = [round(share * steps) for share in config.milestones]

    def lr_factor(self, step: int) -> float:
        """What rates are multiplied by at a step, which is the number of steps done before it."""
        config = self.config
        factor = 1.0
        if step < config.warmup_steps:
            done = step / config.warmup_steps
            factor = config.warmup_factor * (1 - done) + done
        if config.kind == "multistep":
            return factor * config.gamma ** bisect_right(self._milestones, step)
        if config.kind == "cosine":
            # The cosine spans what is left after the warm-up, and starts where that ends.
            span = max(1, self.steps - config.warmup_steps)
            done = min(1.0, max(0, step - config.warmup_steps) / span)
            cosine = (1 + math.cos(math.pi * done)) / 2
            return factor * (config.final_factor + (1 - config.final_factor) * cosine)
        return factor

    def decay_factor(self, step: int) -> float:
        """What weight decay is multiplied by at a step."""
        if self.config.kind != "multistep":
            return 1.0
        places = [0.667 * milestone for milestone in self._milestones]  # official
        return self.config.weight_decay_gamma ** bisect_right(places, step)


class Plateau:
    """Watches the metric of a run. Equal to the best counts as better (official).

    Args:
        config: See there.
    """

    def __init__(self, config: PlateauConfig) -> None:
        self.config = config
        self.factor = 1.0
        self.forget()

    def forget(self) -> None:
        """Begin to watch anew; rates stay as they are."""
        self._best = -math.inf
        self._below = 0  # evaluations since the best
        self._borne = 0  # the same since the last cut

    def update(self, metric: float) -> bool:
        """Take note of an evaluation; True if the run should stop."""
        if metric >= self._best:
            self._best, self._below, self._borne = metric, 0, 0
            return False
        self._below += 1
        self._borne += 1
        if self._borne > self.config.patience:
            self.factor *= self.config.factor
            self._borne = 0
        return self._below >= self.config.stop_patience

    def state_dict(self) -> dict[str, float]:
        """Its memory, as plain numbers."""
        return {
            "factor": self.factor,
            "best": self._best,
            "below": self._below,
            "borne": self._borne,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """The memory of an earlier one."""
        self.factor, self._best = state["factor"], state["best"]
        self._below, self._borne = int(state["below"]), int(state["borne"])


def set_rates(
    optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, plateau: Plateau | None = None
) -> float:
    """Give each group its rate and weight decay for a step; the largest rate, for logs."""
    factor, decay = schedule.lr_factor(step), schedule.decay_factor(step)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
        if plateau is not None:
            smallest = min(group["lr"], plateau.config.min_lr)
            group["lr"] = max(group["lr"] * plateau.factor, smallest)
        group["weight_decay"] = group["base_weight_decay"] * decay
    return max(float(group["lr"]) for group in optimizer.param_groups)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale gradients down to an L2 norm over all of them.

    Args:
        parameters: Those without a gradient are passed over; they may be sharded.
        limit: The norm; None leaves the gradients as they are.
    Returns:
        () float32, the norm before, the same on every process.
    """
    members = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.clip_grad_norm_(members, math.inf if limit is None else limit)
    return norm.full_tensor() if is_sharded(norm) else norm
