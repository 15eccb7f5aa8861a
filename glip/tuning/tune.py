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

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from glip.checkpoint import Weights, read
from glip.checkpoint import save as save_weights
from glip.choices import TuneMode
from glip.data.sampling import class_prompt
from glip.detector import Detector
from glip.errors import ConfigError
from glip.evaluation.config import EvaluationConfig
from glip.evaluation.tasks import evaluate_on, read_evaluation
from glip.files import file_sha256, read_json, whole_path, write_json
from glip.jobs.folder import check_same, held, is_begun
from glip.progress import Progress
from glip.released import find
from glip.task_prompt import SUFFIX, read_prompt, save_prompt
from glip.training.loop import DivergedError
from glip.training.outcome import sample_pictures, weights_suffix
from glip.training.run import run_training
from glip.training.run_config import RunConfig
from glip.training.words import as_table
from glip.tuning.few_shot import write_selection
from glip.tuning.inputs import OPENED_FIRST, Inputs, read_inputs
from glip.tuning.interpolate import interpolate, interpolate_prompt
from glip.tuning.options import MEASURED_LAST, TuneOptions
from glip.tuning.recipe import at_rate, best_metric, run_config
from glip.tuning.result import write_page

logger = logging.getLogger(__name__)

RESULT = "result.json"
SETTINGS = "settings.json"


