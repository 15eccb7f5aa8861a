"""Train, fine-tune or tune as a YAML file says.

    python tools/train_net.py --config-file configs/finetune/coco.yaml --num-gpus 8 batch_size=32
    torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/finetune/coco.yaml

The flags are detectron2's. Everything behind them is `a.b=value` and goes over the file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from glip.distributed import is_main, launch, start, started_by_torchrun, stop
from glip.errors import GlipError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="YAML")
    parser.add_argument("--output", type=Path, help="folder of the run; by default runs/<config>")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate and stop")
    parser.add_argument("--num-gpus", type=int, default=1, help="of this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0")
    parser.add_argument("--dist-url", default="auto", help="tcp://host:port of the first machine")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value")
    args = parser.parse_intermixed_args()
    args.output = args.output or Path("runs") / Path(args.config_file).stem
    return args


def work(args: argparse.Namespace) -> int:
    """What each process does."""
    from glip.training.run import evaluate_only, run
    from glip.training.run_config import read_run

    device = start()
    logging.basicConfig(
        level=logging.INFO if is_main() else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        config = read_run(args.config_file, args.overrides)
        action = evaluate_only if args.eval_only else run
        with logging_redirect_tqdm():  # log lines above the progress bar, not through it
            metrics = action(config, args.output, device, resume=args.resume)
        if is_main():
            print("\n".join(f"{name:<8} {100 * value:6.1f}" for name, value in metrics.items()))
            print(f"written: {args.output}", file=sys.stderr)
        return 0
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        stop()


def main() -> int:
    """One process, or as many as are asked for."""
    args = parse()
    if started_by_torchrun() or args.num_gpus * args.num_machines == 1:
        return work(args)
    try:
        return launch(
            work,
            (args,),
            processes=args.num_gpus,
            machines=args.num_machines,
            machine_rank=args.machine_rank,
            url=args.dist_url,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
