"""Captions -> grounding data with a teacher's boxes, to train a student on; also `glip ground`.

python tools/pseudo_ground.py --captions captions.json --images images.tar --preset curated \
    --weights glip_nano --out pseudo
torchrun --nproc-per-node 8 tools/pseudo_ground.py --captions shards --weights glip_large \
    --dtype bfloat16 --set batch_size=8 workers=4 --out pseudo

A run that was stopped, by whatever means, goes on when the same command is given again.
"""

import sys

from glip.cli.main import run_alone

if __name__ == "__main__":
    sys.exit(run_alone("ground"))
