"""`glip train` and `tools/train_net.py`: the options of a run, and the processes that work on it.

The flags are detectron2's. Without a YAML file `finetune.yaml` beside this module is the run, and
a data set is all that has to be said.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glip.cli.options import add_max_bad_option
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

FINETUNE = Path(__file__).parents[1] / "training" / "finetune.yaml"


class Order(NamedTuple):
    """What each process is told."""

    config: Path
    overrides: tuple[str, ...]
    output: Path
    resume: bool
    eval_only: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    what = parser.add_argument_group("what to train on")
    what.add_argument(
        "--data",
        metavar="PATH",
        help="pictures with boxes: an annotation file or the folder of a data set (COCO, YOLO, "
        "VOC, Roboflow, ...); of a folder with a part to evaluate on, that is done",
    )
    add_max_bad_option(what)
    what.add_argument("--images", metavar="PATH", help="folder or tar; by default beside the data")
    what.add_argument("--val", metavar="PATH", help="another data set, to evaluate on")
    what.add_argument(
        "--val-images", metavar="PATH", help="of --val; by default --images, if that is given"
    )
    what.add_argument(
        "--weights", metavar="NAME", help="file or name of what to start from (glip_nano)"
    )
    what.add_argument(
        "--config-file", metavar="YAML", help="a run of your own; by default a gentle fine-tuning"
    )
    parser.add_argument("--output", type=Path, help="folder of the run; by default runs/NAME")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate and stop")
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

    for name in ("num_gpus", "num_machines"):
        if getattr(args, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} must be at least 1, got {getattr(args, name)}")
    order = _order(args)
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


def work(order: Order) -> int:
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


def _train(order: Order, device: torch.device) -> int:
    """Until the end, or until somebody stops it."""
    from glip.distributed import is_main
    from glip.training.run import evaluate_only, run_training
    from glip.training.run_config import read_run

    if order.resume and is_main() and not (order.output / "checkpoints").exists():
        note(f"warning: {order.output} holds no run to go on with (--resume): one begins there")
    config = read_run(order.config, order.overrides)
    action = evaluate_only if order.eval_only else run_training
    metrics = action(config, order.output, device, resume=order.resume)
    if is_main():
        print("\n".join(f"{name:<8} {100 * value:6.1f}" for name, value in metrics.items()))
        written(order.output)
    return DONE


def _order(args: argparse.Namespace) -> Order:
    """The options as a YAML file and what goes over it."""
    if args.data is None and args.config_file is None:
        raise ConfigError("nothing to train on: name your data (--data), or a run (--config-file)")
    values: dict[str, Any] = {"weights": args.weights, "evaluation.annotations": args.val}
    if args.data is not None:
        from glip.data.formats.recognise import train_and_val

        train, val = train_and_val(args.data)
        values["data.sources.0.annotations"] = str(train.path)
        values["data.sources.0.images"] = args.images
        values["data.sources.0.split"] = train.split
        values["data.sources.0.max_bad"] = values["evaluation.max_bad"] = args.max_bad
        values["evaluation.images"] = args.val_images or args.images
        if args.val is None and val is not None:
            values["evaluation.annotations"] = str(val.path)
            values["evaluation.split"] = val.split
    elif args.images is not None:
        raise ConfigError("--images belongs to --data")
    elif args.val_images is not None:
        values["evaluation.images"] = args.val_images
    # JSON is YAML as well, and quotes what YAML would take for a number or a list.
    said = [f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None]
    config = Path(args.config_file or FINETUNE)
    output = args.output or Path("runs") / Path(args.config_file or args.data).stem
    return Order(config, (*said, *args.overrides), output, args.resume, args.eval_only)
