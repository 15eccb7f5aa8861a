"""Seconds and memory of a prediction: our path against the official arrangement of the same sums.

Both paths run in turns in one process on the same parameters, so that whatever else the machine
does falls on both. Each stage is given in seconds of the clock and in seconds of processors: on a
machine that others use, the second number is the steadier one. Memory is taken in a fresh process
for each path.

    python benchmarks/latency.py                                # GLIP-T, float32
    python benchmarks/latency.py --dtype bfloat16
    python benchmarks/latency.py --classes 1203 --reference-chunks 2
    python benchmarks/latency.py --device cuda --dtype bfloat16 --batch 16
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from reference import Reference, Watch, postprocess, preprocess
from torch import nn
from tqdm import tqdm

from glip import Detector, Prompt
from glip.checkpoint import Weights, assemble, read, save
from glip.config import PostprocessOptions
from glip.convert import convert, to_official
from glip.data.transforms import pad_batch, to_pixels
from glip.detector import load
from glip.model.glip import GLIP
from glip.model.head import HeadOutput
from glip.model.presets import PRESETS, build, build_empty, preset
from glip.model.text_encoder import Tokens
from glip.pixels import resize
from glip.postprocess import select_candidates, suppress
from glip.released import RELEASED
from glip.text.prompt import PromptPass
from glip.text.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))  # beside this folder, no package
from parity import recipe

OPTIONS = PostprocessOptions()
STAGES = (
    "preprocess",
    "backbone",
    "neck",
    "text",
    "fusion",
    "text layers",
    "dynamic head",
    "heads",
    "postprocess",
)
# Ten times the rounding noise of the official implementation on its recorded cases (tools/
# parity), of which the noisiest one counts.
LOGIT_LIMITS = {"glip_tiny_a": 4.5e-4, "glip_tiny": 2.3e-3, "glip_large": 4.7e-3}
CHUNK = 40  # class names of one pass in the official evaluation of long vocabularies


# ------------------------------------------------------------------------------------------- clocks


@dataclass
class Stopwatch:
    """Seconds by stage; the time of a stage that appears several times in a run is summed.

    Attributes:
        cuda: Whether to wait for the GPU at both ends of a stage.
        wall: Seconds of the clock.
        processor: Seconds of all processors together.
    """

    cuda: bool
    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    processor: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def _now(self) -> tuple[float, float]:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Take the time of what happens inside."""
        wall, processor = self._now()
        yield
        wall_end, processor_end = self._now()
        self.wall[stage] += wall_end - wall
        self.processor[stage] += processor_end - processor


def watch_modules(model: GLIP, current: Callable[[], Watch]) -> None:
    """Take the time of the model's own modules by hooks, wherever they are called from."""

    def listen(module: nn.Module, stage: str) -> None:
        running: list[Any] = []

        def before(*_: object) -> None:
            running.append(current()(stage))
            running[-1].__enter__()

        def after(*_: object) -> None:
            running.pop().__exit__(None, None, None)

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    listen(model.backbone, "backbone")
    listen(model.neck, "neck")
    listen(model.text, "text")
    stage: Any
    for stage in model.head.stages:
        if stage.fusion is not None:
            listen(stage.fusion, "fusion")
            listen(stage.text_layer, "text layers")
        listen(stage.block, "dynamic head")


# ------------------------------------------------------------------------------------------- inputs


def make_weights(name: str) -> Weights:
    """Pseudo-random weights that keep activations near unit scale; reproducible."""
    config = preset(name)
    if name not in RELEASED or RELEASED[name].official is None:  # the recipe goes by official names
        torch.manual_seed(0)
        return Weights(config, build(config).state_dict())
    shapes = to_official(build_empty(config).state_dict())
    official = {
        key: torch.from_numpy(recipe.parameter(key, tuple(tensor.shape)))
        for key, tensor in tqdm(shapes.items(), desc="weights", leave=False)
    }
    return Weights(config, convert(official))


