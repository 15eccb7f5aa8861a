"""`glip train` and `tools/train_net.py`: the options of a run, and the processes that work on it.

The flags are detectron2's.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from glip import api
from glip.cli.signatures import add_options_of, options_of
from glip.cli.terminal import (
    DONE,
    FAILED,
    exit_code,
    note,
    show_log,
    stopped_by_sigterm,
    stopping,
    written,
)
from glip.errors import ConfigError, GlipError

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    what = parser.add_argument_group("what to train on")
    first = ("data", "max_bad", "images", "val", "val_images", "weights", "config_file")
    add_options_of(what, api.train, *first, val={"metavar": "PATH"})
    add_options_of(parser, api.train, "output", "resume", "eval_only")
    many = parser.add_argument_group("several GPUs")
    many.add_argument("--num-gpus", type=int, default=1, help="of this machine")
    many.add_argument("--num-machines", type=int, default=1)
    many.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0")
    many.add_argument("--dist-url", default="auto", help="tcp://host:port of the first machine")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="a.b=value",
        help="values that go over the file, such as steps=500 optimizer.lr=2e-4",
    )


def run(args: argparse.Namespace) -> int:
    """Train or evaluate in one process, or in as many as are asked for; returns the exit code.

    Raises:
        GlipError: What one process finds wrong. Several of them say so themselves.
    """
    from glip.distributed import launch, started_by_torchrun
    from glip.settings import within

    for name in ("num_gpus", "num_machines"):
        within(f"--{name.replace('_', '-')}", getattr(args, name), least=1)
    order = api.order_of(**options_of(args, api.order_of))
    if started_by_torchrun() or args.num_gpus * args.num_machines == 1:
        return work(order)
    try:
        return launch(
            work,
            (order,),
            processes=args.num_gpus,
            machines=args.num_machines,
            machine_rank=args.machine_rank,
            url=args.dist_url,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def work(order: api.Order) -> int:
    """What each process does; of the top level, as new processes import it."""
    from glip.distributed import is_main, start, stop

    device = start()
    show_log(quiet=not is_main(), times=is_main())
    try:
        with stopped_by_sigterm():
            return _train(order, device)
    except GlipError as error:
        note(f"error: {error}")
        return FAILED
    except KeyboardInterrupt as signal:
        if is_main():
            note(f"{stopping(signal)}: --resume goes on with {order.output}")
        return exit_code(signal)
    finally:
        stop()


def _train(order: api.Order, device: torch.device) -> int:
    """Until the end, or until somebody stops it."""
    from glip.distributed import is_main

    if order.resume and is_main() and not os.path.exists(order.output / "checkpoints"):
        note(f"warning: {order.output} holds no run to go on with (--resume): one begins there")
    metrics = api.run_order(order, device)
    if is_main():
        print(metrics)
        written(order.output)
    return DONE
