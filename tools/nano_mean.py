"""The mean of several weights files that come from one start: often better than each of them.

    python tools/nano_mean.py runs/student/model_final.safetensors \
        runs/control/model_final.safetensors --output runs/student_mean.safetensors

(Model soups, arXiv 2203.05482.) `--half` writes float16, as the package ships its weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from glip.checkpoint import Weights, read, save
from glip.errors import CheckpointError, GlipError


def main() -> int:
    """Read, average, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="+", help="files of one model")
    parser.add_argument("--half", action="store_true", help="write float16")
    parser.add_argument("--output", type=Path, required=True, help="the new .safetensors")
    args = parser.parse_args()
    try:
        average = mean([read(path) for path in args.weights])
        save(args.output, average, torch.float16 if args.half else None)
    except (GlipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {args.output}", file=sys.stderr)
    return 0


def mean(members: Sequence[Weights]) -> Weights:
    """Weights whose numbers are the means of those of the members; whole numbers are the first's.

    Raises:
        CheckpointError: They are not of one model.
    """
    first = members[0]
    for other in members[1:]:
        if other.config != first.config:
            raise CheckpointError("the weights are not of one model: their configurations differ")
    state = {
        name: torch.stack([member.state[name].float() for member in members]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.state.items()
    }
    return Weights(first.config, state)


if __name__ == "__main__":
    sys.exit(main())
