"""Training EfficientNet-Lite0 in bfloat16 on a CPU: our depthwise convolutions against torch's.

Forward and backward pass of the whole backbone, as `glip_nano` trains it, in turns in one process.
Times are of the processor, the smallest of all turns, so that what else the machine does counts
little.

    python benchmarks/depthwise.py
    python benchmarks/depthwise.py --size 320x480 --batch 2 --threads 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from unittest import mock

import torch
from latency import size_hw
from torch import Tensor
from torch.nn import functional as F

from glip.model import efficientnet
from glip.model.ops.depthwise import depthwise


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Measure and print.

    Returns:
        Seconds of a step by "ours" and "torch".
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=size_hw, default=(288, 288), help="of the pictures")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    model = efficientnet.EfficientNetLite().train().to(memory_format=torch.channels_last)
    pixels = torch.randn(args.batch, 3, *args.size)
    seconds: dict[str, list[float]] = {"ours": [], "torch": []}
    for turn in range(args.repeats + 1):
        for name, times in seconds.items():
            way = depthwise if name == "ours" else _torch_depthwise
            with mock.patch.object(efficientnet, "depthwise", way):
                taken = _step(model, pixels)
            if turn:  # the first one warms up
                times.append(taken)
    best = {name: min(times) for name, times in seconds.items()}
    for name, value in best.items():
        print(f"{name:6} {value:.3f} s")
    print(f"ratio  {best['torch'] / best['ours']:.2f}")
    return best


def _step(model: efficientnet.EfficientNetLite, pixels: Tensor) -> float:
    model.zero_grad()
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(pixels)
    torch.stack([one.float().square().mean() for one in maps]).sum().backward()
    return time.process_time() - start


def _torch_depthwise(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, 1, len(weight))


if __name__ == "__main__":
    main()
