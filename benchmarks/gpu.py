"""All that a GPU should be asked, in one go of some three minutes: agreement, latency, training.

Each part stands for itself: one that fails says so in its place, and the others go on. Weights and
pictures are made up, so nothing has to be there but this repository.

    python benchmarks/gpu.py                          # GLIP-T at 800x1333 and glip_nano's training
    python benchmarks/gpu.py --small --device cpu     # a rehearsal without a GPU: all parts, small
    python benchmarks/gpu.py --only latency training --json gpu.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import class_names, make_pictures, make_weights, short_prompt, size_hw
from loader import enlarged_samples, samples
from PIL import Image

from glip import Detector, Prompt
from glip.checkpoint import Weights
from glip.choices import DType
from glip.config import PostprocessOptions
from glip.data.augment import AugmentConfig
from glip.data.batch import Batch, Target, Targets
from glip.data.loader import training_loader
from glip.data.mixture import MixtureSampler
from glip.data.transforms import RawPixels
from glip.engine import Engine
from glip.jobs.batches import Pace
from glip.jobs.journal import Journal
from glip.labelling.label import label_photos
from glip.labelling.ontology import Ontology
from glip.model.head import HeadOutput
from glip.model.text_encoder import Tokens, Words
from glip.pixels import resize
from glip.training.build import new_state
from glip.training.loop import LoopConfig, StepReport, train
from glip.training.losses import Criterion
from glip.training.optim import Schedule
from glip.training.run_config import DataConfig, RunConfig
from glip.training.state import TrainState

TOKENS = 23  # of a short prompt
BOXES = 20  # in each picture that is trained on
STEPS = 6  # of training, of which the first two are left out


@dataclass(frozen=True)
class Plan:
    """What is measured, and how large."""

    device: torch.device
    model: str = "glip_tiny"
    size_hw: tuple[int, int] = (800, 1333)
    batches: tuple[int, ...] = (1, 16)
    names: int = 1203
    training_batches: tuple[int, ...] = (2, 8)
    nano_batches: tuple[int, ...] = (64, 128)
    nano_steps: int = 40
    workers: int = 14
    repeats: int = 20
    road_batches: int = 12  # enough that the first, beside which nothing goes on, hardly counts


def rehearsal(device: torch.device) -> Plan:
    """All of it in a minute of one processor."""
    return Plan(device, "glip_nano", (96, 160), (1, 2), 30, (1, 2), (2,), 4, 0, 2, 2)


# ------------------------------------------------------------------------------------------ helpers


def wait_for(device: torch.device) -> None:
    """Until all that was launched is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(device: torch.device, step: Callable[[], object], repeats: int) -> float:
    """Median of a step, after three that warm it up."""
    times = []
    for turn in range(3 + repeats):
        wait_for(device)
        start = time.perf_counter()
        step()
        wait_for(device)
        if turn >= 3:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Inside, products in float32 may or may not be rounded to ten bits on the way in."""
    settings: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [one.allow_tf32 for one in settings]
    for one in settings:
        one.allow_tf32 = wanted
    try:
        yield
    finally:
        for one, value in zip(settings, before, strict=True):
            one.allow_tf32 = value


@cache
def made_up(name: str) -> Weights:
    """Weights of a model; making them takes longer than most of what is measured."""
    return make_weights(name)


def detector_of(plan: Plan, dtype: DType, device: torch.device | None = None) -> Detector:
    """Made-up weights, copies of them, for pictures of the plan's size."""
    weights, (height, width) = made_up(plan.model), plan.size_hw
    pixels = replace(
        weights.config.pixels, short_side=min(height, width), long_side=max(height, width)
    )
    weights = replace(
        weights,
        config=replace(weights.config, pixels=pixels),
        state={key: tensor.clone() for key, tensor in weights.state.items()},
    )
    return Detector.from_weights(weights, device=device or plan.device, dtype=dtype)


def prepared(plan: Plan, engine: Engine, count: int) -> torch.Tensor:
    """(B, 3, H, W) on the engine's device, as it sees pictures."""
    pictures = [engine.prepare(picture) for picture in make_pictures(plan.size_hw, count)]
    return engine._pixels(engine._stacked(pictures))


def peak_gib(device: torch.device) -> float | None:
    """Most memory of the GPU since the last `reset_peak_memory_stats`."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def fresh_peak(device: torch.device) -> None:
    """Forget how much memory was in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


