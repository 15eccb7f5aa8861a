"""Rank, world size, reduce, gather: the few things said between processes.

Each does nothing, and needs no initialisation, when there is one process only. Knows nothing about
models or data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether several processes work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, the same on each; carries no gradient.

    A collective call: every process has to make it, with the same shape.
    """
    value = value.detach().clone()
    if is_distributed():
        dist.all_reduce(value)
        value /= world_size()
    return value


def gather_objects(value: T) -> list[T]:
    """What each process holds, in the order of ranks, on every process. A collective call."""
    if not is_distributed():
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: T) -> T:
    """What the main process holds, on every process. A collective call."""
    if not is_distributed():
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    result: T = box[0]
    return result


def on_main(action: Callable[[], T]) -> T | None:
    """Run something on the main process while the others wait; its result there, None elsewhere.

    A failure on the main process is raised on every process, so that none waits for ever.
    """
    result, failure = None, None
    if is_main():
        try:
            result = action()
        except Exception as error:
            if not is_distributed():
                raise
            failure = error
    failure = broadcast_object(failure)
    if failure is not None:
        raise failure
    return result


def wait_for_all() -> None:
    """Return when every process has come here."""
    if is_distributed():
        dist.barrier()
