"""Adapt a model to a task with a data set and one word: which parts are trained.

`tune` draws the few shots, makes the run that `glip.training.run` carries out, once for each
learning rate of a grid, keeps the best, and says what was won on the task and what was lost on a
set that was not tuned on. The folder of a result holds

    train.json                  the pictures that were drawn, with the rule's record
    task.prompt.safetensors     of prompt tuning, for `Detector.with_prompt`; or
    tuned.safetensors           of every other way, for `glip.load`
    result.json, report.html    settings, numbers, curves, pictures
    lr_.../                     the run of each rate: configuration, curves, report
    base/, tuned/               predictions before and after

A rerun goes on where it was stopped, and refuses other settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from glip.checkpoint import Weights, file_sha256, find, read
from glip.checkpoint import save as save_weights
from glip.config import ModelConfig
from glip.data.augment import AugmentConfig
from glip.data.formats.coco import to_coco
from glip.data.formats.recognise import Part, read_annotated, train_and_val
from glip.data.pictures import Pictures
from glip.data.records import Annotated, DetectionData
from glip.data.sampling import SamplingConfig, class_prompt
from glip.detector import Detector
from glip.errors import ConfigError, DataError
from glip.files import make_folder, whole_path, write_json
from glip.jobs.folder import check_same, is_begun
from glip.task_prompt import SUFFIX, read_prompt, reads_as, save_prompt
from glip.text.mirror import mirror_name
from glip.training.freezing import FreezeConfig, TuneMode
from glip.training.loop import DivergedError
from glip.training.optim import OptimizerConfig, PlateauConfig, ScheduleConfig
from glip.training.record import read_records
from glip.training.run import evaluate_on, run, sample_pictures, weights_suffix
from glip.training.run_config import DataConfig, EvaluationConfig, RunConfig, SourceConfig
from glip.training.words import as_table, check_names
from glip.tuning.few_shot import Selection, select, write_selection
from glip.tuning.interpolate import interpolate, interpolate_prompt
from glip.tuning.result import write_page

logger = logging.getLogger(__name__)

RESULT = "result.json"
SETTINGS = "settings.json"
MEASURED_LAST = ("retention", "retention_images", "interpolate")
"""Options that a run which has not ended may still change."""
OPENED_FIRST = 200
"""Pictures to learn from, if they are no more than these, are opened before anything else is done:
one that cannot be read would end the training."""
EPOCHS = 8
MIN_STEPS, MAX_STEPS = 200, 1000
"""Without a length of its own a run takes eight epochs, but no fewer and no more steps than these:
minutes on a CPU with glip_nano."""


@dataclass(frozen=True)
class Rates:
    """What the optimizer is told for a way of tuning."""

    lr: float
    text_lr: float
    weight_decay: float

    def at(self, lr: float) -> Rates:
        """The same at another rate; the text encoder's follows in proportion."""
        return Rates(lr, self.text_lr * lr / self.lr, self.weight_decay)


# official (reference G.4), but for "head" and "lora", which are ours.
RATES: Mapping[TuneMode, Rates] = {
    "full": Rates(1e-4, 1e-5, 0.05),
    "head": Rates(1e-4, 1e-5, 0.05),
    "linear_probe": Rates(1e-4, 1e-5, 0.05),
    "prompt": Rates(0.05, 0.05, 0.25),
    "language": Rates(1e-5, 1e-5, 1e-4),
    "lora": Rates(5e-4, 5e-4, 0.0),
}
GRID = (0.3, 1.0, 3.0)
"""Times the rate of a mode, for a search that is not told which rates to try."""