# -------------------------------------------------------------------------------------------- parts


@torch.inference_mode()
def agreement(plan: Plan) -> dict[str, Any]:
    """Largest and mean difference of the outputs from those of the CPU in float32."""
    plan = replace(plan, size_hw=tuple(min(side, 640) for side in plan.size_hw))  # type: ignore

    def outputs(dtype: DType, device: torch.device) -> HeadOutput:
        engine = detector_of(plan, dtype, device).torch_engine
        (part,) = engine.passes.of(short_prompt(TOKENS, engine.tokenizer))
        (found,) = engine.model.predict_prompts(
            engine.model.encode_image(prepared(plan, engine, 1)), engine._words([[part]])
        )
        return found

    exact = outputs("float32", torch.device("cpu"))
    result: dict[str, Any] = {}
    kinds: tuple[tuple[DType, bool], ...]
    kinds = (("float32", False), ("float32", True), ("bfloat16", False), ("float16", False))
    for dtype, rounded in kinds:
        with tf32(rounded):
            found = outputs(dtype, plan.device)
        result[f"{dtype}{', TF32' if rounded else ''}"] = {
            name: [float(apart.max()), float(apart.mean())]
            for name in ("logits", "deltas", "centerness")
            for apart in [(getattr(found, name).cpu() - getattr(exact, name)).abs()]
        }
    return result


def latency(plan: Plan) -> dict[str, Any]:
    """A prediction of each batch and number format: the model's parts, replayed, and all of it."""
    kinds: tuple[tuple[DType, bool], ...]
    kinds = (("bfloat16", False), ("float16", False), ("float32", True))
    result: dict[str, Any] = {}
    for dtype, rounded in kinds:
        detector = detector_of(plan, dtype)
        for batch in plan.batches:
            fresh_peak(plan.device)
            with tf32(rounded):
                result[f"{dtype}, batch {batch}"] = _prediction(plan, detector, batch)
    return result


