"""A run from its configuration to weights, logs and a report: where config meets constructors.

The folder of a run holds

    config.yaml                 all values of the run
    checkpoints/                to resume from
    metrics.jsonl, tensorboard/ losses, rates and evaluations
    evaluation/step_.../        predictions and results of each evaluation
    model_best.safetensors      weights of the best evaluation
    model_final.safetensors     weights of the end
                                (tune: prompt writes model_*.prompt.safetensors instead)
    report.html                 curves, AP of each class, sample pictures
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn

from glip.checkpoint import Weights, file_sha256, find, read
from glip.checkpoint import save as save_weights
from glip.data.batch import Batch
from glip.data.caption_packing import CaptionPacker
from glip.data.doctor.examine import examine
from glip.data.formats.recognise import read_annotated
from glip.data.loader import TrainingSet, training_loader
from glip.data.mixture import MixtureSampler
from glip.data.records import Annotated, DetectionData
from glip.data.sampling import class_prompt
from glip.data.sources import DetectionSource, GroundingSource, Source
from glip.detector import Detector
from glip.distributed import is_main, on_main, rank, world_size
from glip.errors import CheckpointError, ConfigError, DataError, NotFiniteError
from glip.evaluation.evaluate import read_results, table
from glip.evaluation.predictions import read_predictions
from glip.evaluation.tasks import run_task
from glip.files import whole_file
from glip.model.presets import build, preset
from glip.report.run import SamplePicture, write_report
from glip.settings import differences, to_yaml
from glip.structures import Detections
from glip.task_prompt import SUFFIX, read_prompt, save_prompt
from glip.text.tokenizer import Tokenizer
from glip.training.ema import Ema
from glip.training.features import (
    CachedBatches,
    CachedPyramids,
    FeatureCache,
    FromFeatures,
)
from glip.training.freezing import TuneMode, freeze
from glip.training.loop import DivergedError, LoopConfig, train
from glip.training.lora import add_lora, merged
from glip.training.optim import Plateau, Schedule, build_optimizer
from glip.training.parallel import (
    checkpoint_activations,
    is_sharded,
    parallelise,
    synchronise_batch_norm,
    unwrapped,
    whole,
)
from glip.training.record import Recorder, read_records
from glip.training.run_config import EvaluationConfig, RunConfig, SourceConfig
from glip.training.state import CheckpointFolder, TrainState, seed_generators
from glip.training.words import as_table, prompt_of
from glip.visualize import draw

logger = logging.getLogger(__name__)

DRAWN_SCORE = 0.3  # detections of the report's pictures score at least this
FOLDER_OF_STEP = "step_{:08d}"


def run(
    config: RunConfig,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Train as configured; a collective call where several processes work together.

    Args:
        config: The run.
        output: Its folder, made if need be; all processes have to see it.
        device: Of this process.
        resume: Go on from the newest checkpoint in the folder, if there is one.
    Returns:
        Metrics of the last evaluation, empty without one.
    Raises:
        GlipError: Data, weights or options that do not fit, a folder that already holds a run, or
            training that diverged.
    """
    output = Path(output)
    checkpoints = CheckpointFolder(output / "checkpoints", config.keep_checkpoints)
    _prepare_folder(output, config, resume)

    detector = starting_point(config, device)
    if not config.data.sources:
        raise ConfigError("data.sources is empty; name at least one data set to train on")
    on_main(lambda: _examine(config.data.sources, detector))
    sources = [training_source(source, detector) for source in config.data.sources]
    detector = _with_learned_part(detector, config, sources)
    model = detector.model
    resting = freeze(model, config.freeze, config.tune)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if config.freeze.batch_norm == "batch":
        model = synchronise_batch_norm(model)
    wrapped = parallelise(FromFeatures(model) if config.data.cache else model, config.strategy)
    plateau = config.schedule.plateau
    state = TrainState(
        wrapped,
        build_optimizer(unwrapped(wrapped).named_parameters(), config.optimizer),
        torch.amp.GradScaler(device.type, enabled=config.precision == "float16"),
        ema=None if config.ema is None else Ema(unwrapped(wrapped), config.ema),
        plateau=None if plateau is None else Plateau(plateau),
    )
    seed_generators(config.seed)
    if resume:
        checkpoints.load_newest(state)
        on_main(lambda: _drop_later_evaluations(output, state.step))
    on_main(lambda: _check_evaluation(config.evaluation))

    per_process, rest = divmod(config.batch_size, world_size() * config.accumulate)
    if rest or not per_process:
        raise ConfigError(
            f"batch_size {config.batch_size} cannot be divided among {world_size()} processes and "
            f"{config.accumulate} batches of each"
        )
    accumulate = config.accumulate
    if config.data.cache and config.strategy == "fsdp" and world_size() > 1:
        raise ConfigError(
            "data.cache runs parts of the model by themselves, which strategy: fsdp has divided; "
            "use strategy: ddp, or data.cache=false"
        )
    if config.data.cache:  # pictures one by one, see `glip.training.features`
        per_process, accumulate = 1, per_process * accumulate

    def sampler(steps: int, start: int) -> MixtureSampler:
        grouped = config.data.group_by_shape and per_process > 1
        shapes = [source.is_tall() for source in sources] if grouped else None
        return MixtureSampler(
            [len(source) for source in sources],
            batch_size=per_process,
            steps=steps * accumulate,
            seed=config.seed,
            weights=[source.weight for source in config.data.sources],
            repeats=[source.repeats() for source in sources],
            start=start * accumulate,
            rank=rank(),
            world_size=world_size(),
            is_tall=shapes,
        )

    epoch = sampler(0, 0).steps_per_epoch / accumulate  # steps of the optimizer
    steps = _steps(config, epoch)
    training_set = TrainingSet(
        sources,
        detector.tokenizer,
        detector.config.pixels,
        config.data.augment,
        max_tokens=detector.config.text.max_tokens,
        passes=None if detector.task is None else detector.task.passes,
    )
    loader: Iterable[Batch]
    encode_image: CachedPyramids | None = None
    if config.data.cache:
        cache = FeatureCache(config.data.cache_gib)
        loader = CachedBatches(
            training_set, sampler(steps, state.step), model, resting, cache, device
        )
        encode_image = CachedPyramids(model, cache)
    else:
        loader = training_loader(
            training_set,
            sampler(steps, state.step),
            workers=config.data.workers,
            pin_memory=device.type == "cuda",
        )
    loop = LoopConfig(
        steps,
        accumulate=accumulate,
        precision=config.precision,
        clip_norm=config.optimizer.clip_norm,
        log_every=min(config.log_every, steps),
        save_every=config.save_every,
        evaluate_every=_every(config.evaluation, epoch),
        metric=config.evaluation.metric,
    )
    latest: dict[str, float] = dict(state.history[-1]) if state.history else {}
    recorder = Recorder(output, steps, start=state.step, pictures=config.batch_size)

    suffix = weights_suffix(config.tune)

    def evaluate(now: nn.Module) -> Mapping[str, float]:
        seen = _plain_detector(now, detector, device, encode_image)
        folder = output / "evaluation" / FOLDER_OF_STEP.format(state.step)
        try:
            metrics = numbers(evaluate_on(config.evaluation, seen, folder))
        except NotFiniteError as error:
            raise DivergedError(
                f"after {state.step} steps the model gives NaN or infinity; lower the learning rate"
            ) from error
        recorder.evaluation(state.step, metrics)
        latest.clear()
        latest.update(metrics)
        return metrics

    def save(now: TrainState) -> None:
        # The weights first: a run that is killed in between does this step again.
        if now.best_step == now.step:
            _save_weights(output / f"model_best{suffix}", now, detector, config)
        if now.stopped or now.step == steps:
            _save_weights(output / f"model_final{suffix}", now, detector, config)
        checkpoints.save(now)

    with recorder:
        train(
            state,
            loader,
            config.losses,
            Schedule(config.schedule, steps),
            loop,
            resting=resting,
            report=recorder.step,
            save=save,
            evaluate=evaluate if config.evaluation.annotations is not None else None,
        )
    on_main(lambda: _report(output, config, state))
    latest.pop("step", None)
    return latest