@dataclass(frozen=True)
class TuneOptions:
    """What to adapt to what, and how."""

    data: str
    """Annotation file, or folder with `train` and `val` parts."""
    mode: TuneMode = "prompt"
    weights: str | None = None
    """Of the base model; None for the one that ships with the package."""
    prompt: str | None = None
    """For mode "prompt": a file of words to start from, as `glip prompts` writes it; by default the
    names of the classes."""
    val: str | None = None
    """To choose the best weights on; by default the `val` part of `data`, if it has one."""
    images: str | None = None
    """Folder or tar; by default beside the annotations."""
    shots: int | None = None
    """Pictures of each class; None for all."""
    seed: int = 0
    """Of the shots and of the run."""
    lr: tuple[float, ...] = ()
    """Rates to try, the best is kept; by default the one of the mode."""
    search_lr: bool = False
    """Try 0.3, 1 and 3 times the rate of the mode."""
    steps: int | None = None
    epochs: float | None = None
    """Length: one of the two, or neither for a length that follows from the data."""
    batch_size: int = 4
    evaluations: int = 10
    """On the way, of which the best decides; on a CPU they can take longer than the training."""
    cache: bool = True
    """Compute what is not trained once for each picture. Off, sizes of pictures vary as well."""
    retention: str | None = None
    """A detection set that is not tuned on, to see what is left of the open vocabulary."""
    retention_images: str | None = None
    replay: str | None = None
    """Data of the base model to train on beside the task's."""
    replay_images: str | None = None
    replay_share: float = 0.5
    """Of the training pictures, how many are replayed."""
    interpolate: tuple[float, ...] = ()
    """Shares of the tuned weights between base (0) and tuned (1) to measure as well."""
    limit: int | None = None
    """Only the first pictures of each evaluation, for a quick look."""
    keep_weights: bool = True
    """Off, only numbers stay (learned prompts always do, being small)."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(TuneMode):
            raise ConfigError(f"mode must be one of {get_args(TuneMode)}, got {self.mode!r}")
        if self.lr and self.search_lr:
            raise ConfigError(f"give rates ({self.lr}) or let them be searched, not both")
        if any(not 0 < rate < math.inf for rate in self.lr):
            raise ConfigError(f"learning rates must be above 0 and finite, got {self.lr}")
        for name in ("evaluations", "batch_size", "steps", "limit"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise ConfigError(f"epochs must be above 0, got {self.epochs}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must lie between 0 and 2^32 - 1, got {self.seed}")
        if self.shots is not None and self.shots < 1:
            raise ConfigError(f"shots must be at least 1, got {self.shots}; leave it out for all")
        if self.prompt is not None and self.mode != "prompt":
            raise ConfigError(f"a prompt to start from is for the mode prompt, not {self.mode}")
        if self.replay is not None and self.mode == "prompt":
            raise ConfigError(
                "prompt tuning leaves the model as it is, so there is nothing to replay for; "
                "leave --replay out"
            )
        if not 0 < self.replay_share < 1:
            raise ConfigError(f"replay_share must lie between 0 and 1, got {self.replay_share}")
        if any(not 0 <= share <= 1 for share in self.interpolate):
            raise ConfigError(f"interpolate: shares lie in [0, 1], got {self.interpolate}")

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates to try."""
        usual = RATES[self.mode].lr
        if self.search_lr:
            return tuple(usual * factor for factor in GRID)
        return self.lr or (usual,)


