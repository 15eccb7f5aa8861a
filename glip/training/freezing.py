"""Which parts of a model are trained; the others keep their weights and rest in evaluation mode.

No module overrides `train()`: what rests is a list of names, and `to_training` respects it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from glip.errors import ConfigError

TuneMode = Literal["full", "linear_probe", "language"]
BatchNormMode = Literal["batch", "frozen"]

_TRAINED: dict[TuneMode, tuple[str, ...]] = {
    "full": ("",),
    # official: `head.outputs.scales`, the level scales of the deltas, is not among them.
    "linear_probe": (
        "head.outputs.deltas",
        "head.outputs.centerness",
        "head.outputs.project",
        "head.outputs.log_scale",
        "head.outputs.word_bias",
        "head.outputs.bias",
    ),
    "language": ("text",),
}
# official: a linear probe leaves dropout in the head switched on.
_RESTING: dict[TuneMode, tuple[str, ...]] = {
    "full": (),
    "linear_probe": ("backbone", "neck", "text"),
    "language": ("backbone", "neck", "head"),
}


@dataclass(frozen=True)
class FreezeConfig:
    """What moves and what rests."""

    mode: TuneMode = "full"
    """"full": everything. "linear_probe": the output layers. "language": the text encoder."""
    parts: tuple[str, ...] = ()
    """Names of modules or parameters that do not move either, such as "backbone",
    "backbone.body.layers.0" or "head.stages"."""
    batch_norm: BatchNormMode = "frozen"
    """"frozen": batch norms of the backbone keep their statistics, as pictures of a detector come
    in small batches. "batch": they follow the data. Without effect on Swin, which has none."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(TuneMode):
            raise ConfigError(
                f"freeze: mode must be one of {get_args(TuneMode)}, got {self.mode!r}"
            )
        if self.batch_norm not in get_args(BatchNormMode):
            raise ConfigError(
                f"freeze: batch_norm must be one of {get_args(BatchNormMode)}, "
                f"got {self.batch_norm!r}"
            )


def _is_part(name: str, part: str) -> bool:
    """Whether a dotted name is a part or lies in it; the empty part is everything."""
    return part == "" or name == part or name.startswith(part + ".")


def freeze(model: nn.Module, config: FreezeConfig) -> tuple[str, ...]:
    """Decide which parameters require gradients.

    Args:
        model: Not yet wrapped for several processes.
        config: See there.
    Returns:
        Names of the modules that rest while the others train, for `to_training`.
    Raises:
        ConfigError: A part that the model does not have, or nothing left to train.
    """
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    for part in config.parts:
        if part not in modules and part not in parameters:
            near = difflib.get_close_matches(part, [*modules, *parameters], n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(f"freeze: the model has no part '{part}'{hint}")
    for name, parameter in parameters.items():
        trained = any(_is_part(name, part) for part in _TRAINED[config.mode])
        parameter.requires_grad_(trained and not any(_is_part(name, part) for part in config.parts))
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"freeze: mode '{config.mode}' and parts {config.parts} leave nothing")
    resting = [part for part in (*_RESTING[config.mode], *config.parts) if part in modules]
    if config.batch_norm == "frozen":
        resting += [name for name, module in modules.items() if isinstance(module, _BatchNorm)]
    return tuple(resting)


def to_training(model: nn.Module, resting: Sequence[str] = ()) -> None:
    """Training mode for a model, evaluation mode for its resting modules (see `freeze`)."""
    model.train()
    for name in resting:
        model.get_submodule(name).eval()