def make_pictures(size_hw: tuple[int, int], count: int) -> list[Image.Image]:
    """Pictures half as large again as the model takes them, with smooth colours and fine noise."""
    height, width = (round(1.5 * side) for side in size_hw)
    pictures = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        noise = random.integers(-12, 13, smooth.shape)
        pictures.append(Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)))
    return pictures


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Words that are one token each."""
    tokens = json.loads(tokenizer.to_json())["model"]["vocab"]
    return [token for token in tokens if token.isascii() and token.isalpha() and len(token) > 3]


def short_prompt(tokens: int, tokenizer: Tokenizer) -> Prompt:
    """Class names that make a prompt of exactly so many tokens."""
    if tokens < 3:
        raise SystemExit(f"--tokens {tokens}: the shortest prompt has 3")
    words = vocabulary(tokenizer)[1000:]
    names = words[: (tokens - 1) // 2]
    if tokens % 2 == 0:  # names of one word make odd numbers only
        names[0] = f"{names[0]} {words[-1]}"
    prompt = Prompt.from_classes(names)
    (only,) = prompt.passes(tokenizer)
    assert len(only.token_ids) == tokens
    return prompt


def class_names(count: int, tokenizer: Tokenizer) -> list[str]:
    """Invented names as long as those of LVIS: one to three words, some of several tokens."""
    random = np.random.default_rng(0)
    words = vocabulary(tokenizer)

    def word() -> str:
        return "".join(random.choice(words, random.choice([1, 2], p=[0.8, 0.2])))

    names: dict[str, None] = {}
    while len(names) < count:
        length = random.choice([1, 2, 3], p=[0.6, 0.33, 0.07])
        names["_".join(word() for _ in range(length))] = None
    return list(names)


# ------------------------------------------------------------------------------------ the two paths


@dataclass
class Bench:
    """Everything both paths need.

    Attributes:
        detector: Ours; its model has hooks that fill `clock`.
        reference: The official arrangement, in float32.
        pictures: Of one batch.
        prompt: Of all pictures.
        clock: Times of the run in progress.
    """

    detector: Detector
    reference: Reference
    pictures: list[Image.Image]
    prompt: Prompt
    clock: Stopwatch

    @property
    def cuda(self) -> bool:
        """Whether a GPU does the work."""
        return self.detector.torch_engine.device.type == "cuda"

    def new_clock(self) -> Stopwatch:
        """Start at zero."""
        self.clock = Stopwatch(self.cuda)
        return self.clock

    @property
    def passes(self) -> tuple[PromptPass, ...]:
        """The prompt in as few passes as our path needs."""
        return self.prompt.passes(self.detector.tokenizer, self.detector.config.text.max_tokens)

    def tokens(self, part: PromptPass) -> Tokens:
        """Of every picture of the batch."""
        ids = [part.token_ids] * len(self.pictures)
        return Tokens.pad(ids, self.detector.tokenizer.pad_id).to(self.detector.device)

    def ours(self) -> HeadOutput:
        """One pass of our path, stage by stage, with the text encoded anew."""
        detector, clock = self.detector, self.clock
        model, config = detector.model, detector.config.pixels
        (part,) = self.passes
        with clock("preprocess"):
            tensors = [to_pixels(resize(picture, config), config) for picture in self.pictures]
            pixels = pad_batch(tensors).to(detector.device, detector.torch_engine.dtype)
        tokens = self.tokens(part)
        seen, words = (
            model.encode_image(pixels),
            model.encode_text(Tokens(tokens.ids[:1], tokens.mask[:1])),
        )
        with clock("head"):
            (output,) = model.predict_prompts(seen, [words])
        parts = ("fusion", "text layers", "dynamic head")
        for times in (clock.wall, clock.processor):  # what the tower leaves of the head
            times["heads"] = times.pop("head") - sum(times[name] for name in parts)
        with clock("postprocess"):
            token_map = torch.from_numpy(part.token_map).to(detector.device)
            for index, tensor in enumerate(tensors):
                hw = (tensor.shape[1], tensor.shape[2])
                suppress(select_candidates(output, index, token_map, hw, OPTIONS), OPTIONS)
        return output

    def official(self, part: PromptPass | None = None, watch: Watch | None = None) -> HeadOutput:
        """One pass of the reference path, for a part of the prompt or all of it."""
        clock = watch or self.clock
        part = part or self.passes[0]
        config = self.detector.config.pixels
        with clock("preprocess"):
            pixels = preprocess(self.pictures, config).to(self.detector.device)
        output = self.reference(pixels, self.tokens(part), clock)
        with clock("postprocess"):
            for index, picture in enumerate(self.pictures):
                width, height = resize(picture, config).size
                postprocess(
                    output, index, torch.from_numpy(part.token_map), (height, width), OPTIONS
                )
        return output


def make_bench(weights: Weights, arguments: argparse.Namespace) -> Bench:
    """Both paths over one set of parameters; ours has a copy if its number format differs."""
    height, width = arguments.size
    pixels = replace(
        weights.config.pixels, short_side=min(height, width), long_side=max(height, width)
    )
    weights = replace(weights, config=replace(weights.config, pixels=pixels))
    detector = Detector.from_weights(weights, device=arguments.device, dtype=arguments.dtype)
    exact = detector.model
    if arguments.dtype != "float32":
        exact = assemble(weights).to(arguments.device)
    prompt = prompt_for(detector.tokenizer, arguments)
    if not arguments.classes and len(prompt.passes(detector.tokenizer)) > 1:
        raise SystemExit("the prompt does not fit one pass; long vocabularies have --classes")
    pictures = make_pictures(arguments.size, arguments.batch)
    cuda = detector.torch_engine.device.type == "cuda"
    return Bench(detector, Reference(exact), pictures, prompt, Stopwatch(cuda))


# ------------------------------------------------------------------------------------------- timing


@dataclass
class Samples:
    """Times of several runs of one path, by stage; "total" is the sum of a run."""

    wall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    processor: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, clock: Stopwatch) -> None:
        """Another run."""
        for kept, new in ((self.wall, clock.wall), (self.processor, clock.processor)):
            for stage in STAGES:
                kept[stage].append(new.get(stage, 0.0))
            kept["total"].append(sum(new.values()))


@torch.inference_mode()
def time_stages(bench: Bench, repeats: int) -> tuple[Samples, Samples, tuple[float, float]]:
    """Both paths in turns after one warm-up each; the largest and the mean difference of logits."""
    watch_modules(bench.detector.model, lambda: bench.clock)
    ours, official = Samples(), Samples()
    for turn in tqdm(range(repeats + 1), desc="runs", leave=False):
        bench.new_clock()
        output = bench.ours()
        if turn:
            ours.add(bench.clock)
        bench.new_clock()
        exact = bench.official()
        if turn:
            official.add(bench.clock)
    width = output.logits.shape[-1]
    difference = (output.logits - exact.logits[..., :width]).abs()
    return ours, official, (float(difference.max()), float(difference.mean()))


@torch.inference_mode()
def time_vocabulary(bench: Bench, repeats: int, chunks: int) -> dict[str, Any]:
    """All class names on the pictures: ours complete, the reference in chunks, some or all."""
    parts = bench.prompt.passes(bench.detector.tokenizer, max_classes=CHUNK)
    measured = parts[: chunks or len(parts)]
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in tqdm(range(repeats), desc="runs", leave=False):
        for name in ("ours, first picture", "ours, next picture"):
            if name == "ours, first picture":
                bench.detector = Detector(bench.detector.torch_engine.with_encoder(None))
            clock = bench.new_clock()
            with clock("predict"):
                bench.detector.predict(
                    bench.pictures, bench.prompt, threshold=0.0, batch_size=len(bench.pictures)
                )
            seconds[name].append(clock.wall["predict"])
            seconds[f"{name}, processors"].append(clock.processor["predict"])
        clock = bench.new_clock()
        for part in tqdm(measured, desc="chunks", leave=False):
            bench.official(part)
        scale = len(parts) / len(measured)
        seconds["reference"].append(sum(clock.wall.values()) * scale)
        seconds["reference, processors"].append(sum(clock.processor.values()) * scale)
    return {
        "classes": len(bench.prompt),
        "our_passes": len(bench.passes),
        "reference_chunks": len(parts),
        "reference_chunks_measured": len(measured),
        "seconds": dict(seconds),
    }


# ------------------------------------------------------------------------------------------- memory


def memory_of(path: str, file: Path, arguments: argparse.Namespace) -> float:
    """Peak memory in MB of loading the weights and predicting once, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", path, "--weights", str(file)]
    for name in ("model", "dtype", "device", "batch", "threads", "tokens"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--size", "x".join(map(str, arguments.size))]
    if arguments.classes:
        command += ["--classes", str(arguments.classes)]
    if arguments.prompt:
        command += ["--prompt", arguments.prompt]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout.splitlines()[-1])


