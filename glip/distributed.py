"""Rank, world size, reduce, gather: the few things said between processes.

Each does nothing, and needs no initialisation, when there is one process only. Knows nothing about
models or data.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, spawn

T = TypeVar("T")

STOP_SECONDS = 60.0
"""How long processes have, after Ctrl-C, to end their step and write what they have."""


def started_by_torchrun() -> bool:
    """Whether the environment says who this process and its fellows are."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def start() -> torch.device:
    """Join the processes that the environment names (torchrun's variables); alone without them.

    Returns:
        The device of this process: its own GPU, or the CPU where there is none.
    """
    has_gpu = torch.cuda.is_available()
    device = torch.device("cpu")
    if has_gpu:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if started_by_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo")
    return device


def stop() -> None:
    """Leave the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def launch(
    work: Callable[..., int],
    arguments: tuple[Any, ...],
    *,
    processes: int,
    machines: int = 1,
    machine_rank: int = 0,
    url: str = "auto",
) -> int:
    """Run a function in several new processes, which then `start`; does what torchrun does.

    Args:
        work: Of the top level of a module, as it is imported anew in each process. Returns an exit
            code.
        arguments: Of the function.
        processes: On this machine, one for each GPU.
        machines: How many machines make this call.
        machine_rank: Number of this one, from 0.
        url: Where they meet, `tcp://host:port` of the first machine; "auto" for one machine.
    Returns:
        0, or the exit code of the first process that failed; it ends the others on this machine.
    Raises:
        ValueError: "auto" with several machines, or no such url.
        KeyboardInterrupt: This process was told to stop, and all have done so in their own way.
    """
    if url == "auto":
        if machines > 1:
            raise ValueError("several machines need a --dist-url tcp://host:port of the first one")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    if not url.startswith("tcp://") or not host or not port.isdecimal():
        raise ValueError(f"{url!r} is no url of the form tcp://host:port")
    common = {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": str(processes * machines)}
    first = machine_rank * processes
    running = spawn(_launched, (work, arguments, first, common), nprocs=processes, join=False)
    try:
        while not running.join():
            continue
    except ProcessExitedException as error:
        return error.exit_code
    except KeyboardInterrupt as stop:
        _stop_all(running.processes, told=type(stop) is KeyboardInterrupt)
        raise
    return 0


def _stop_all(processes: Sequence[BaseProcess], *, told: bool) -> None:
    """Wait until they have stopped; SIGTERM reaches the one that it is sent to alone.

    Args:
        processes: Those of this machine.
        told: Whether they know it already, as a terminal sends Ctrl-C to all. It may have been sent
            by something else, so after a while they are told all the same.
    """
    patience = STOP_SECONDS if told else 0.0
    for process in processes:
        process.join(patience)
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join()


def _launched(
    local_rank: int,
    work: Callable[..., int],
    arguments: tuple[Any, ...],
    first: int,
    common: dict[str, str],
) -> None:
    os.environ.update(common, RANK=str(first + local_rank), LOCAL_RANK=str(local_rank))
    if code := work(*arguments):
        sys.exit(code)


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


def any_process(value: bool) -> bool:
    """Whether it holds on any of the processes, the same answer on each. A collective call."""
    if not is_distributed():
        return value
    flag = torch.tensor(float(value))  # on the CPU, so that no GPU is waited for
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


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
