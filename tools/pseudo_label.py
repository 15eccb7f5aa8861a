"""Photos and a list of things -> a data set, and a report for looking it over; also `glip label`.

python tools/pseudo_label.py --images photos --classes "raccoon, trash can" --out labelled
torchrun --nproc-per-node 8 tools/pseudo_label.py --images photos --ontology things.yaml \
    --format yolo --val 0.2 --batch-size 8 --out labelled

A run that was stopped, by whatever means, goes on when the same command is given again.
"""

import sys

from glip.cli.main import run_alone

if __name__ == "__main__":
    sys.exit(run_alone("label"))
