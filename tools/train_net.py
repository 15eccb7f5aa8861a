"""Train, fine-tune or tune as a YAML file says; also `glip train`.

python tools/train_net.py --config-file configs/finetune/coco.yaml --num-gpus 8 batch_size=32
torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/finetune/coco.yaml

The flags are detectron2's. Everything behind them is `a.b=value` and goes over the file.
"""

import sys

from glip.cli.main import run_alone


def main() -> int:
    """`glip train` with the words of the command line; returns its exit code."""
    return run_alone("train")


if __name__ == "__main__":
    sys.exit(main())
