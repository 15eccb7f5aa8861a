"""`glip convert` and `tools/convert_checkpoint.py`: official weights -> a file of ours, or a folder
of transformers.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from glip.choices import DType
from glip.cli.terminal import DONE
from glip.errors import ConfigError

if TYPE_CHECKING:
    import torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "source",
        help="an official checkpoint, a file of ours, a folder of transformers, or a model's name",
    )
    parser.add_argument(
        "target", type=Path, help="the file to write, NAME.safetensors, or a folder of transformers"
    )
    parser.add_argument(
        "--to",
        choices=("glip", "transformers"),
        default="glip",
        help="a file of ours, or a folder for transformers (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype", choices=get_args(DType), help="number format in the file; by default as it is"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Convert and say what came of it; returns the exit code."""
    target: Path = args.target
    to_folder = args.to == "transformers"
    if to_folder and target.suffix in (".safetensors", ".pth"):
        raise ConfigError(f"{target} would be a folder; name it without {target.suffix}")
    if not to_folder and target.suffix != ".safetensors":
        raise ConfigError(f"{target} must be called NAME.safetensors, the format that is written")
    if os.path.exists(target) and not args.force:
        raise ConfigError(f"{target} exists; --force replaces it")

    import torch

    from glip.checkpoint import convert_file

    dtype: torch.dtype | None = getattr(torch, args.dtype) if args.dtype else None
    if to_folder:
        from glip.hf.folder import convert_to_folder

        weights = convert_to_folder(args.source, target, dtype)
        size = sum(file.stat().st_size for file in target.iterdir())
    else:
        weights = convert_file(args.source, target, dtype)
        size = target.stat().st_size
    count = sum(tensor.numel() for tensor in weights.state.values())
    print(f"model:      {weights.config.name}")
    print(f"parameters: {count:,}")
    print(f"dropped:    {len(weights.dropped)} keys without effect")
    for key in weights.dropped:
        print(f"            {key}")
    print(f"written:    {target}, {size / 1e6:,.1f} MB")
    return DONE
