"""Memory and seconds of a training step: our path against the official arrangement of the sums.

A step is a forward pass, the losses and the backward pass, in float32 with every source of chance
switched off, on the same parameters. Three things are measured:

    saved    bytes that autograd keeps between the two passes, counted tensor by tensor as they are
             saved; exact, needs hardly any memory, and holds on every machine
    peak     what the resident memory of a fresh process grows by in one step
    seconds  of steps in turns in one process

    python benchmarks/training.py --saved-only                # GLIP-T, 800x1333, 256 tokens
    python benchmarks/training.py --size 400x667              # peak and seconds as well
    python benchmarks/training.py --model glip_nano --size 256x256 --tokens 100 --batch 6
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from latency import Stopwatch, peak_memory, short_prompt, size_hw, watch_modules
from parity.chance import without_chance
from reference import TEXT_POSITIONS, Reference, Watch, no_watch
from torch import Tensor
from tqdm import tqdm

from glip.data.batch import Target, Targets
from glip.model.glip import GLIP
from glip.model.head import HeadOutput
from glip.model.presets import PRESETS, build, preset
from glip.model.text_encoder import Tokens
from glip.pixels import padded_hw
from glip.text.tokenizer import Tokenizer
from glip.training.losses import Criterion
from glip.training.parallel import checkpoint_activations

PATHS = ("ours", "reference")
STAGES = (
    "backbone",
    "neck",
    "text",
    "fusion",
    "text layers",
    "dynamic head",
    "heads",
    "losses",
)
BOXES = 20  # in each picture


# ------------------------------------------------------------------------------------------- saving


@dataclass
class Tally:
    """Bytes that autograd saves, by stage; a storage counts once, parameters and inputs never.

    Attributes:
        stage: Where the model is now.
        saved: Bytes by stage.
    """

    known: dict[int, weakref.ref[Any]] = field(default_factory=dict)
    stage: str = "heads"
    saved: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def exclude(self, tensors: Sequence[Tensor]) -> None:
        """Storages that are there before the step begins."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self.known[storage.data_ptr()] = weakref.ref(storage)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """What is saved inside belongs to the stage."""
        before, self.stage = self.stage, stage
        yield
        self.stage = before

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Inside, what autograd saves is counted, and then forgotten: there is no way back."""

        def pack(tensor: Tensor) -> None:
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            # An address alone would not do: the next tensor may get that of one that is gone.
            if place not in self.known or self.known[place]() is None:
                self.known[place] = weakref.ref(storage)
                self.saved[self.stage] += storage.nbytes()

        def unpack(_: None) -> Tensor:
            raise AssertionError("nothing was kept for a backward pass")

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield


# ------------------------------------------------------------------------------------ the two paths


@dataclass
class Bench:
    """A model, a batch for it, and both ways to train on it."""

    model: GLIP
    pixels: Tensor
    tokens: Tokens
    token_maps: list[Tensor]
    targets: list[Target]
    checkpointed: bool
    """Forget activations of large parts: all of ours; of the reference the fusion, as officially.
    """
    watch: Watch = no_watch
    """What the modules of our path tell when they begin and end."""

    def __post_init__(self) -> None:
        self.reference = Reference(self.model, checkpoint_fusion=self.checkpointed)

    def forward(self, path: str, watch: Watch) -> HeadOutput:
        """Of one path."""
        if path == "ours":
            return cast(HeadOutput, self.model(self.pixels, self.tokens))
        return self.reference(self.pixels, self.tokens, watch)

    def losses(self, path: str, watch: Watch) -> Tensor:
        """Forward pass and losses: the sum of the latter."""
        output = self.forward(path, watch)
        with watch("losses"):
            mask = self.tokens.mask
            if path == "reference":
                mask = torch.nn.functional.pad(mask, (0, TEXT_POSITIONS - mask.shape[1]))
            losses = Criterion()(output, Targets.pad(self.targets, self.token_maps, mask))
            return torch.stack(list(losses.values())).sum()


def make_bench(options: argparse.Namespace) -> Bench:
    """Random weights, a random picture, and boxes all over it."""
    torch.manual_seed(0)
    model = build(without_chance(preset(options.model)))
    if options.checkpoint and options.path_alone != "reference":
        checkpoint_activations(model)
    generator = torch.Generator().manual_seed(1)
    height, width = padded_hw(options.size)
    pixels = torch.randn(options.batch, 3, height, width, generator=generator)
    tokenizer = Tokenizer.bert_uncased()
    (words,) = short_prompt(options.tokens, tokenizer).passes(tokenizer)
    targets = []
    for _ in range(options.batch):
        centres, sides = torch.rand(2, BOXES, 2, generator=generator)
        size = torch.tensor([width, height])
        corner, extent = centres * 0.8 * size, (0.02 + 0.3 * sides.square()) * size
        boxes = torch.cat([corner, (corner + extent).minimum(size - 1)], 1)
        phrases = torch.randint(len(words.rows), (BOXES,), generator=generator)
        targets.append(Target(boxes, phrases))
    return Bench(
        model,
        pixels,
        Tokens.pad([words.token_ids] * options.batch),
        [torch.from_numpy(words.token_map)] * options.batch,
        targets,
        options.checkpoint,
    )