def evaluate_only(
    config: RunConfig,
    output: str | os.PathLike[str],
    device: torch.device,
    *,
    resume: bool = False,
) -> dict[str, float]:
    """Evaluate the weights that a run starts from or, with `resume`, those it has come to.

    Raises:
        GlipError: Nothing to evaluate on, or weights or data that do not fit.
    """
    output = Path(output)
    if config.evaluation.annotations is None:
        raise ConfigError("evaluation.annotations is not set: there is nothing to evaluate on")
    name, weights = "start", None
    if resume:
        suffix = weights_suffix(config.tune)
        files = [output / f"model_final{suffix}", output / f"model_best{suffix}"]
        weights = next((file for file in files if file.exists()), None)
        if weights is None:
            raise CheckpointError(f"{output} holds no weights yet; evaluate without --resume")
        if config.tune != "prompt":
            config = replace(config, weights=str(weights))
        # Later weights of the same name are evaluated anew.
        name = f"{weights.stem}_{int(weights.stat().st_mtime)}"
    detector = starting_point(config, device)
    if weights is not None and config.tune == "prompt":
        detector = detector.with_prompt(weights)
    of: dict[str, Any] = {"model": config.model, "seed": config.seed}
    if config.weights is not None:
        of = {"weights_sha256": file_sha256(find(config.weights))}
    return numbers(evaluate_on(config.evaluation, detector, output / "evaluation" / name, of))