def tune(
    options: TuneOptions,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    base_folder: str | os.PathLike[str] | None = None,
    retention_folder: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Adapt a model and measure it before and after; goes on where it was stopped.

    Args:
        options: See there.
        output: Folder, made if need be.
        device: To run on.
        base_folder: Where results of the base model on the task go, which several calls may share;
            by default `base` in `output`.
        retention_folder: Likewise on the set that is not tuned on, which several tasks may share;
            by default `retention` in `output`.
    Returns:
        What is in `result.json`: "base", "tuned", "retention", "lr", "selection", and so on.
    Raises:
        ConfigError: Options that do not go together, or a folder of another result.
        DataError: Data that cannot be used.
        CheckpointError: Weights that cannot be read.
    """
    output = Path(output)
    begun = _begun(output, options)
    inputs = _read(options)
    if begun is not None:
        _check_inputs(output, begun, inputs)
        if (done := read_result(output)) is not None:
            _check_file(output, done, options)
            _clear(output, options)
            return done
    started = time.perf_counter()
    if (few := inputs.selection.short) is not None:
        logger.warning("%s", few)
    base = inputs.digests["weights"]
    weights = read(find(options.weights))
    detector = Detector.from_weights(weights, device=device)
    # Everything that can be refused is refused before anything is written or computed.
    config = run_config(options, weights.config, output, inputs)
    prompt = class_prompt(inputs.drawn.names)
    if options.mode == "prompt" and options.prompt is None:
        as_table(detector, prompt)
    prompt.passes(detector.tokenizer, detector.config.text.max_tokens)
    if len(inputs.drawn) <= OPENED_FIRST:
        for record in inputs.drawn.records:
            inputs.pictures.read(record.file_name)

    make_folder(output)
    write_json(output / SETTINGS, {"options": _plain(options), "inputs": inputs.digests})
    write_selection(output / "train.json", inputs.drawn, inputs.selection)
    evaluation, other = inputs.evaluation, inputs.retention
    result: dict[str, Any] = {
        "settings": _plain(options),
        "model": weights.config.name,
        "fingerprint": detector.fingerprint,
        "selection": inputs.selection.to_dict(),
        "base": _measured(detector, evaluation, Path(base_folder or output / "base"), [base]),
    }

    runs: dict[float, float | None] = {}
    diverged: dict[float, DivergedError] = {}
    for rate in options.rates:
        folder = output / f"lr_{rate:g}"
        runs[rate] = None
        try:
            if not (folder / "report.html").exists():
                run(_at(config, options.mode, rate), folder, device, resume=folder.exists())
            runs[rate] = best_metric(folder)
        except DivergedError as error:
            logger.warning("rate %g: %s", rate, error)
            diverged[rate] = error
    if len(diverged) == len(runs):
        tried = ", ".join(f"{rate:g}" for rate in runs)
        raise DivergedError(
            f"training diverged at the learning rate {tried}; delete {output} and take a lower one "
            "(--lr)"
        ) from next(iter(diverged.values()))
    # Without an evaluation, the first.
    ranked = {rate: -1.0 if ap is None else ap for rate, ap in runs.items() if rate not in diverged}
    chosen = max(ranked, key=lambda rate: ranked[rate])
    result["lr"] = {"tried": {f"{rate:g}": value for rate, value in runs.items()}, "chosen": chosen}

    tuned_file = _keep(output, output / f"lr_{chosen:g}", options.mode)
    tuned = _tuned_detector(detector, tuned_file, device)
    result["file"] = tuned_file.name
    made_of = [base, file_sha256(tuned_file)]
    result["tuned"] = _measured(tuned, evaluation, output / "tuned", made_of)
    if other.annotations is not None:
        before = _measured(detector, other, Path(retention_folder or output / "retention"), [base])
        # A learned prompt leaves the model as it is: without it, nothing has changed.
        after = before
        if options.mode != "prompt":
            after = _measured(tuned, other, output / "retention_tuned", made_of)
        result["retention"] = {"base": before, "tuned": after}
    result["interpolated"] = _interpolated(
        options, inputs, weights, detector, tuned_file, output, device
    )
    result["seconds"] = round(time.perf_counter() - started, 1)
    write_page(output, result, sample_pictures(evaluation, output / "tuned"))
    write_json(output / RESULT, result)
    _clear(output, options)
    return result


class Inputs(NamedTuple):
    """What a task is made of, read and found good."""

    drawn: DetectionData
    """The pictures to learn from."""
    selection: Selection
    pictures: Pictures
    evaluation: EvaluationConfig
    """Of the part that decides which weights are the best; without annotations if there is none."""
    retention: EvaluationConfig
    """Of the set that is not tuned on, likewise."""
    replay: Part | None
    replayed: int
    """Pictures of the replayed data."""
    digests: dict[str, str]
    """SHA-256 of what the result depends on, by name: a rerun is told if it has changed."""


def _read(options: TuneOptions) -> Inputs:
    """Read all data of a task.

    Raises:
        DataError: Something in it makes the task impossible.
    """
    train, val = _parts(options)
    annotated = read_annotated(train.path, options.images, split=train.split)
    data = _detection(annotated, train.path)
    check_names(data.names)
    drawn, selection = select(data, options.shots, options.seed)
    digests = {"weights": file_sha256(find(options.weights)), str(train.path): _digest(data)}
    if options.prompt is not None:
        read_prompt(options.prompt)
        digests[options.prompt] = file_sha256(options.prompt)
    evaluation = retention = EvaluationConfig(task="custom", limit=options.limit)
    if val is not None:
        held_out = _detection(read_annotated(val.path, options.images, split=val.split), val.path)
        _check_val(data, held_out)
        digests[str(val.path)] = _digest(held_out)
        evaluation = replace(
            evaluation,
            annotations=str(val.path),
            images=options.images,
            split=val.split,
            sample_pictures=4,
        )
    if options.retention is not None:
        whole, held_out_part = train_and_val(options.retention)
        part = held_out_part or whole
        kept = read_annotated(part.path, options.retention_images, split=part.split)
        if not any(len(record.boxes) for record in _detection(kept, part.path).records):
            raise DataError(f"{part.path} has no box, so no retention can be measured on it")
        retention = replace(
            retention,
            annotations=str(part.path),
            images=options.retention_images,
            split=part.split,
        )
    replay, replayed = None, 0
    if options.replay is not None:
        replay, _ = train_and_val(options.replay)
        replayed = len(read_annotated(replay.path, options.replay_images, split=replay.split).data)
    return Inputs(
        drawn, selection, annotated.pictures, evaluation, retention, replay, replayed, digests
    )


def _digest(data: DetectionData) -> str:
    """Of all that a file says."""
    return hashlib.sha256(json.dumps(to_coco(data)).encode()).hexdigest()


def run_config(options: TuneOptions, model: ModelConfig, output: Path, inputs: Inputs) -> RunConfig:
    """The run that tuning is, at the rates of its mode."""
    pictures = max(1, len(inputs.drawn))
    cached = options.cache and options.mode != "full" and options.replay is None
    names = inputs.drawn.names
    known = frozenset(names)
    turned = options.mode == "prompt" and any(mirror_name(n, known) != n for n in names)
    augment = AugmentConfig(flip=0.0 if turned else 0.5)
    if cached:  # features are kept for one size, that of prediction
        augment = replace(
            augment,
            short_sides=(model.pixels.short_side,),
            long_side=model.pixels.long_side,
        )
    sources = [
        SourceConfig(
            str(output / "train.json"),
            images=str(inputs.pictures.root),
            sampling=SamplingConfig("all", shuffle=False),
        )
    ]
    if inputs.replay is not None:
        wanted = pictures * options.replay_share / (1 - options.replay_share)
        sources.append(
            SourceConfig(
                str(inputs.replay.path),
                images=options.replay_images,
                split=inputs.replay.split,
                weight=wanted / max(1, inputs.replayed),
            )
        )
        pictures = math.ceil(pictures + wanted)
    steps = options.steps
    if steps is None and options.epochs is None:
        epochs = math.ceil(EPOCHS * pictures / options.batch_size)
        steps = min(MAX_STEPS, max(MIN_STEPS, epochs))
    length = steps or math.ceil((options.epochs or 1) * pictures / options.batch_size)
    return RunConfig(
        weights=str(find(options.weights)),
        seed=options.seed,
        batch_size=options.batch_size,
        epochs=options.epochs if steps is None else None,
        steps=steps,
        log_every=max(1, length // 50),
        save_every=max(1, length // 4),
        keep_checkpoints=1,
        schedule=ScheduleConfig(
            "constant",
            warmup_steps=0,
            plateau=None
            if inputs.evaluation.annotations is None
            else PlateauConfig(patience=2, stop_patience=4),
        ),
        tune=options.mode,
        # official: a linear probe leaves dropout in the tower on; resting, it is computed once.
        freeze=FreezeConfig(
            parts=("head.stages",) if cached and options.mode == "linear_probe" else ()
        ),
        data=DataConfig(
            sources=tuple(sources),
            augment=augment,
            workers=0,
            group_by_shape=False,
            cache=cached,
        ),
        prompt=options.prompt,
        evaluation=replace(
            inputs.evaluation, every_epochs=None, every_steps=max(1, length // options.evaluations)
        ),
    )


def best_metric(folder: Path) -> float | None:
    """The greatest AP of a run's evaluations; None if there were none."""
    values = [row.get("evaluation/AP") for row in read_records(folder)]
    return max((value for value in values if value is not None), default=None)


def _at(config: RunConfig, mode: TuneMode, rate: float) -> RunConfig:
    rates = RATES[mode].at(rate)
    return replace(
        config,
        optimizer=OptimizerConfig(
            lr=rates.lr, text_lr=rates.text_lr, weight_decay=rates.weight_decay
        ),
    )


def _parts(options: TuneOptions) -> tuple[Part, Part | None]:
    """What to train on and what to choose the best weights on."""
    train, val = train_and_val(options.data)
    if options.val is not None:
        val = Part(Path(options.val))
    if val is None:
        logger.warning(
            "%s has no part to evaluate on: the run goes to its end and nothing says which weights "
            "are the best; name one (--val)",
            options.data,
        )
    return train, val


def _detection(annotated: Annotated, path: Path) -> DetectionData:
    if not isinstance(annotated.data, DetectionData):
        raise DataError(f"{path} holds captions; tuning needs boxes with classes")
    return annotated.data


def _check_val(train: DetectionData, val: DetectionData) -> None:
    """Classes are matched by name, in any order and with any ids."""
    check_names(val.names)
    if not any(len(record.boxes) for record in val.records):
        raise DataError(f"{val.path} has no box, so nothing can be measured on it")
    known = {reads_as(name) for name in train.names}
    strange = [name for name in val.names if reads_as(name) not in known]
    if strange:
        raise DataError(
            f"{val.path} has the class {strange[0]!r}, which {train.path} does not have "
            f"({', '.join(train.names[:10])}); give both files the same classes"
        )


def _plain(options: TuneOptions) -> dict[str, Any]:
    """The options as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    return values


def _begun(output: Path, options: TuneOptions) -> dict[str, Any] | None:
    """What was begun in a folder; None in a new one.

    Raises:
        ConfigError: Something else, or the same with other options.
    """
    if not is_begun(output, SETTINGS):
        return None
    before = _json(output / SETTINGS, output)
    asked = _plain(options)
    if not (output / RESULT).exists():  # what is only measured in the end may still change
        for name in MEASURED_LAST:
            before["options"][name] = asked[name]
    check_same(output, before["options"], asked)
    return before


def _check_inputs(output: Path, begun: Mapping[str, Any], inputs: Inputs) -> None:
    """Refuse to go on with data or weights that are no longer the same.

    Raises:
        ConfigError: They are not.
    """
    before, now = (
        {f"content of {name}": digest for name, digest in digests.items()}
        for digests in (begun["inputs"], inputs.digests)
    )
    check_same(output, before, now)


def _check_file(output: Path, done: Mapping[str, Any], options: TuneOptions) -> None:
    kept = options.keep_weights or options.mode == "prompt"
    if kept and not (output / done["file"]).exists():
        raise ConfigError(
            f"{output} has a result, but its {done['file']} is gone; delete the folder to make it "
            "again"
        )


def _json(file: Path, output: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or (file.name == SETTINGS and "inputs" not in content):
            raise ValueError("of another kind")
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({error}); delete {output}") from error
    return content


def read_result(output: Path) -> dict[str, Any] | None:
    """What `tune` has left in a folder; None if it has not finished there."""
    return _json(output / RESULT, output) if (output / RESULT).exists() else None


def _measured(
    detector: Detector, evaluation: EvaluationConfig, folder: Path, made_of: Sequence[str]
) -> dict[str, Any] | None:
    """Metrics and AP of each class by the COCO protocol; None without data to measure on.

    Args:
        detector: The detector.
        evaluation: What to measure on.
        folder: Of the results, which may be there already.
        made_of: SHA-256 of the files of the detector, so that no results of another are taken for
            its own.
    """
    if evaluation.annotations is None:
        return None
    results = evaluate_on(evaluation, detector, folder, {"weights_sha256": list(made_of)})
    return {**results["metrics"], "per_class": results["per_class"]}


def _tuned_detector(base: Detector, file: Path, device: torch.device) -> Detector:
    if file.name.endswith(SUFFIX):
        return base.with_prompt(file)
    return Detector.from_weights(read(file), device=device)


def _keep(output: Path, folder: Path, mode: TuneMode) -> Path:
    """Gives the chosen file its name in `output`."""
    suffix = weights_suffix(mode)
    target = output / ("task" + suffix if mode == "prompt" else "tuned" + suffix)
    for name in ("model_best", "model_final"):
        if (folder / f"{name}{suffix}").exists():
            with whole_path(target) as unfinished:
                shutil.copyfile(folder / f"{name}{suffix}", unfinished)
            return target
    raise ConfigError(f"{folder} holds no weights; delete it and start again")


def _interpolated(
    options: TuneOptions,
    inputs: Inputs,
    weights: Weights,
    base: Detector,
    tuned_file: Path,
    output: Path,
    device: torch.device,
) -> list[dict[str, Any]]:
    """What each share of the tuned weights gives; writes them beside the tuned ones."""
    rows = []
    for share in options.interpolate:
        file = output / tuned_file.name.replace(".", f"_{share:g}.", 1)
        if options.mode == "prompt":
            save_prompt(file, interpolate_prompt(read_prompt(tuned_file), share))
        else:
            save_weights(file, interpolate(weights, read(tuned_file), share))
        between = _tuned_detector(base, file, device)
        row: dict[str, Any] = {"share": share, "file": file.name}
        made_of = [inputs.digests["weights"], file_sha256(file)]
        row["tuned"] = _measured(between, inputs.evaluation, output / f"tuned_{share:g}", made_of)
        if options.mode != "prompt":
            folder = output / f"retention_{share:g}"
            row["retention"] = _measured(between, inputs.retention, folder, made_of)
        rows.append(row)
    return rows


def _clear(output: Path, options: TuneOptions) -> None:
    """What only a run that goes on would need, and weights that nobody wants to keep."""
    for folder in output.glob("lr_*"):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for file in folder.glob("model_*.safetensors"):
            file.unlink()
    if not options.keep_weights and options.mode != "prompt":
        for file in output.glob("tuned*.safetensors"):
            file.unlink()