@torch.inference_mode()
def _prediction(plan: Plan, detector: Detector, batch: int) -> dict[str, Any]:
    engine = detector.torch_engine
    prompt = short_prompt(TOKENS, detector.tokenizer)
    (part,) = engine.passes.of(prompt)
    words, pixels = engine._words([[part]]), prepared(plan, engine, batch)
    result: dict[str, Any] = {
        name: _alone(plan, runner, pixels, words)
        for name, runner in (("plain", engine.model), ("replayed", engine._runner))
    }
    # Pictures of the very size, so that no processor's resizing is measured.
    pictures = [resize(one, detector.config.pixels) for one in make_pictures(plan.size_hw, batch)]
    many = pictures * (1 if batch == 1 else 4)
    whole = milliseconds(
        plan.device,
        lambda: detector.predict(many, prompt, threshold=0.3, batch_size=batch),
        max(2, plan.repeats // 4),
    )
    result["predict"] = {"ms": whole, "per_second": 1e3 * len(many) / whole}
    result["share_of_model"] = result["predict"]["per_second"] / result["replayed"]["per_second"]
    return {**result, "peak_gib": peak_gib(plan.device)}


def _alone(plan: Plan, runner: Any, pixels: torch.Tensor, words: list[Words]) -> dict[str, float]:
    """Milliseconds of the model's halves for a batch (B, 3, H, W), and pictures a second of it."""
    pyramid = runner.encode_image(pixels)
    image = milliseconds(plan.device, partial(runner.encode_image, pixels), plan.repeats)
    predict = partial(runner.predict_prompts, pyramid, words)
    rest = milliseconds(plan.device, partial(_drained, predict), plan.repeats)
    rate = 1e3 * len(pixels) / (image + rest)
    return {"image_ms": image, "rest_ms": rest, "per_second": rate}


def _drained(outputs: Callable[[], Iterator[HeadOutput]]) -> None:
    list(outputs())


class OneAtATime(Detector):
    """Is asked by one thread, whatever its device."""

    @property
    def pace(self) -> Pace:
        """As many threads read as else."""
        return super().pace._replace(at_once=1)


def road(plan: Plan) -> dict[str, Any]:
    """Pictures a second of the large batch: the model alone, and the ways that pictures take."""
    detector, batch = detector_of(plan, "bfloat16"), max(plan.batches)
    engine = detector.torch_engine
    prompt = short_prompt(TOKENS, detector.tokenizer)
    with torch.inference_mode():
        words = engine._words([engine.passes.of(prompt)])
        own = _alone(plan, engine._runner, prepared(plan, engine, batch), words)["per_second"]
    some = [resize(one, detector.config.pixels) for one in make_pictures(plan.size_hw, batch)]
    pictures = some * plan.road_batches
    names = prompt.names
    ontology = Ontology.of_names(names, threshold=0.3)
    options = PostprocessOptions(score=0.3)
    captions = [
        Prompt.of(f"{names[0]} number {number} beside {names[-1]}")
        for number in range(len(pictures))
    ]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.jpg" for number in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            picture.save(file)

        def label() -> None:
            with tempfile.TemporaryDirectory() as out, Journal(out, {}) as journal:
                own_names = [file.name for file in files]
                label_photos(detector, folder, own_names, ontology, journal, batch_size=batch)

        def ask(detector: Detector, what: Any, prompts: Any) -> None:
            for _ in detector.stream(what, prompts, options=options, batch_size=batch):
                pass

        def caption() -> None:
            engine._texts.clear()
            ask(detector, pictures, captions)

        ways: dict[str, Callable[[], None]] = {
            "predict, a batch at a time": lambda: ask(OneAtATime(engine), pictures, prompt),
            "predict": lambda: ask(detector, pictures, prompt),
            "predict files": lambda: ask(detector, files, prompt),
            "a caption each": caption,
            "label": label,
        }
        found: dict[str, Any] = {"model": {"per_second": own}, "pace": detector.pace._asdict()}
        for name, way in ways.items():
            rate = len(pictures) / (milliseconds(plan.device, way, 2) / 1e3)
            found[name] = {"per_second": rate, "share_of_model": rate / own}
    return found


def many_names(plan: Plan) -> dict[str, Any]:
    """Seconds for a long vocabulary on one picture, text remembered and sizes recorded."""
    detector = detector_of(plan, "bfloat16")
    prompt = Prompt.from_classes(class_names(plan.names, detector.tokenizer))
    (picture,) = make_pictures(plan.size_hw, 1)
    spent = milliseconds(plan.device, lambda: detector.predict(picture, prompt), 3)
    passes = len(detector.torch_engine.passes.of(prompt))
    return {"names": plan.names, "passes": passes, "seconds": spent / 1e3}


def launches(plan: Plan) -> dict[str, Any]:
    """Kernels of one prediction, the longest of them, and how much of the time the GPU works."""
    from torch.profiler import ProfilerActivity, profile

    engine = detector_of(plan, "bfloat16").torch_engine
    (part,) = engine.passes.of(short_prompt(TOKENS, engine.tokenizer))
    pixels = prepared(plan, engine, 1)
    on_gpu = plan.device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]

    def once() -> None:
        with torch.inference_mode():
            pyramid = engine.model.encode_image(pixels)
            list(engine.model.predict_prompts(pyramid, engine._words([[part]])))
        wait_for(plan.device)

    for _ in range(2):
        once()
    with profile(activities=kinds) as found:
        once()
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda row: -getattr(row, key))
    return {
        "ms": sum(getattr(row, key) for row in rows) / 1e3,
        "longest": [[row.key[:70], getattr(row, key) / 1e3, row.count] for row in rows[:20]],
    }


def training(plan: Plan) -> dict[str, Any]:
    """Steps of the training loop on one batch, which is uploaded each time."""
    result: dict[str, Any] = {}
    for batch in plan.training_batches:
        fresh_peak(plan.device)
        config = RunConfig(model=plan.model, precision="bfloat16", steps=STEPS, log_every=1)
        detector = detector_of(plan, "float32")
        state, resting = new_state(config, detector, plan.device)
        found = _trained(state, resting, repeat(_a_batch(plan, detector, batch)), config, STEPS)
        milliseconds_each = [1e3 * one.seconds for one in found[2:]]
        result[f"batch {batch}"] = {
            "ms": statistics.median(milliseconds_each),
            "peak_gib": peak_gib(plan.device),
            "losses": found[-1].losses,
        }
    return result


