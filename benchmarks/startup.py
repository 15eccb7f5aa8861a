"""Processor seconds from nothing to the first boxes, step by step, each run in a fresh process.

python benchmarks/startup.py
python -X importtime -c "import glip; glip.load()" 2>&1 | sort -t'|' -k2 -n | tail -30
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

STEPS = """
import json, sys, time
clock = time.process_time
times = {"python": clock()}
def step(name):
    times[name] = clock() - sum(times.values())
import torch
step("import torch")
import glip
step("import glip")
detector = glip.load(%s, device="cpu")
step("glip.load()")
picture = torch.zeros(3, 240, 320)
step("a picture")
detector.predict(picture, ["cat", "dog"])
step("first boxes")
heavy = ("torch._dynamo", "torchvision", "timm", "transformers", "triton.language", "scipy")
print(json.dumps([times, [name for name in heavy if name in sys.modules]]))
"""


def main() -> None:
    """Print the median of each step over some fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="file or name of a model; by default the packaged one")
    parser.add_argument("--repeat", type=int, default=3, help="processes (default: %(default)s)")
    args = parser.parse_args()
    code = STEPS % repr(args.weights)
    runs = []
    for _ in range(args.repeat):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        runs.append(json.loads(done.stdout))
    for name in runs[0][0]:
        print(f"{name:<14}{statistics.median(times[name] for times, _ in runs):8.2f} s")
    after = [sum(times.values()) - times["python"] - times["import torch"] for times, _ in runs]
    print(f"{'beyond torch':<14}{statistics.median(after):8.2f} s")
    print(f"imported besides: {', '.join(runs[0][1]) or 'none of the large packages'}")


if __name__ == "__main__":
    main()