def weights_suffix(tune: TuneMode) -> str:
    """How the files end that a run leaves: weights, or a learned prompt."""
    return SUFFIX if tune == "prompt" else ".safetensors"


def starting_point(config: RunConfig, device: torch.device) -> Detector:
    """Model, tokenizer and model config that a run starts from; the same on every process."""
    if config.weights is not None:
        weights = read(find(config.weights))
    else:
        torch.manual_seed(config.seed)
        chosen = preset(config.model)
        weights = Weights(chosen, build(chosen).state_dict())
    return Detector.from_weights(weights, device=device)


def training_source(config: SourceConfig, detector: Detector) -> Source:
    """A data set as training draws from it."""
    annotated = read_annotated(
        config.annotations, config.images, split=config.split, label_map=config.label_map
    )
    data, pictures = annotated.data, annotated.pictures
    if isinstance(data, DetectionData):
        if config.vocabulary is not None:
            data = data.only(config.vocabulary)
        return DetectionSource(
            data,
            pictures,
            detector.tokenizer,
            config.sampling,
            max_tokens=detector.config.text.max_tokens,
            keep_empty=config.keep_empty,
            repeat_threshold=config.repeat_threshold,
        )
    return GroundingSource(
        data,
        pictures,
        min_score=config.min_score,
        trust_scores=config.trust_scores,
        ignore_unsure=config.ignore_unsure,
        packer=CaptionPacker(
            detector.tokenizer, config.packing, max_tokens=detector.config.text.max_tokens
        ),
    )


def _with_learned_part(
    detector: Detector, config: RunConfig, sources: Sequence[Source]
) -> Detector:
    """The detector with what the way of tuning puts into the model, which predicts as before."""
    if config.tune not in ("prompt", "lora"):
        return detector
    if config.strategy == "fsdp" and world_size() > 1:
        raise ConfigError(f"tune: {config.tune} trains too little to be divided; use strategy: ddp")
    if config.tune == "prompt":
        prompt = prompt_of(sources, config.data.augment.flip)
        if config.prompt is None:
            return detector.with_prompt(as_table(detector, prompt))
        # Thresholds that were fitted to these words will not fit the learned ones.
        task = replace(read_prompt(config.prompt), thresholds=())
        if len(task.names) != len(prompt):
            raise ConfigError(
                f"prompt: {config.prompt} has the classes {', '.join(task.names[:10])}, the data "
                f"{', '.join(prompt.names[:10])}"
            )
        task.answer(prompt)  # all of them by name
        return detector.with_prompt(task)
    torch.manual_seed(config.seed)  # the same factors on all processes
    add_lora(detector.model, config.lora)
    return detector