@torch.inference_mode()
def predict_once(path: str, file: Path, arguments: argparse.Namespace) -> float:
    """What the process of `memory_of` does: the peak in MB of one path alone."""
    if path == "ours":
        detector = load(file, device=arguments.device, dtype=arguments.dtype)
        height, width = arguments.size
        pixels = detector.config.pixels
        detector.config = replace(
            detector.config,
            pixels=replace(pixels, short_side=min(height, width), long_side=max(height, width)),
        )
        prompt = prompt_for(detector.tokenizer, arguments)
        pictures = make_pictures(arguments.size, arguments.batch)
        detector.predict(pictures, prompt, threshold=0.0, batch_size=arguments.batch)
    else:
        bench = make_bench(
            read(file), argparse.Namespace(**{**vars(arguments), "dtype": "float32"})
        )
        # Chunks are alike: one of them reaches the peak.
        limit = CHUNK if arguments.classes else None
        bench.official(bench.prompt.passes(bench.detector.tokenizer, max_classes=limit)[0])
    if arguments.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_memory() / 1e6


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a process inherits that of its parent, here full of weights.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def prompt_for(tokenizer: Tokenizer, arguments: argparse.Namespace) -> Prompt:
    """The prompt that the options ask for."""
    if arguments.classes:
        return Prompt.from_classes(class_names(arguments.classes, tokenizer))
    if arguments.prompt:
        return Prompt.of(arguments.prompt)
    return short_prompt(arguments.tokens, tokenizer)


