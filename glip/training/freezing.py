"""Which parts of a model are trained; the others keep their weights and rest in evaluation mode.

No module overrides `train()`: what rests is a list of names, and `to_training` respects it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from glip.choices import TuneMode
from glip.errors import ConfigError
from glip.settings import nearest, one_of
from glip.training.lora import is_product

BatchNormMode = Literal["batch", "frozen"]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

_TRAINED: dict[TuneMode, tuple[str, ...]] = {
    "full": ("",),
    "head": ("head",),
    # official: `head.outputs.scales`, the level scales of the deltas, is not among them.
    "linear_probe": (
        "head.outputs.deltas",
        "head.outputs.centerness",
        "head.outputs.project",
        "head.outputs.log_scale",
        "head.outputs.word_bias",
        "head.outputs.bias",
    ),
    "prompt": ("text.offsets",),
    "language": ("text",),
    "lora": ("",),  # of everything, the products
}
# official: a linear probe leaves dropout in the head switched on.
_RESTING: dict[TuneMode, tuple[str, ...]] = {
    "full": (),
    "head": ("backbone", "neck", "text"),
    "linear_probe": ("backbone", "neck", "text"),
    "prompt": ("",),
    "language": ("backbone", "neck", "head"),
    "lora": ("backbone", "neck"),
}


@dataclass(frozen=True)
class FreezeConfig:
    """What rests beside that which the way of tuning leaves alone."""

    parts: tuple[str, ...] = ()
    """Names of modules or parameters that do not move, such as "backbone",
    "backbone.body.layers.0" or "head.stages"."""
    batch_norm: BatchNormMode = "frozen"
    """"frozen": batch norms of the backbone keep their statistics, as pictures of a detector come
    in small batches. "batch": they follow the data. Without effect on Swin, which has none."""

    def __post_init__(self) -> None:
        one_of("freeze: batch_norm", self.batch_norm, BatchNormMode)


def _is_in(name: str, parts: Sequence[str]) -> bool:
    """Whether a dotted name is one of some parts or lies in one; the empty part is everything."""
    return any(part == "" or name == part or name.startswith(part + ".") for part in parts)


def freeze(model: nn.Module, config: FreezeConfig, tune: TuneMode = "full") -> tuple[str, ...]:
    """Decide which parameters require gradients.

    Args:
        model: Not yet wrapped for several processes.
        config: See there.
        tune: See there.
    Returns:
        Names of the modules that rest while the others train, for `to_training`.
    Raises:
        ConfigError: A part that the model does not have, or nothing left to train.
    """
    one_of("tune", tune, TuneMode)
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    _check_parts(config.parts, [*modules, *parameters])
    for name, parameter in parameters.items():
        trained = is_product(name) if tune == "lora" else _is_in(name, _TRAINED[tune])
        parameter.requires_grad_(trained and not _is_in(name, config.parts))
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"tune '{tune}' and freeze.parts {config.parts} leave nothing")
    resting = [part for part in (*_RESTING[tune], *config.parts) if part in modules]
    if config.batch_norm == "frozen":
        resting += [name for name, module in modules.items() if isinstance(module, BATCH_NORMS)]
    return tuple(resting)


def _check_parts(parts: Sequence[str], known: Sequence[str]) -> None:
    for part in parts:
        if part not in known:
            way_out = nearest(part, known, else_="print(model) shows its parts")
            raise ConfigError(f"freeze: the model has no part '{part}'; {way_out}")


def to_training(model: nn.Module, resting: Sequence[str] = ()) -> None:
    """Training mode for a model, evaluation mode for its resting modules (see `freeze`)."""
    model.train()
    for name in resting:
        model.get_submodule(name).eval()


def moving_statistics(model: nn.Module) -> list[Tensor]:
    """What forward passes in training mode change: the statistics of batch norms that do not rest.

    Args:
        model: As `to_training` left it.
    Returns:
        Mean, variance and count of each such batch norm, none of them a copy.
    """
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.training]
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]


@contextmanager
def statistics_stay(model: nn.Module) -> Iterator[None]:
    """Inside, forward passes compute what they do in training mode, and move no statistics.

    For a pass that is made again: it has moved them already.
    """
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, count) in zip(norms, kept, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
