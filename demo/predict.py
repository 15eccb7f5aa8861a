"""Boxes for words in your own pictures: `glip predict` as a script.

python demo/predict.py --image street.jpg --prompt "person. bicycle."
"""

import sys

from glip.cli.main import run_alone

if __name__ == "__main__":
    sys.exit(run_alone("predict"))