def _examine(sources: Sequence[SourceConfig], detector: Detector) -> None:
    """The quick part of `glip doctor`, each data set once.

    Raises:
        DataError: One cannot be trained on.
    """
    # Class labels of ODVG lines are no data set without their label map, which the doctor does not
    # know; their reader checks each line.
    data_sets = [(s.annotations, s.images, s.split) for s in sources if s.label_map is None]
    for path, images, split in dict.fromkeys(data_sets):
        report = examine(
            path,
            images,
            quick=True,
            split=split,
            tokenizer=detector.tokenizer,
            max_tokens=detector.config.text.max_tokens,
        )
        report.refuse_if_broken()
        for finding in report.findings:
            if finding.level == "warning":
                logger.warning("%s: %s", path, finding)


def evaluate_on(
    config: EvaluationConfig,
    detector: Detector,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Results of a detector by the protocol of the config, as `glip.evaluation.tasks.run_task`.

    Args:
        config: What to evaluate on.
        detector: The detector.
        folder: Of this evaluation; one that was stopped there goes on.
        settings: What tells this detector from others that may be evaluated into the same folder.
    Raises:
        DataError: The folder holds predictions of other settings.
    """
    assert config.annotations is not None
    results = run_task(
        config.task,
        detector,
        [config.annotations],
        folder,
        images=config.images,
        split=config.split,
        batch_size=config.batch_size,
        limit=config.limit,
        settings=settings,
    )
    if is_main():
        logger.info("%s\n%s", folder, table(results))
    return results


def numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of results; those without a value are left out."""
    return {name: value for name, value in results["metrics"].items() if value is not None}


def _check_evaluation(config: EvaluationConfig) -> None:
    """Refuse, before anything is trained, what no evaluation could decide on.

    Raises:
        DataError: No box to measure on.
    """
    if config.annotations is None or config.task not in ("coco", "lvis", "custom"):
        return
    data = read_annotated(config.annotations, config.images, split=config.split).data
    if not isinstance(data, DetectionData):
        return  # the evaluation says what is wrong
    count = len(data) if config.limit is None else min(config.limit, len(data))
    if not any((~data.records[row].crowd).any() for row in range(count)):
        which = "" if config.limit is None else f" in its first {config.limit} pictures"
        raise DataError(
            f"evaluation: {config.annotations} has no box{which}, so nothing can be measured on "
            "it; name other annotations, or none (evaluation.annotations=null)"
        )


def _drop_later_evaluations(output: Path, step: int) -> None:
    """Those of a run that died after its last checkpoint: its steps come again, perhaps changed."""
    for folder in (output / "evaluation").glob("step_*"):
        if folder.name > FOLDER_OF_STEP.format(step):  # as numbers, having as many digits
            shutil.rmtree(folder)


def _prepare_folder(output: Path, config: RunConfig, resume: bool) -> None:
    def prepare() -> None:
        if not resume and (output / "checkpoints").exists():
            raise ConfigError(
                f"{output} already holds a run; go on with it (--resume), or choose another folder"
            )
        file = output / "config.yaml"
        if resume and file.exists():
            before = yaml.safe_load(file.read_text(encoding="utf-8"))
            changed = differences(before, yaml.safe_load(to_yaml(config)))
            if changed:
                logger.warning("going on with other values: %s", "; ".join(changed))
        with whole_file(file) as writing:
            writing.write(to_yaml(config))

    on_main(prepare)


def _steps(config: RunConfig, epoch: float) -> int:
    if config.steps is not None:
        return config.steps
    if config.epochs is None:
        raise ConfigError("the run has no length: set epochs or steps")
    return max(1, math.floor(config.epochs * epoch))


def _every(config: EvaluationConfig, epoch: float) -> int | None:
    if config.every_steps is not None:
        return config.every_steps
    return None if config.every_epochs is None else max(1, round(config.every_epochs * epoch))


def _plain_detector(
    model: nn.Module,
    detector: Detector,
    device: torch.device,
    encode_image: CachedPyramids | None = None,
) -> Detector:
    """A detector with the model's present weights.

    Processes see different numbers of pictures, so a sharded model, whose parts have to be called
    by all processes together, is put together first.
    """
    if model is detector.model and not _is_sharded(model):
        return Detector(
            detector.model,
            detector.config,
            detector.tokenizer,
            device=device,
            task=detector.task,
            encode_image=encode_image,
        )
    state = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    weights = Weights(detector.config, state, _tokenizer_json(detector.tokenizer))
    return Detector.from_weights(weights, device=device)


def _is_sharded(model: nn.Module) -> bool:
    return any(is_sharded(parameter) for parameter in model.parameters())


def _tokenizer_json(tokenizer: Tokenizer) -> str | None:
    return None if tokenizer.is_builtin else tokenizer.to_json()


def _save_weights(path: Path, state: TrainState, detector: Detector, config: RunConfig) -> None:
    """What is evaluated, as a file that `glip.load` or `with_prompt` reads; a collective call."""
    tensors: Mapping[str, Tensor] = unwrapped(state.model).state_dict()
    if state.ema is not None:
        tensors = state.ema.average
    gathered = {name: whole(tensor, everywhere=False) for name, tensor in tensors.items()}

    def write() -> None:
        if config.tune == "prompt":
            assert detector.task is not None
            notes = {"tune": "prompt", "step": state.step, "seed": config.seed}
            task = detector.task.learned(gathered["text.offsets"])
            save_prompt(path, replace(task, notes=notes))
            return
        plain = merged(gathered, config.lora) if config.tune == "lora" else gathered
        save_weights(path, Weights(detector.config, plain, _tokenizer_json(detector.tokenizer)))

    on_main(write)


def _report(output: Path, config: RunConfig, state: TrainState) -> None:
    metrics: dict[str, float | None] = {}
    per_class: dict[str, float | None] = {}
    pictures: list[SamplePicture] = []
    if state.history:
        folder = output / "evaluation" / FOLDER_OF_STEP.format(int(state.history[-1]["step"]))
        results = read_results(folder)
        metrics, per_class = results["metrics"], results.get("per_class", {})
        pictures = sample_pictures(config.evaluation, folder)
    summary: dict[str, Any] = {"steps": state.step}
    if state.stopped:
        summary["ended"] = "as the evaluations no longer rose"
    if state.best_step >= 0:
        summary["best"] = f"{state.best:.4f} at step {state.best_step}"
    write_report(
        output / "report.html",
        read_records(output),
        title=f"Run {output.resolve().name}",
        summary=summary,
        metrics=metrics,
        per_class=per_class,
        pictures=pictures,
        settings=to_yaml(config),
    )
    logger.info("report: %s", output / "report.html")


def sample_pictures(config: EvaluationConfig, folder: Path) -> list[SamplePicture]:
    """The first pictures of detection data with boxes, each with its truth and its detections."""
    if config.task not in ("coco", "lvis", "custom") or config.annotations is None:
        return []
    annotated: Annotated = read_annotated(config.annotations, config.images, split=config.split)
    data = cast(DetectionData, annotated.data)
    prompt = class_prompt(data.names)
    rows = {category: row for row, category in enumerate(data.category_ids)}
    found = {one.image_id: one for one in read_predictions(folder / "predictions.jsonl")}
    pictures: list[SamplePicture] = []
    for record in data.records:
        if len(pictures) >= config.sample_pictures:
            break
        one = found.get(record.image_id)
        if one is None or one.error is not None or not len(record.boxes):
            continue
        image = annotated.pictures.read(record.file_name)
        truth = Detections(
            torch.as_tensor(record.boxes, dtype=torch.float32),
            torch.ones(len(record.boxes)),
            torch.as_tensor(record.labels, dtype=torch.int64),
            prompt,
            record.image_hw,
        )
        labels = torch.tensor([rows[int(label)] for label in one.labels], dtype=torch.int64)
        detected = Detections(
            torch.as_tensor(one.boxes, dtype=torch.float32),
            torch.as_tensor(one.scores, dtype=torch.float32),
            labels,
            prompt,
            record.image_hw,
        )
        pictures.append(
            SamplePicture(
                record.file_name,
                draw(image, truth, scores=False),
                draw(image, detected[detected.scores >= DRAWN_SCORE]),
            )
        )
    return pictures