def nano_training(plan: Plan) -> dict[str, Any]:
    """glip_nano through the loader, pictures of 256 pixels: with it, and waiting for it."""
    result: dict[str, Any] = {}
    data = DataConfig(augment=AugmentConfig(short_sides=(256,), long_side=256, flip=0.5))
    on_gpu = plan.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        file = enlarged_samples(Path(folder), (288, 288), photos=16)
        for batch in plan.nano_batches:
            config = RunConfig(precision="bfloat16", steps=plan.nano_steps, log_every=10, ema=0.998)
            small = replace(plan, model="glip_nano", size_hw=(256, 256))
            detector = detector_of(small, "float32")
            dataset, records = samples(file, data, detector.config, None, raw=on_gpu)
            state, resting = new_state(config, detector, plan.device)
            sampler = MixtureSampler([records], batch_size=batch, steps=plan.nano_steps, seed=0)
            batches = training_loader(dataset, sampler, workers=plan.workers, pin_memory=on_gpu)
            found = _trained(state, resting, batches, config, plan.nano_steps)[-1]
            result[f"batch {batch}"] = {
                "per_second": batch / found.seconds,
                "share_waiting_for_data": found.data_seconds / found.seconds,
            }
    return result


def _trained(
    state: TrainState, resting: Sequence[str], batches: Any, config: RunConfig, steps: int
) -> list[StepReport]:
    """What the loop reports of so many steps."""
    reports: list[StepReport] = []
    loop = LoopConfig(steps, precision=config.precision, log_every=config.log_every)
    schedule = Schedule(config.schedule, steps)
    train(state, batches, Criterion(), schedule, loop, resting=resting, report=reports.append)
    return reports


def _a_batch(plan: Plan, detector: Detector, count: int) -> Batch:
    """Made-up pictures with boxes all over them, as the loader hands them over for a GPU."""
    random = np.random.default_rng(0)
    (part,) = short_prompt(TOKENS, detector.tokenizer).passes(detector.tokenizer)
    pictures = [
        torch.from_numpy(np.array(_sized(picture, plan.size_hw))).permute(2, 0, 1)
        for picture in make_pictures(plan.size_hw, count)
    ]
    height, width = plan.size_hw
    targets = []
    for _ in range(count):
        corners = random.uniform(0, 0.7, (BOXES, 2)) * [width, height]
        sides = random.uniform(0.03, 0.3, (BOXES, 2)) * [width, height]
        boxes = torch.from_numpy(np.concatenate([corners, corners + sides], 1)).float()
        targets.append(Target(boxes, torch.from_numpy(random.integers(0, len(part.rows), BOXES))))
    tokens = Tokens.pad([part.token_ids] * count, detector.tokenizer.pad_id)
    batch = Batch(
        RawPixels.of(pictures, detector.config.pixels),
        tokens,
        Targets.pad(targets, [torch.from_numpy(part.token_map)] * count, tokens.mask),
        list(range(count)),
    )
    return batch.pin_memory() if plan.device.type == "cuda" else batch


def _sized(picture: Image.Image, hw: tuple[int, int]) -> Image.Image:
    return picture.resize((hw[1], hw[0]), Image.Resampling.BILINEAR)


PARTS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "agreement": agreement,
    "latency": latency,
    "road": road,
    "many_names": many_names,
    "launches": launches,
    "training": training,
    "nano_training": nano_training,
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a rehearsal with the small model")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--size", type=size_hw, help="of the resized picture, e.g. 800x1333")
    parser.add_argument("--workers", type=int, help="processes that read training pictures")
    parser.add_argument("--json", type=Path, help="write all numbers there, after each part")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write."""
    options = parse(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --small --device cpu is a rehearsal")
    plan = rehearsal(device) if options.small else Plan(device)
    changes = {"size_hw": options.size, "workers": options.workers}
    plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    report: dict[str, Any] = {"torch": torch.__version__, "device": name, "model": plan.model}
    print(json.dumps(report))
    for part in options.only:
        start = time.perf_counter()
        try:
            report[part] = PARTS[part](plan)
        except Exception:  # one that fails must not cost the time on a GPU of all others
            report[part] = {"failed": traceback.format_exc()}
        report[part]["took_seconds"] = round(time.perf_counter() - start, 1)
        print(f"\n{part}: {json.dumps(report[part], indent=1)}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    main()
