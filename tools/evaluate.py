"""Weights and a data set -> a table, results.json and predictions that can be measured again.

python tools/evaluate.py --weights glip_tiny.safetensors --task coco \
    --data annotations/instances_val2017.json --images val2017 --output evaluation/coco
torchrun --nproc-per-node 8 tools/evaluate.py --task lvis --data lvis_v1_minival.json --images coco

An interrupted run goes on where it was; --rescore measures the predictions without a model.
"""

import argparse
import os
import sys

import torch
import torch.distributed as dist

from glip.cli.evaluate import add_arguments, run
from glip.errors import GlipError


def main() -> int:
    """Start the other processes' part if there are any, and evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # torchrun
        dist.init_process_group("gloo")  # ids and numbers only, no tensors of the model
        if args.device is None and torch.cuda.is_available():
            args.device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        return run(args)
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
