"""Train, fine-tune or tune as a YAML file says.

    python tools/train_net.py --config-file configs/finetune/coco.yaml --num-gpus 8 batch_size=32
    torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/finetune/coco.yaml

The flags are detectron2's. Everything behind them is `a.b=value` and goes over the file.
"""

from __future__ import annotations

import argparse
import sys

from glip.cli.train import add_arguments, run
from glip.errors import GlipError


def main() -> int:
    """`glip train`, with flags and values in any order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        return run(parser.parse_intermixed_args())
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
