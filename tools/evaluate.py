"""Weights and a data set -> a table, results.json and predictions that can be measured again.

python tools/evaluate.py --weights glip_tiny.safetensors --task coco \
    --data annotations/instances_val2017.json --images val2017 --output evaluation/coco
torchrun --nproc-per-node 8 tools/evaluate.py --task lvis --data lvis_v1_minival.json --images coco

An interrupted run goes on where it was; --rescore measures the predictions without a model. Also
`glip evaluate`.
"""

import sys

from glip.cli.main import run_alone


def main() -> int:
    """`glip evaluate` with the words of the command line; returns its exit code."""
    return run_alone("evaluate")


if __name__ == "__main__":
    sys.exit(main())
