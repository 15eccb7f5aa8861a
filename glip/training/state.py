"""Everything that changes while training, and checkpoints of it: written whole or not at all.

A run that is resumed from a checkpoint goes on exactly as if it had never stopped: weights,
optimizer, average, loss scale, plateau, step, and all random generators of all processes are in it.
Where in the data a run stands follows from its step. Knows nothing about the data or the losses.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glip.distributed import gather_objects, on_main, rank, world_size
from glip.errors import CheckpointError
from glip.training.ema import Ema
from glip.training.optim import Plateau
from glip.training.parallel import sharded_like, unwrapped, whole

logger = logging.getLogger(__name__)

FORMAT = 1
_NAME = re.compile(r"step_(\d{8})\.pt")
_PART = ".part"  # ends the name of a file that is still being written


@dataclass
class TrainState:
    """A run at one moment."""

    model: nn.Module
    """As `glip.training.parallel.parallelise` gives it."""
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Disabled unless the run is in float16."""
    ema: Ema | None = None
    plateau: Plateau | None = None
    step: int = 0
    """Steps of the optimizer that are done."""
    best: float = -math.inf
    """Greatest metric of all evaluations."""
    best_step: int = -1
    stopped: bool = False
    """Whether the plateau has ended the run."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row for each evaluation: "step" and its metrics."""
    generators: list[dict[str, Any]] | None = None
    """Random states of all processes as loaded, until `restore_generators` has used them."""

    @property
    def device(self) -> torch.device:
        """Where it trains; not always the GPU that is the current one."""
        return next(self.model.parameters()).device

    def to_dict(self) -> dict[str, Any]:
        """Tensors on the CPU and plain values; a collective call.

        Only the main process gets the tensors, but all have to take part.
        """
        model = unwrapped(self.model)

        def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: whole(tensor, everywhere=False) for name, tensor in tensors.items()}

        return {
            "format": FORMAT,
            "step": self.step,
            "best": self.best,
            "best_step": self.best_step,
            "stopped": self.stopped,
            "history": self.history,
            "model": gathered(model.state_dict()),
            "optimizer": {
                name: gathered(self.optimizer.state.get(parameter, {}))
                for name, parameter in self._trained().items()
            },
            "ema": self.ema and gathered(self.ema.average),
            "plateau": self.plateau and self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": gather_objects(_generators(self.device)),
        }

    def load_dict(self, content: Mapping[str, Any]) -> None:
        """Go back to a moment that `to_dict` recorded, of the same model and optimizer.

        Raises:
            CheckpointError: It belongs to another model, another choice of frozen parts, or another
                version of glip.
        """
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"the checkpoint has format {content.get('format')}, this version of glip reads "
                f"{FORMAT}; update glip"
            )
        model = unwrapped(self.model)
        _copy_into(content["model"], model.state_dict(), "the model")
        if self.ema is not None:
            # An average that begins only now begins with these weights.
            average = content["model"] if content["ema"] is None else content["ema"]
            _copy_into(average, self.ema.average, "the average")
        self._load_optimizer(content["optimizer"])
        if self.plateau is not None and content["plateau"] is not None:
            self.plateau.load_state_dict(content["plateau"])
        if content["scaler"]:
            self.scaler.load_state_dict(content["scaler"])
        self.step, self.best = content["step"], content["best"]
        self.best_step, self.stopped = content["best_step"], content["stopped"]
        self.history = content["history"]
        self.generators = content["generators"]

    def _load_optimizer(self, saved: Mapping[str | int, Mapping[str, Tensor]]) -> None:
        trained = self._trained()
        # Numbers: as earlier versions of glip wrote them, in the order of the groups.
        named = [*trained] if not saved or 0 in saved else [*map(str, saved)]
        moments = dict(zip(named, saved.values(), strict=False))
        if saved and (len(saved) != len(trained) or set(moments) != set(trained)):
            raise CheckpointError(
                f"the checkpoint trains {len(saved)} tensors, this run {len(trained)}, and not the "
                "same ones; resume with the same frozen parts, or start a new run from its weights"
            )
        present = self.optimizer.state_dict()
        present["state"] = {
            index: {
                key: sharded_like(tensor, parameter) if tensor.ndim else tensor
                for key, tensor in moments[name].items()
            }
            for index, (name, parameter) in enumerate(trained.items())
            if moments.get(name)
        }
        self.optimizer.load_state_dict(present)

    def _trained(self) -> dict[str, nn.Parameter]:
        """What the optimizer moves, in its order, which follows from the rates."""
        names = {id(own): name for name, own in unwrapped(self.model).named_parameters()}
        groups = self.optimizer.param_groups
        return {names[id(own)]: own for group in groups for own in group["params"]}

    def judge_by(self, metric: str) -> None:
        """Take the best weights for what they are by a metric, if the run goes on with another."""
        rows = [row for row in self.history if row["step"] == self.best_step]
        if rows and rows[-1].get(metric, self.best) != self.best:
            self.best = rows[-1][metric]
            if self.plateau is not None:
                self.plateau.forget()

    def restore_generators(self) -> None:
        """Set the random generators of this process as they were, once after loading.

        Separate from `load_dict`, as making an iterator over the data draws a number as well.
        """
        if self.generators is None:
            return
        if len(self.generators) == world_size():
            _set_generators(self.generators[rank()], self.device)
        else:
            logger.warning(
                "resumed with %d processes instead of %d: the run goes on, but with other random "
                "numbers",
                world_size(),
                len(self.generators),
            )
        self.generators = None