def tune(
    options: TuneOptions,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    base_folder: str | os.PathLike[str] | None = None,
    retention_folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
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
        progress: Is told of the steps of training, in the place of a bar on stderr.
    Returns:
        What is in `result.json`: "base", "tuned", "retention", "lr", "selection", and so on.
    Raises:
        ConfigError: Options that do not go together, or a folder of another result.
        DataError: Data that cannot be used.
        CheckpointError: Weights that cannot be read.
        StorageError: Another run is at work in the folder.
    """
    output = Path(output)
    begun = _begun(output, options)
    inputs = read_inputs(options)
    if begun is not None:
        _check_inputs(output, begun, inputs)
        if (done := read_result(output)) is not None:
            _check_file(output, done, options)
            _clear(output, options)
            return done
    started = time.perf_counter()
    if (few := inputs.selection.short) is not None:
        logger.warning("%s", few)
    job = _job(options, output, device, inputs)
    with held(output):
        write_json(output / SETTINGS, {"options": _plain(options), "inputs": inputs.digests})
        write_selection(output / "train.json", inputs.drawn, inputs.selection)
        base = _measured(
            job.base, inputs.evaluation, Path(base_folder or output / "base"), job.made_of()
        )
        rates = _train(job, progress)
        file = _keep(output, output / f"lr_{rates['chosen']:g}", options.mode)
        tuned = _tuned_detector(job, file)
        result: dict[str, Any] = {
            "settings": _plain(options),
            "model": job.weights.config.name,
            "fingerprint": job.base.fingerprint,
            "selection": inputs.selection.to_dict(),
            "base": base,
            "lr": rates,
            "file": file.name,
            "tuned": _measured(tuned, inputs.evaluation, output / "tuned", job.made_of(file)),
            **_retention(job, tuned, file, Path(retention_folder or output / "retention")),
            "interpolated": _interpolated(job, file),
            "seconds": round(time.perf_counter() - started, 1),
        }
        pictures = sample_pictures(
            read_evaluation(inputs.evaluation),
            output / "tuned",
            tuned.lowest_threshold,
            inputs.evaluation.sample_pictures,
        )
        write_page(output, result, pictures)
        write_json(output / RESULT, result)
        _clear(output, options)
    return result


class _Job(NamedTuple):
    """A task, its base model, and the run that adapts it."""

    options: TuneOptions
    output: Path
    device: torch.device
    inputs: Inputs
    weights: Weights
    base: Detector
    config: RunConfig

    def made_of(self, file: Path | None = None) -> list[str]:
        """SHA-256 of the base and of a file made from it, so that no results of another are taken
        for its own.
        """
        base = self.inputs.digests["weights"]
        return [base] if file is None else [base, file_sha256(file)]


def _job(options: TuneOptions, output: Path, device: torch.device, inputs: Inputs) -> _Job:
    """Refuse, before anything is written or computed, all that can be refused."""
    weights = read(find(options.weights))
    base = Detector.from_weights(weights, device=device)
    config = run_config(options, weights.config, output, inputs)
    prompt = class_prompt(inputs.drawn.names)
    if options.mode == "prompt" and options.prompt is None:
        as_table(base, prompt)
    prompt.passes(base.tokenizer, base.config.text.max_tokens)
    if len(inputs.drawn) <= OPENED_FIRST:
        for record in inputs.drawn.records:
            inputs.pictures.read(record.file_name)
    return _Job(options, output, device, inputs, weights, base, config)


def _train(job: _Job, progress: Progress | None) -> dict[str, Any]:
    """Train at each rate: the best AP of each that was "tried", and which one is "chosen"."""
    runs: dict[float, float | None] = {}
    diverged: dict[float, DivergedError] = {}
    for rate in job.options.rates:
        folder = job.output / f"lr_{rate:g}"
        runs[rate] = None
        try:
            if not os.path.exists(folder / "report.html"):
                config = at_rate(job.config, job.options.mode, rate)
                run_training(
                    config, folder, job.device, resume=os.path.exists(folder), progress=progress
                )
            runs[rate] = best_metric(folder)
        except DivergedError as error:
            logger.warning("rate %g: %s", rate, error)
            diverged[rate] = error
    if len(diverged) == len(runs):
        tried = ", ".join(f"{rate:g}" for rate in runs)
        raise DivergedError(
            f"training diverged at the learning rate {tried}; delete {job.output} and take a lower "
            "one (--lr)"
        ) from next(iter(diverged.values()))
    # Without an evaluation, the first.
    ranked = {rate: -1.0 if ap is None else ap for rate, ap in runs.items() if rate not in diverged}
    chosen = max(ranked, key=lambda rate: ranked[rate])
    return {"tried": {f"{rate:g}": value for rate, value in runs.items()}, "chosen": chosen}


def _retention(job: _Job, tuned: Detector, file: Path, base_folder: Path) -> dict[str, Any]:
    """What is left on the set that was not tuned on, as "retention"; empty without one."""
    other = job.inputs.retention
    if other.annotations is None:
        return {}
    before = after = _measured(job.base, other, base_folder, job.made_of())
    # A learned prompt leaves the model as it is: without it, nothing has changed.
    if job.options.mode != "prompt":
        after = _measured(tuned, other, job.output / "retention_tuned", job.made_of(file))
    return {"retention": {"base": before, "tuned": after}}


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
    if not os.path.exists(output / RESULT):  # what is only measured in the end may still change
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
    if kept and not os.path.exists(output / done["file"]):
        raise ConfigError(
            f"{output} has a result, but its {done['file']} is gone; delete the folder to make it "
            "again"
        )


def _json(file: Path, output: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = read_json(file)
        if not isinstance(content, dict) or (file.name == SETTINGS and "inputs" not in content):
            raise ValueError("of another kind")
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({error}); delete {output}") from error
    return content


def read_result(output: Path) -> dict[str, Any] | None:
    """What `tune` has left in a folder; None if it has not finished there."""
    return _json(output / RESULT, output) if os.path.exists(output / RESULT) else None


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


def _tuned_detector(job: _Job, file: Path) -> Detector:
    if file.name.endswith(SUFFIX):
        return job.base.with_prompt(file)
    return Detector.from_weights(read(file), device=job.device)


def _keep(output: Path, folder: Path, mode: TuneMode) -> Path:
    """Gives the chosen file its name in `output`."""
    suffix = weights_suffix(mode)
    target = output / ("task" + suffix if mode == "prompt" else "tuned" + suffix)
    for name in ("model_best", "model_final"):
        if os.path.exists(folder / f"{name}{suffix}"):
            with whole_path(target) as unfinished:
                shutil.copyfile(folder / f"{name}{suffix}", unfinished)
            return target
    raise ConfigError(f"{folder} holds no weights; delete it and start again")


def _interpolated(job: _Job, tuned_file: Path) -> list[dict[str, Any]]:
    """What each share of the tuned weights gives; writes them beside the tuned ones."""
    rows = []
    for share in job.options.interpolate:
        file = job.output / tuned_file.name.replace(".", f"_{share:g}.", 1)
        if job.options.mode == "prompt":
            save_prompt(file, interpolate_prompt(read_prompt(tuned_file), share))
        else:
            save_weights(file, interpolate(job.weights, read(tuned_file), share))
        between, made_of = _tuned_detector(job, file), job.made_of(file)
        folder = job.output / f"tuned_{share:g}"
        row: dict[str, Any] = {"share": share, "file": file.name}
        row["tuned"] = _measured(between, job.inputs.evaluation, folder, made_of)
        if job.options.mode != "prompt":
            folder = job.output / f"retention_{share:g}"
            row["retention"] = _measured(between, job.inputs.retention, folder, made_of)
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
