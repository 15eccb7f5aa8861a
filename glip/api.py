"""What the commands do, as functions: `glip.label(...)`, `glip.tune(...)` and so on.

Each has the options of its command and is their one home: `glip/cli/options.py` reads names, types,
defaults and words from here. So this file imports nothing heavy before one of them is called.
Results are small objects that print well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from numbers import Number, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from glip.choices import (
    Aggregate,
    Backend,
    DType,
    ExportDType,
    LabelFormat,
    PictureMode,
    Preset,
    Runtime,
    Split,
    Task,
    TrackFormat,
    TuneMode,
)
from glip.errors import ConfigError
from glip.progress import Progress, bars

if TYPE_CHECKING:
    from PIL import Image

    from glip.data.doctor.examine import Report
    from glip.detector import Detector
    from glip.labelling.job import Labels
    from glip.labelling.ontology import Ontology
    from glip.pseudo.summary import Summary
    from glip.tracking.job import Tracks

AnyPath: TypeAlias = str | os.PathLike[str]

FINETUNE = Path(__file__).parent / "training" / "finetune.yaml"


class Result(dict[str, Any]):
    """Results by name, as they stand in a JSON file; printed, they are a few lines."""

    def __init__(self, values: Mapping[str, Any], text: str, folder: Path) -> None:
        super().__init__(values)
        self.text = text
        self.folder = folder
        """Where they and the rest are."""

    def __str__(self) -> str:
        return self.text


def doctor(
    data: AnyPath,
    *,
    images: AnyPath | None = None,
    split: Split | None = None,
    quick: bool = False,
    max_bad: float = 0.05,
    progress: Progress | Literal[True] | None = None,
) -> Report:
    """Look for what is wrong with a data set before training on it.

    Args:
        data: annotations in any format that training reads.
        images: folder or tar; by default beside the data.
        split: of a folder with several.
        quick: do not decode the pictures.
        max_bad: share of entries that cannot be used, which are left out; more are refused.
        progress: True for a bar, or what is told of each picture that is decoded.
    Returns:
        What was found; `text()` is for people.
    """
    from glip.data.doctor.examine import examine

    place = None if images is None else Path(images)
    with _shown(progress) as show:
        return examine(Path(data), place, quick=quick, split=split, max_bad=max_bad, progress=show)


def label(
    images: AnyPath | None,
    out: AnyPath,
    *,
    every: int = 30,
    limit: int | None = None,
    classes: str | Sequence[str] | None = None,
    ontology: AnyPath | None = None,
    format: Sequence[LabelFormat] = ("coco",),
    val: float = 0.0,
    pictures: PictureMode | None = None,
    force: bool = False,
    corrected: AnyPath | None = None,
    proposed: AnyPath | None = None,
    max_bad: float = 0.05,
    label_studio_prefix: str | None = None,
    weights: AnyPath | None = None,
    threshold: float | None = None,
    nms: float = 0.6,
    max_detections: int = 100,
    aggregate: Aggregate | None = None,
    exclusive: bool = False,
    device: str | None = None,
    dtype: DType = "float32",
    engine: Literal["local", "ray"] = "local",
    actors: int | None = None,
    batch_size: int = 1,
    workers: int | None = None,
    shortlist: int | None = None,
    retry_rejected: bool = False,
    progress: Progress | Literal[True] | None = None,
) -> Labels | None:
    """Label a folder of photos, for training a detector of your own.

    Stopped at any moment, the same call goes on where it was. In a job of several processes all of
    them call this.

    Args:
        images: folder with the pictures, or a video.
        out: results, journal.
        every: of a video, take each N-th frame.
        limit: only the first pictures by name, to look at before all are labelled.
        classes: what to label: names, or a text with commas between them, or a file of lines.
        ontology: classes with their wordings, what they are mistaken for, thresholds and sizes.
        format: of the data sets.
        val: share of pictures for validation, chosen by their names.
        pictures: in the data set: none, links, or upright copies without EXIF orientation; by
            default link for yolo and voc, else none.
        force: replace a data set that is there already.
        corrected: write labels that people corrected, in any format that training reads, instead
            of a model's.
        proposed: results of an earlier call, to say what people changed in them; by default `out`
            or the folder that holds what was corrected.
        max_bad: share of entries that cannot be used, which are left out; more are refused.
        label_studio_prefix: before the names of pictures; by default that of its storage of local
            files.
        weights: a file, the name of a model, or a detector of transformers (folder or Hub name).
        threshold: labels score above this, unless the ontology says otherwise; by default that of
            the weights.
        nms: of two boxes of a phrase or group that overlap by more, the better one stays.
        max_detections: for each picture.
        aggregate: how the scores of a phrase's tokens become one; by default as the model was
            trained: the mean for GLIP.
        exclusive: one phrase for each thing: boxes of different phrases suppress each other, too.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        dtype: number format of the model.
        engine: this process, or those of torchrun; or the machines of the Ray cluster in
            RAY_ADDRESS (without one, this machine), all of which see pictures and weights.
        actors: with the engine ray, models at work; by default one for each GPU, or each CPU core.
        batch_size: more helps on a GPU.
        workers: threads that read pictures; by default 2, and on a GPU half the cores, from 2 to 8.
        shortlist: for hundreds of phrases: only this many, the most probable ones of each picture,
            are looked for in the whole picture; approximate, see `Detector.with_shortlist`.
        retry_rejected: try pictures again that could not be used.
        progress: True for a bar, or what is told of all that is done.
    Returns:
        What it came to; None on other processes than the main one.
    Raises:
        GlipError: What cannot be used, with the way out; what is done stays.
    """
    given = locals()
    from glip.data.formats.layout import LABEL_STUDIO_PREFIX
    from glip.labelling import job

    if corrected is None and proposed is not None:
        raise ConfigError("--proposed is what --corrected is compared with; leave it out")
    if corrected is not None:
        usual = {field.name: field.default for field in fields(job.LabelOptions)}
        changed = [name for name in ("threshold", *usual) if given[name] != usual.get(name)]
        if changed:
            raise ConfigError(
                "--corrected writes labels that people left, without a model; leave "
                f"--{changed[0].replace('_', '-')} out"
            )
    things = _ontology(classes, ontology, _plain(threshold), weights, scored=corrected is None)
    output = job.Output(
        formats=tuple(dict.fromkeys(_several(format))),
        val=_plain(val),
        pictures=pictures,
        force=force,
        prefix=label_studio_prefix or LABEL_STUDIO_PREFIX,
    )
    if corrected is not None:
        names = None if things is None else things.names
        return job.take_corrected(
            corrected,
            out,
            images=images,
            proposed=proposed,
            names=names,
            output=output,
            max_bad=max_bad,
        )
    if things is None:
        raise ConfigError("say what to label, with --classes NAMES or --ontology YAML")
    if images is None:
        raise ConfigError("say where the pictures are, with --images DIR")
    with _processes(device) as own, _shown(progress) as show:
        return job.label(
            images,
            things,
            out,
            job.LabelOptions(**_fields_of(job.LabelOptions, given | {"device": own})),
            output=output,
            progress=show,
        )


def ground_captions(
    captions: Sequence[AnyPath],
    out: AnyPath,
    *,
    images: AnyPath | None = None,
    weights: str | None = None,
    preset: Preset = "web",
    config: AnyPath | None = None,
    overrides: Sequence[str] = (),
    leave_out: Sequence[AnyPath] = (),
    limit: int | None = None,
    survey_only: bool = False,
    device: str | None = None,
    dtype: DType = "float32",
    progress: Progress | Literal[True] | None = None,
) -> Summary | None:
    """Find the phrases of captions in their pictures, as data to train a student on.

    Args:
        captions: COCO captions (.json), a table of picture and caption (.tsv, .csv, .jsonl), a
            folder with a .txt beside each picture, or shards of a web data set (.tar, or their
            folder).
        out: results, journal.
        images: folder or tar; by default beside the captions.
        weights: the teacher: GLIP weights, or a folder with a Grounding DINO, OWL-ViT or OWLv2 of
            transformers.
        preset: filters for alt-texts from the web, or for captions that people wrote, of which all
            are kept.
        config: all options, over those of the preset.
        overrides: single options, over all others: boxes.min_score=0.1 batch_size=8.
        leave_out: folders or tars with pictures for tests: near duplicates of them are left out.
        limit: only the first pictures.
        survey_only: count for the filters, and stop.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        dtype: number format of the model.
        progress: True for bars, or what is told of the survey, and then of what is grounded.
    Returns:
        The report; None on other processes than the main one, or after a survey.
    Raises:
        GlipError: What cannot be used, with the way out; what is done stays.
    """
    from glip.data.pictures import open_pictures
    from glip.pseudo import ground
    from glip.pseudo.captions import CaptionSet
    from glip.pseudo.config import GroundingConfig
    from glip.pseudo.filters import CaptionFilters
    from glip.pseudo.teachers import load_teacher
    from glip.settings import read_config

    under = {"filters": asdict(CaptionFilters.preset(preset))}
    settings = read_config(GroundingConfig, config, _several(overrides), under=under)
    place = None if images is None else os.fspath(images)
    found = CaptionSet([os.fspath(path) for path in _several(captions)], place)
    sets = [open_pictures(os.fspath(path)) for path in _several(leave_out)]

    def left_out() -> Iterator[Image.Image]:
        return (pictures.read(name) for pictures in sets for name in pictures.names())

    with _processes(device) as own, _shown(progress) as show:
        return ground.ground_captions(
            found,
            load_teacher(weights, device=own, dtype=dtype),
            settings,
            Path(out),
            leave_out=[pictures.root.name for pictures in sets],
            limit=limit,
            survey_only=survey_only,
            load_left_out=left_out,
            progress=show,
        )


def evaluate(
    data: AnyPath | Sequence[AnyPath],
    *,
    weights: AnyPath | None = None,
    prompt: AnyPath | None = None,
    task: Task = "custom",
    images: AnyPath | None = None,
    split: Split | None = None,
    max_bad: float = 0.05,
    output: AnyPath = "evaluation",
    chunk: int | None = None,
    wordings: AnyPath | Mapping[str, str] | None = None,
    standard_ap: bool = False,
    max_detections: int | None = None,
    batch_size: int = 1,
    limit: int | None = None,
    device: str | None = None,
    dtype: DType = "float32",
    backend: Backend | None = None,
    shortlist: int | None = None,
    rescore: bool = False,
    progress: Progress | Literal[True] | None = None,
) -> Result | None:
    """Measure weights on a data set.

    Args:
        data: annotation file, or folder of a data set; of several for the task odinw.
        weights: a file, the name of a model, or a detector of transformers (folder or Hub name);
            by default the small one.
        prompt: a learned prompt (of glip tune or glip prompts) that answers for the classes.
        task: the protocol; custom: that of COCO for any boxes.
        images: folder or tar; by default beside the data.
        split: of a folder with several; by default what it holds out from training.
        max_bad: share of entries that cannot be used, which are left out; more are refused.
        output: predictions and results.
        chunk: class names asked for at a time (lvis: 40).
        wordings: class name -> other words: measure these classes a second time by those words.
        standard_ap: lvis: 300 a picture, not fixed AP.
        max_detections: of a picture (lvis: and chunk).
        batch_size: pictures that go through the model together.
        limit: only the first N pictures, to try things out.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        dtype: number format of the model.
        backend: of average precision.
        shortlist: for hundreds of names: only this many, the most probable ones of each picture,
            are looked for in the whole picture; approximate, see `Detector.with_shortlist`.
        rescore: measure the predictions in the output folder, without a model.
        progress: True for a bar, or what is told of each picture.
    Returns:
        What is in `results.json`; None on other processes than the main one.
    Raises:
        GlipError: What cannot be used, with the way out; predictions that are made stay.
    """
    given = locals()
    from glip.distributed import is_main
    from glip.evaluation.config import TaskOptions
    from glip.evaluation.table import results_table
    from glip.evaluation.tasks import run_task

    of_a_model = ("weights", "prompt", "max_detections", "chunk", "shortlist")
    if rescore and (extra := [name for name in of_a_model if given[name] is not None]):
        raise ConfigError(
            f"--rescore measures the predictions that are in --output; leave "
            f"--{extra[0].replace('_', '-')} out, or --rescore"
        )
    if shortlist is not None and task == "flickr":
        raise ConfigError("a shortlist is drawn of class names, and the task flickr has captions")
    values = _fields_of(TaskOptions, given)
    words = read_other_words(wordings)
    options = TaskOptions(**values | {"wordings": words, "fixed_ap": not standard_ap})
    with _processes(device) as own, _shown(progress) as show:
        detector, settings = (None, {}) if rescore else _evaluated(weights, prompt, own, dtype)
        if detector is not None and shortlist is not None:
            detector = detector.with_shortlist(shortlist)
            settings["shortlist"] = shortlist
        places = [os.fspath(path) for path in _several(data)]
        results = run_task(
            options, detector, places, os.fspath(output), settings=settings, progress=show
        )
        if not is_main():
            return None
    return Result(results, results_table(results), Path(output))


class Order(NamedTuple):
    """What each process of a training run is told."""

    config: Path
    overrides: tuple[str, ...]
    output: Path
    resume: bool
    eval_only: bool


def train(
    data: AnyPath | None = None,
    *,
    max_bad: float = 0.05,
    images: AnyPath | None = None,
    val: AnyPath | None = None,
    val_images: AnyPath | None = None,
    weights: AnyPath | None = None,
    config_file: AnyPath | None = None,
    output: AnyPath | None = None,
    resume: bool = False,
    eval_only: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
    progress: Progress | Literal[True] | None = None,
) -> Result:
    """Train on your own pictures.

    Args:
        data: pictures with boxes: an annotation file or the folder of a data set (COCO, YOLO, VOC,
            Roboflow, ...); of a folder with a part to evaluate on, that is done.
        max_bad: share of entries that cannot be used, which are left out; more are refused.
        images: folder or tar; by default beside the data.
        val: another data set, to evaluate on.
        val_images: of that; by default as of the data, if they are given.
        weights: file or name of what to start from (glip_nano).
        config_file: a run of your own; by default a gentle fine-tuning.
        output: folder of the run; by default runs/NAME.
        resume: go on from the newest checkpoint.
        eval_only: evaluate and stop.
        overrides: values that go over the file, such as steps=500 optimizer.lr=2e-4.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        progress: what is told of the steps of training, in the place of the bar that is shown.
    Returns:
        The metrics of the last evaluation.
    Raises:
        GlipError: What cannot be used, with the way out.
    """
    order = order_of(
        data,
        max_bad=max_bad,
        images=images,
        val=val,
        val_images=val_images,
        weights=weights,
        config_file=config_file,
        output=output,
        resume=resume,
        eval_only=eval_only,
        overrides=overrides,
    )
    with _processes(device) as own:
        from glip.engine import usable_device

        return run_order(order, usable_device(own), _in_place_of_bar(progress))


def order_of(
    data: AnyPath | None,
    *,
    max_bad: float,
    images: AnyPath | None,
    val: AnyPath | None,
    val_images: AnyPath | None,
    weights: AnyPath | None,
    config_file: AnyPath | None,
    output: AnyPath | None,
    resume: bool,
    eval_only: bool,
    overrides: Sequence[str],
) -> Order:
    """The options of `train` as a YAML file and what goes over it.

    Raises:
        ConfigError: They do not go together.
    """
    if data is None and config_file is None:
        raise ConfigError("nothing to train on: name your data (--data), or a run (--config-file)")
    values: dict[str, Any] = {"weights": weights, "evaluation.annotations": val}
    if data is not None:
        from glip.data.formats.recognise import train_and_val

        train, held_out = train_and_val(os.fspath(data))
        values["data.sources.0.annotations"] = train.path
        values["data.sources.0.images"] = images
        values["data.sources.0.split"] = train.split
        values["data.sources.0.max_bad"] = values["evaluation.max_bad"] = max_bad
        values["evaluation.images"] = val_images or images
        if val is None and held_out is not None:
            values["evaluation.annotations"] = held_out.path
            values["evaluation.split"] = held_out.split
    elif images is not None:
        raise ConfigError("--images belongs to --data")
    elif val_images is not None:
        values["evaluation.images"] = val_images
    from glip.settings import quoted

    said = [
        f"{name}={quoted(os.fspath(value)) if isinstance(value, (str, os.PathLike)) else value}"
        for name, value in values.items()
        if value is not None
    ]
    place = output or Path("runs") / Path(config_file or data or "").stem
    config = Path(config_file or FINETUNE)
    return Order(config, (*said, *_several(overrides)), Path(place), resume, eval_only)


def run_order(order: Order, device: Any, progress: Progress | None = None) -> Result:
    """Train or evaluate as ordered, in this process of perhaps several."""
    from glip.training.run import evaluate_only, run_training
    from glip.training.run_config import read_run

    config = read_run(order.config, order.overrides)
    action = evaluate_only if order.eval_only else partial(run_training, progress=progress)
    metrics = action(config, order.output, device, resume=order.resume)
    lines = [f"{name:<8} {100 * value:6.1f}" for name, value in metrics.items()]
    return Result(metrics, "\n".join(lines), order.output)


def tune(
    data: AnyPath,
    out: AnyPath,
    *,
    mode: TuneMode = "prompt",
    shots: int | None = None,
    weights: str | None = None,
    prompt: str | None = None,
    val: str | None = None,
    images: str | None = None,
    max_bad: float = 0.05,
    seed: int = 0,
    lr: Sequence[float] = (),
    search_lr: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 4,
    evaluations: int = 10,
    cache: bool = True,
    retention: str | None = None,
    retention_images: str | None = None,
    replay: str | None = None,
    replay_images: str | None = None,
    replay_share: float = 0.5,
    interpolate: Sequence[float] = (),
    limit: int | None = None,
    device: str | None = None,
    progress: Progress | Literal[True] | None = None,
) -> Result:
    """Adapt a model to a few pictures of your own.

    Args:
        data: pictures with boxes: a folder with train and val parts, or an annotation file.
        out: folder of results.
        mode: what is trained: the words of this task (prompt), output layers (linear_probe), all
            behind the encoders (head), the text encoder (language), low-rank products (lora), or
            everything.
        shots: pictures of each class; by default all.
        weights: the base model: a file or a name.
        prompt: words to start from, as glip prompts writes them, for the mode prompt; by default
            the names of the classes.
        val: to choose the best on; by default of the data.
        images: folder or tar; by default beside the data.
        max_bad: share of entries that cannot be used, which are left out; more are refused.
        seed: of the shots and the run.
        lr: learning rates to try; the best is kept.
        search_lr: try three rates around the usual.
        steps: of the optimizer; by default 200 to 1000.
        epochs: in place of steps.
        batch_size: pictures.
        evaluations: on the way, of which the best decides.
        cache: off, pictures in several sizes, and features computed anew each time.
        retention: a set not tuned on: what is left of the open words.
        retention_images: folder or tar; by default beside it.
        replay: data of the base model to train on too.
        replay_images: folder or tar; by default beside it.
        replay_share: of the training pictures.
        interpolate: also measure weights this far from base (0) to tuned (1).
        limit: evaluate on the first N pictures only, to try things out.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        progress: what is told of the steps of training, in the place of the bar that is shown.
    Returns:
        What is in `result.json`.
    Raises:
        GlipError: What cannot be used, with the way out.
    """
    given = locals()
    from glip.engine import usable_device
    from glip.tuning import tune as tuning
    from glip.tuning.options import TuneOptions
    from glip.tuning.result import in_words

    values = _fields_of(TuneOptions, given)
    values |= {name: tuple(_several(given[name])) for name in ("lr", "interpolate")}
    values["data"] = os.fspath(data)
    told = _in_place_of_bar(progress)
    result = tuning.tune(TuneOptions(**values), out, usable_device(device), progress=told)
    lines = [f"{name:<14}{text}" for name, text in in_words(result).items()]
    return Result(result, "\n".join(lines), Path(out))


def export(
    out: AnyPath,
    *,
    weights: AnyPath | None = None,
    format: Runtime = "onnx",
    dtype: ExportDType = "float32",
    size: tuple[int, int] | None = None,
    task: AnyPath | None = None,
    classes: str | Sequence[str] | None = None,
    calibration: AnyPath | None = None,
    web: AnyPath | None = None,
    progress: Progress | Literal[True] | None = None,
) -> Result:
    """Write a model as graphs that run without torch, words still their input.

    Args:
        out: the new folder; an exported model that stands there is replaced.
        weights: a weights file or a model's name; by default what ships with glip.
        format: what shall run it: ONNX Runtime or OpenVINO.
        dtype: how weights are stored; float16 halves the files, int8 also computes the image
            encoder in 8 bits.
        size: height and width of every picture that goes in, multiples of 32; by default any.
        task: a learned prompt (NAME.prompt.safetensors) to bake in.
        classes: names to bake in, as a list or with commas between them: the folder answers these
            and no others.
        calibration: folder of photos like those to come, some dozens; for int8.
        web: the npm package onnxruntime-web, unpacked: the folder is then also a page that runs
            the model in a browser.
        progress: True for a bar, or what is told of each graph that is written.
    Returns:
        Bytes of each file under "files", and what `glip.json` says; `folder` is the new one.
    Raises:
        GlipError: What cannot be exported, with the way out; nothing is written then.
    """
    if task is not None and classes is not None:
        raise ConfigError("a learned prompt has its classes already; give `task` or `classes`")
    if dtype == "int8" and calibration is None:
        raise ConfigError(
            "int8 measures the ranges of numbers on photos: add --calibration DIR with some dozens "
            "like those to come"
        )
    from glip.detector import load
    from glip.exporting import export as exporting
    from glip.model_files import find_model
    from glip.runtime.manifest import CARD
    from glip.text.class_list import class_names

    path = find_model(weights)
    photos = () if calibration is None else exporting.calibration_photos(Path(calibration))
    card = path.with_name(CARD)
    detector = load(path, device="cpu")
    if task is not None:
        detector = detector.with_prompt(task)
    with _shown(progress) as show:
        manifest = exporting.export(
            detector,
            out,
            format=format,
            dtype=dtype,
            size_hw=size,
            classes=None if classes is None else class_names(classes),
            calibration=photos,
            card=card.read_text(encoding="utf-8") if os.path.isfile(card) else None,
            web=None if web is None else Path(web),
            progress=show,
        )
    files = sorted(file for file in Path(out).rglob("*") if os.path.isfile(file))
    sizes = {file.relative_to(out).as_posix(): file.stat().st_size for file in files}
    lines = [f"{size / 1e6:9.2f} MB  {name}" for name, size in sizes.items()]
    return Result(asdict(manifest) | {"files": sizes}, "\n".join(lines), Path(out))


def track(
    clip: AnyPath | int,
    out: AnyPath,
    *,
    prompt: str | None = None,
    classes: str | Sequence[str] | None = None,
    task: AnyPath | None = None,
    every: int = 1,
    limit: int | None = None,
    format: Sequence[TrackFormat] = ("mp4", "jsonl"),
    weights: AnyPath | None = None,
    threshold: float | None = None,
    low: float = 0.1,
    patience: int = 30,
    nms: float = 0.6,
    max_detections: int = 100,
    aggregate: Aggregate | None = None,
    exclusive: bool = False,
    device: str | None = None,
    dtype: DType = "float32",
    batch_size: int = 1,
    workers: int | None = None,
    progress: Progress | Literal[True] | None = None,
) -> Tracks:
    """Track what a prompt names through a video or before a camera.

    Stopped at any moment, the same call goes on with a video where it was.

    Args:
        clip: a video file, or the number of a camera.
        out: results, journal.
        prompt: what to look for: names with periods between them, or a caption.
        classes: exact names, as a list or with commas between them.
        task: the classes of a learned prompt, NAME.prompt.safetensors.
        every: look at each N-th frame, and at the last; between them boxes move on a line.
        limit: only the first frames; of a camera, when to stop.
        format: mp4 with boxes drawn, jsonl, mot, cvat.
        weights: a file, or the name of a model.
        threshold: boxes that score above this begin tracks; by default that of the weights.
        low: boxes that score above this carry a track on.
        patience: frames for which a track may be out of sight.
        nms: of two boxes of a phrase that overlap by more, the better one stays.
        max_detections: for each frame.
        aggregate: how the scores of a phrase's tokens become one; by default as the model was
            trained: the mean for GLIP.
        exclusive: one phrase for each thing: boxes of different phrases suppress each other, too.
        device: such as "cpu" or "cuda:1"; by default a GPU if there is one.
        dtype: number format of the model.
        batch_size: more helps on a GPU.
        workers: threads that prepare frames; by default 2, and on a GPU half the cores, from 2 to
            8.
        progress: True for bars, or what is told of each frame.
    Returns:
        What it came to, and where the files are.
    Raises:
        GlipError: What cannot be used, with the way out; what is done stays.
    """
    given = locals()
    from glip.detector import load
    from glip.files import file_sha256
    from glip.model_files import find_model, model_sha256
    from glip.text.class_list import class_names
    from glip.text.prompt import Prompt
    from glip.tracking import job
    from glip.video.reading import Clip

    if sum(one is not None for one in (prompt, classes, task)) != 1:
        raise ConfigError("say what to look for, with one of --prompt, --classes and --task")
    options = job.TrackOptions(**_fields_of(job.TrackOptions, given))
    named = None if classes is None else Prompt.from_classes(class_names(classes))
    with Clip(clip) as opened:  # what is no clip is told before the model is read
        path = find_model(weights)
        model = {"weights": model_sha256(path), "dtype": dtype}
        detector = load(path, device=device, dtype=dtype, prompt=task)
        if detector.task is not None and task is not None:
            words = detector.task.prompt
            model["task"] = file_sha256(Path(task))
        else:
            words = Prompt.of(prompt or "") if named is None else named
        with _shown(progress) as show:
            return job.track(
                opened,
                detector,
                words,
                Path(out),
                options,
                tuple(_several(format)),
                model=model,
                progress=show,
            )


@dataclass(frozen=True)
class Model:
    """A model that `glip.load` knows by name."""

    name: str
    parameters: int
    source: str
    """Where its weights come from."""
    file: Path | None
    """Where they are on this machine, if so."""

    def __str__(self) -> str:
        place = "not on this machine" if self.file is None else str(self.file)
        return f"{self.name:<14} {self.parameters / 1e6:>6.0f} M  {self.source:<48}  {place}"


def models() -> list[Model]:
    """The models that have a name: how large they are, where from, and whether they are here."""
    from glip.released import RELEASED, local_file, source_of

    return [
        Model(name, released.parameters, source_of(name), local_file(name))
        for name, released in RELEASED.items()
    ]


def _fields_of(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments of a function those that are fields of a dataclass of options."""
    return {f.name: _plain(given[f.name]) for f in fields(kind) if f.name in given}


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python, which JSON takes; all else as it is."""
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def _several(given: Any) -> list[Any]:
    """The members of a list; one text, path or number is a list of one."""
    return [given] if isinstance(given, (str, os.PathLike, Real)) else list(given)


@contextmanager
def _shown(progress: Progress | Literal[True] | None) -> Iterator[Progress | None]:
    """The callback that was given, or bars in the main process."""
    if progress is not True:
        yield progress
        return
    from glip.distributed import is_main

    with bars(is_main) as show:
        yield show


def _in_place_of_bar(progress: Progress | Literal[True] | None) -> Progress | None:
    """The callback that was given; training shows its own bar, with losses, where there is none."""
    return None if progress is True else progress


@contextmanager
def _processes(device: str | None) -> Iterator[Any]:
    """Join the processes of torchrun, if it started this one; gives the device to use."""
    from glip import distributed

    if not distributed.started_by_torchrun():
        yield device
        return
    own = distributed.start()
    try:
        yield own if device is None else device
    finally:
        distributed.stop()


def _ontology(
    classes: str | Sequence[str] | None,
    path: AnyPath | None,
    threshold: float | None,
    weights: AnyPath | None,
    *,
    scored: bool,
) -> Ontology | None:
    """What to label; labels of people have no scores and need no threshold."""
    from glip.labelling.ontology import Ontology
    from glip.model_files import find_model, threshold_of
    from glip.text.class_list import class_names

    if classes is None and path is None:
        return None
    usual = threshold
    if usual is None:
        usual = threshold_of(find_model(weights)) if scored else 0.0
    if classes is not None:
        return Ontology.of_names(class_names(classes), threshold=usual)
    assert path is not None
    ontology = Ontology.read(path, threshold=usual)
    own = [f"{c.name} {c.threshold:g}" for c in ontology.classes if c.threshold != usual]
    if threshold is not None and own:
        logging.getLogger(__name__).warning(
            "--threshold %g does not hold where %s says otherwise: %s",
            threshold,
            path,
            ", ".join(own[:10]),
        )
    return ontology


def _evaluated(
    weights: AnyPath | None, prompt: AnyPath | None, device: Any, dtype: DType
) -> tuple[Detector, dict[str, Any]]:
    """What predicts, and what its predictions depend on."""
    from glip.detector import load
    from glip.files import file_sha256
    from glip.model_files import find_model, model_sha256

    path = find_model(weights)
    detector = load(path, device=device, dtype=dtype, prompt=prompt)
    settings = {"weights": path.name, "weights_sha256": model_sha256(path), "dtype": dtype}
    if prompt is not None:
        settings |= {"prompt": Path(prompt).name, "prompt_sha256": file_sha256(Path(prompt))}
    return detector, settings


def read_other_words(wordings: AnyPath | Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Class name -> other words for it, perhaps from a JSON file.

    Raises:
        DataError: It cannot be read.
        ConfigError: It holds something else, or nothing.
    """
    if wordings is None or isinstance(wordings, Mapping):
        return wordings
    from glip.data.formats.content import read_json

    content = read_json(Path(wordings))
    if not isinstance(content, dict) or not content:
        raise ConfigError(f'{wordings} must hold {{"class name": "other words", ...}}')
    for name, words in content.items():
        if not isinstance(words, str) or not words.strip():
            raise ConfigError(
                f"{wordings}: the other words for '{name}' must be text, got {words!r}"
            )
    return content