# ---------------------------------------------------------------------------------------- measuring


def count_saved(bench: Bench, path: str) -> dict[str, int]:
    """Bytes saved for the backward pass, by stage."""
    tally = Tally()
    tally.exclude([*bench.model.parameters(), *bench.model.buffers(), bench.pixels])
    bench.watch = tally
    with tally.counting():
        bench.losses(path, tally)
    bench.watch = no_watch
    return dict(tally.saved)


def time_steps(bench: Bench, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of the clock and of all processors, of steps in turns after one warm-up each."""
    seconds: dict[str, dict[str, list[float]]] = {
        path: {"wall": [], "processor": []} for path in PATHS
    }
    for turn in tqdm(range(repeats + 1), desc="steps", leave=False):
        for path in PATHS:
            clock = Stopwatch(cuda=False)
            with clock("step"):
                bench.losses(path, no_watch).backward()
            bench.model.zero_grad()
            if turn:
                seconds[path]["wall"].append(clock.wall["step"])
                seconds[path]["processor"].append(clock.processor["step"])
    return seconds


def peak_of(path: str, options: argparse.Namespace) -> float:
    """What one step adds to the memory of a fresh process, in MB."""
    command = [sys.executable, __file__, "--path-alone", path]
    for name in ("model", "tokens", "batch", "threads"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--size", "x".join(map(str, options.size))]
    command += ["--checkpoint"] * options.checkpoint
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout.splitlines()[-1])


def step_alone(path: str, options: argparse.Namespace) -> float:
    """What the process of `peak_of` does: the growth of its memory in MB.

    Gradients of all parameters are there beforehand, as in every step but the first.
    """
    bench = make_bench(options)
    for parameter in bench.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = resident_memory()
    bench.losses(path, no_watch).backward()
    return (peak_memory() - before) / 1e6


def resident_memory() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# ------------------------------------------------------------------------------------------- report


def print_saved(saved: dict[str, dict[str, int]]) -> None:
    """A table by stage."""
    print(f"{'saved, MB':14}{'ours':>10}{'reference':>12}{'share':>8}")
    totals = {path: sum(stages.values()) for path, stages in saved.items()}
    for stage in (*STAGES, "total"):
        ours, reference = (
            (totals[path] if stage == "total" else saved[path].get(stage, 0)) / 1e6
            for path in PATHS
        )
        share = f"{ours / reference:.2f}" if reference else "-"
        print(f"{stage:14}{ours:10.1f}{reference:12.1f}{share:>8}")


def print_seconds(seconds: dict[str, dict[str, list[float]]]) -> None:
    """The fastest steps, and how far turns differ."""
    for unit in ("wall", "processor"):
        ours, reference = (seconds[path][unit] for path in PATHS)
        ratios = [b / a for a, b in zip(ours, reference, strict=True)]
        print(
            f"a step, {unit} seconds: ours {min(ours):.2f}, reference {min(reference):.2f}, ratio "
            f"{min(reference) / min(ours):.1f} (turn by turn {min(ratios):.1f} to "
            f"{max(ratios):.1f}, median {statistics.median(ratios):.1f})"
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(PRESETS), default="glip_tiny")
    parser.add_argument("--size", type=size_hw, default=(800, 1333), help="of the picture")
    parser.add_argument("--tokens", type=int, default=256, help="of the prompt")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--checkpoint",
        action="store_true",
        help="recompute: all of ours, and the fusion of the reference as officially",
    )
    parser.add_argument("--saved-only", action="store_true", help="neither peak nor seconds")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    parser.add_argument("--path-alone", choices=PATHS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.path_alone:
        print(step_alone(options.path_alone, options))
        return
    bench = make_bench(options)
    height, width = options.size
    print(
        f"{options.model}, {height}x{width}, {options.tokens} tokens, batch {options.batch}, "
        f"float32, {options.threads} threads, torch {torch.__version__}"
    )
    report: dict[str, Any] = {
        key: value for key, value in vars(options).items() if not isinstance(value, Path)
    }
    if not options.checkpoint:  # which saves in a way of its own
        watch_modules(bench.model, lambda: bench.watch)
        report["saved_bytes"] = {path: count_saved(bench, path) for path in PATHS}
        print_saved(report["saved_bytes"])
    if not options.saved_only:
        report["seconds"] = time_steps(bench, options.repeats)
        print_seconds(report["seconds"])
        del bench
        report["peak_mb"] = {path: peak_of(path, options) for path in PATHS}
        ours, reference = (report["peak_mb"][path] for path in PATHS)
        print(
            f"peak of a step: {ours:.0f} MB, reference {reference:.0f} MB: {ours / reference:.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