# ------------------------------------------------------------------------------------------- report


def print_stages(ours: Samples, official: Samples) -> None:
    """The fastest run of each stage: what other work on the machine adds is never negative."""
    print(f"{'':14}{'seconds':^24}{'':8}{'processor seconds':^24}")
    print(f"{'stage':14}{'ours':>12}{'reference':>12}{'ratio':>8}", end="")
    print(f"{'ours':>12}{'reference':>12}{'ratio':>8}")
    for stage in (*STAGES, "total"):
        line = f"{stage:14}"
        for mine, theirs in ((ours.wall, official.wall), (ours.processor, official.processor)):
            a, b = min(mine[stage]), min(theirs[stage])
            ratio = f"{b / a:.1f}" if a > 1e-6 else "-"
            line += f"{a:12.4f}{b:12.4f}{ratio:>8}"
        print(line)
    for name, mine, theirs in (
        ("clock", ours.wall, official.wall),
        ("processors", ours.processor, official.processor),
    ):
        ratios = [b / a for a, b in zip(mine["total"], theirs["total"], strict=True)]
        print(
            f"ratio of totals turn by turn ({name}): median {statistics.median(ratios):.2f}, "
            f"from {min(ratios):.2f} to {max(ratios):.2f}"
        )


def size_hw(text: str) -> tuple[int, int]:
    """`800x1333` as (height, width)."""
    height, width = text.split("x")
    return int(height), int(width)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(PRESETS), default="glip_tiny")
    parser.add_argument("--weights", type=Path, help="a weights file; made up by default")
    parser.add_argument("--size", type=size_hw, help="of the resized picture, e.g. 800x1333")
    parser.add_argument("--tokens", type=int, default=23, help="of the prompt")
    parser.add_argument("--prompt", help="a text instead of made-up class names")
    parser.add_argument("--classes", type=int, help="long vocabulary of so many made-up names")
    parser.add_argument(
        "--reference-chunks", type=int, help="with --classes: measure so many and extrapolate"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="skip the two extra processes")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    parser.add_argument("--memory-of", choices=["ours", "reference"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.size is None:
        pixels = preset(options.model).pixels
        options.size = (pixels.short_side, pixels.long_side)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(predict_once(options.memory_of, options.weights, options))
        return
    weights = read(options.weights) if options.weights else make_weights(options.model)
    bench = make_bench(weights, options)
    name = weights.config.name
    height, width = options.size
    print(
        f"{name}, {height}x{width}, batch {options.batch}, ours in {options.dtype}, reference in "
        f"float32, {options.device}, {options.threads} threads, torch {torch.__version__}"
    )
    report: dict[str, Any] = {
        **{key: value for key, value in vars(options).items() if isinstance(value, (str, int))},
        "model": name,
        "size_hw": options.size,
        "machine": f"{platform.machine()}, {torch.__version__}",
    }
    if options.classes:
        report.update(time_vocabulary(bench, options.repeats, options.reference_chunks or 0))
        print_vocabulary(report)
    else:
        ours, official, difference = time_stages(bench, options.repeats)
        print(f"prompt of {len(bench.passes[0].token_ids)} tokens, {len(bench.prompt)} phrases")
        print_stages(ours, official)
        limit = LOGIT_LIMITS.get(name.replace("_b", "").replace("_c", ""))
        largest, mean = difference
        print(f"difference of the logits: largest {largest:.2e}, mean {mean:.2e}", end="")
        print(f", limit of parity {limit:.1e}" if limit and options.dtype == "float32" else "")
        if options.batch > 1:
            print(f"{options.batch / min(ours.wall['total']):.2f} pictures a second")
        report.update(ours=vars(ours), reference=vars(official), logit_difference=largest)
    del bench
    if not options.no_memory:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.safetensors"
            save(file, weights)
            del weights
            report["peak_mb"] = {
                path: memory_of(path, file, options) for path in ("ours", "reference")
            }
        mine, theirs = report["peak_mb"]["ours"], report["peak_mb"]["reference"]
        print(f"peak memory {mine:.0f} MB, reference {theirs:.0f} MB: {mine / theirs:.2f} of it")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def print_vocabulary(report: dict[str, Any]) -> None:
    """Times for a long vocabulary."""
    measured, chunks = report["reference_chunks_measured"], report["reference_chunks"]
    print(
        f"{report['classes']} class names: {report['our_passes']} passes of ours, "
        f"{chunks} chunks of {CHUNK}"
    )
    if measured < chunks:
        print(f"the reference is extrapolated from {measured} of its {chunks} chunks")
    seconds = report["seconds"]
    for ours in ("ours, first picture", "ours, next picture"):
        for unit in ("", ", processors"):
            a, b = min(seconds[ours + unit]), min(seconds["reference" + unit])
            print(f"{ours + unit:34}{a:9.2f} s   reference {b:9.2f} s   ratio {b / a:6.1f}")


if __name__ == "__main__":
    main()