@torch.no_grad()
def _copy_into(saved: Mapping[str, Tensor], present: Mapping[str, Tensor], what: str) -> None:
    if set(saved) != set(present):
        odd = sorted(set(saved) ^ set(present))
        raise CheckpointError(f"the checkpoint does not fit {what}: {', '.join(odd[:3])}")
    for name, tensor in present.items():
        if saved[name].shape != tensor.shape:
            raise CheckpointError(
                f"the checkpoint does not fit {what}: {name} is {tuple(saved[name].shape)} instead "
                f"of {tuple(tensor.shape)}"
            )
        tensor.copy_(sharded_like(saved[name], tensor))


def seed_generators(seed: int) -> None:
    """Seed all random generators of this process; each process draws its own numbers.

    To be called after the model is built, which must come out the same on all of them.
    """
    number = seed + rank()
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - what code of others draws from
    torch.manual_seed(number)


def _generators(device: torch.device) -> dict[str, Any]:
    """States of all generators of a process that trains there, as plain values and tensors."""
    legacy: Any = np.random.get_state()  # noqa: NPY002 - what code of others draws from
    name, keys, position, has_gauss, gauss = legacy
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _set_generators(state: Mapping[str, Any], device: torch.device) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, numpy_gauss = state["numpy"]
    np.random.set_state(  # noqa: NPY002 - what code of others draws from
        (name, np.array(keys, dtype=np.uint32), position, has_gauss, numpy_gauss)
    )
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


class CheckpointFolder:
    """The checkpoints of a run.

    Args:
        path: Made when first needed. With several machines all of them have to see it.
        keep: How many of the newest stay.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int = 2) -> None:
        assert keep >= 1
        self.path = Path(path)
        self.keep = keep

    def save(self, state: TrainState) -> Path:
        """Write the state under its step, then remove the oldest; a collective call.

        Raises:
            CheckpointError: The disk is full or cannot be written; older checkpoints are as before.
        """
        content = state.to_dict()
        path = self.path / f"step_{state.step:08d}.pt"

        def write() -> None:
            write_whole(path, content)
            for old in self._files()[: -self.keep]:
                old.unlink(missing_ok=True)

        on_main(write)
        return path

    def load_newest(self, state: TrainState) -> bool:
        """Bring a state to the newest checkpoint that can be read; False if there is none.

        Raises:
            CheckpointError: It belongs to another run.
        """
        for path in reversed(self._files()):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
                logger.warning("%s is damaged (%s); trying the one before", path, error)
                continue
            state.load_dict(content)
            logger.info("resumed from %s", path)
            return True
        return False

    def _files(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        if not os.path.isdir(self.path):
            return []
        return sorted(path for path in self.path.iterdir() if _NAME.fullmatch(path.name))


def write_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file so that, whatever happens meanwhile, it is there as a whole or as it was before.

    Args:
        path: Its folder is made if need be. What earlier, interrupted writes left there is removed.
        content: Tensors and plain values.
    Raises:
        CheckpointError: It cannot be written.
    """
    part = path.with_name(path.name + _PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f"*{_PART}"):
            leftover.unlink(missing_ok=True)
        with open(part, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or the new name may be lost with the power
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error}; free some space") from error
