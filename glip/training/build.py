"""What a run is built of: the detector it starts from, its data, its length.

Where the configuration of a run meets constructors. Knows nothing about steps or files that a run
leaves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from glip.checkpoint import Weights, read
from glip.data.augment import extent
from glip.data.caption_packing import CaptionPacker
from glip.data.doctor.examine import read_and_examine
from glip.data.formats.recognise import read_annotated
from glip.data.picture_cache import PictureCache
from glip.data.records import Annotated, DetectionData
from glip.data.sources import DetectionSource, GroundingSource, Source
from glip.detector import Detector
from glip.distributed import on_main, world_size
from glip.engine import Engine
from glip.errors import ConfigError, listed
from glip.evaluation.config import EvaluationConfig
from glip.model.presets import build, configured, without_sources
from glip.released import find
from glip.settings import nearest
from glip.task_prompt import read_prompt
from glip.text.prompt import reads_as
from glip.text.tokenizer import Tokenizer
from glip.training.ema import Ema
from glip.training.features import CachedPyramids, FromFeatures
from glip.training.freezing import freeze
from glip.training.lora import add_lora
from glip.training.optim import Plateau, build_optimizer
from glip.training.parallel import (
    checkpoint_activations,
    is_sharded,
    parallelise,
    synchronise_batch_norm,
    unwrapped,
    whole,
)
from glip.training.run_config import DataConfig, RunConfig, SourceConfig
from glip.training.state import TrainState, seed_generators
from glip.training.word_noise import add_word_noise
from glip.training.words import as_table, prompt_of

logger = logging.getLogger(__name__)

NAMES_SHOWN = 10
"""Of those that a message lists."""


def starting_point(config: RunConfig, device: torch.device) -> Detector:
    """Model, tokenizer and model config that a run starts from; the same on every process."""
    if config.weights is not None:
        weights = read(find(config.weights))
        # A model that is not named is the default; others are a wish that weights cannot grant.
        asked = without_sources(configured(config.model))
        if config.model != RunConfig.model and asked != without_sources(weights.config):
            logger.warning(
                "the weights %s bring their own model, %s: what the run says of its model is not "
                "used; weights=null starts from random weights of that model",
                config.weights,
                weights.config.name,
            )
    else:
        torch.manual_seed(config.seed)
        chosen = configured(config.model)
        weights = Weights(without_sources(chosen), build(chosen).state_dict())
    return Detector.from_weights(weights, device=device)


def materials(config: RunConfig, device: torch.device) -> tuple[Detector, list[Source]]:
    """The detector that a run trains, with what is to be learned in it, and its data.

    Raises:
        GlipError: Data, weights or options that do not fit.
    """
    detector = starting_point(config, device)
    if not config.data.sources:
        raise ConfigError("data.sources is empty; name at least one data set to train on")
    read = _read_sources(config.data.sources, detector)
    cache = _picture_cache(config.data, detector)
    sources = [
        training_source(source, detector, cache, annotated)
        for source, annotated in zip(config.data.sources, read, strict=True)
    ]
    on_main(lambda: _tell_unused_words(sources))
    return _with_learned_part(detector, config, sources), sources


def new_state(
    config: RunConfig, detector: Detector, device: torch.device
) -> tuple[TrainState, tuple[str, ...]]:
    """A run at its first step, and the modules that rest in it; seeds all generators."""
    model = detector.model
    resting = freeze(model, config.freeze, config.tune)
    if config.word_noise:
        add_word_noise(model, config.word_noise)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if config.freeze.batch_norm == "batch":
        model = synchronise_batch_norm(model, device)
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
    return state, resting


def _picture_cache(config: DataConfig, detector: Detector) -> PictureCache | None:
    if config.picture_cache is None:
        return None
    largest = extent(config.augment, detector.config.pixels)
    return PictureCache(config.picture_cache, config.picture_cache_gib, largest)


def training_source(
    config: SourceConfig,
    detector: Detector,
    cache: PictureCache | None = None,
    annotated: Annotated | None = None,
) -> Source:
    """A data set as training draws from it.

    Args:
        config: Which one.
        detector: That is trained.
        cache: Where large pictures are kept small.
        annotated: What its files say, if they have been read.
    """
    annotated = annotated or _read(config)
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
            trust_scores=config.trust_scores,
            cache=cache,
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
        cache=cache,
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


def _read_sources(sources: Sequence[SourceConfig], detector: Detector) -> list[Annotated]:
    """What the files of each source say; files of several sources are read once. Collective."""
    found: dict[tuple[object, ...], Annotated] = {}
    read = []
    for source in sources:
        files = source.annotations, source.images, source.split, source.label_map, source.max_bad
        if files not in found:
            examined = on_main(partial(_examined, source, detector))
            found[files] = examined or _read(source)  # other processes than the main one
        read.append(found[files])
    return read


def _read(source: SourceConfig) -> Annotated:
    return read_annotated(
        source.annotations,
        source.images,
        split=source.split,
        label_map=source.label_map,
        max_bad=source.max_bad,
    )


def _examined(source: SourceConfig, detector: Detector) -> Annotated:
    """What the files of a source say, after the quick part of `glip doctor`.

    Raises:
        DataError: They cannot be trained on.
    """
    annotated, report = read_and_examine(
        source.annotations,
        source.images,
        quick=True,
        split=source.split,
        label_map=source.label_map,
        max_bad=source.max_bad,
        tokenizer=detector.tokenizer,
        max_tokens=detector.config.text.max_tokens,
    )
    report.refuse_if_broken()
    for finding in report.findings:
        if finding.level == "warning" and not finding.by_reader:
            logger.warning("%s: %s", source.annotations, finding)
    assert annotated is not None  # or the report says why not
    annotated.faults.close()
    return annotated


def _tell_unused_words(sources: Sequence[Source]) -> None:
    """Say which names have other words or decorations, and are of no class of any data set.

    Data sets may share what is said of names, so that one of them need not have all of these.
    """
    detection = [source for source in sources if isinstance(source, DetectionSource)]
    named = {name for source in detection for name in source.data.names}
    worded = {name for source in detection for name in source.sampling.wordings}
    decorated = {name for source in detection for name in source.sampling.decorations}
    drawn = named.union(*(words for s in detection for words in s.sampling.wordings.values()))
    for what, names, known in (("wordings", worded, named), ("decorations", decorated, drawn)):
        if unused := sorted(names - known):
            unused[:NAMES_SHOWN] = [_with_nearest(name, known) for name in unused[:NAMES_SHOWN]]
            logger.warning(
                "sampling.%s: no data set has the class %s", what, listed(unused, NAMES_SHOWN)
            )


def _with_nearest(name: str, known: Collection[str]) -> str:
    """A name and the known one that is like it, if there is one."""
    alike = sorted(other for other in known if reads_as(other) == reads_as(name))
    way_out = f"did you mean {alike[0]!r}?" if alike else nearest(name, known, else_="")
    return f"{name!r} ({way_out})" if way_out else repr(name)


def steps_of(config: RunConfig, epoch: float) -> int:
    """Length of the run, given that of an epoch."""
    if config.steps is not None:
        return config.steps
    if config.epochs is None:
        raise ConfigError("the run has no length: set epochs or steps")
    return max(1, math.floor(config.epochs * epoch))


def steps_between_evaluations(config: EvaluationConfig, epoch: float) -> int | None:
    """Steps from one evaluation to the next, given those of an epoch; None for one at the end."""
    if config.every_steps is not None:
        return config.every_steps
    return None if config.every_epochs is None else max(1, round(config.every_epochs * epoch))


def plain_detector(
    model: nn.Module,
    detector: Detector,
    device: torch.device,
    encode_image: CachedPyramids | None = None,
) -> Detector:
    """A detector with the model's present weights.

    Processes see different numbers of pictures, so a sharded model, whose parts have to be called
    by all processes together, is put together first.
    """
    if model is detector.model and not any(map(is_sharded, model.parameters())):
        engine = Engine(
            detector.model,
            detector.config,
            detector.tokenizer,
            device=device,
            task=detector.task,
            encode_image=encode_image,
        )
        return Detector(engine)
    state = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    weights = Weights(detector.config, state, tokenizer_json(detector.tokenizer))
    return Detector.from_weights(weights, device=device)


def tokenizer_json(tokenizer: Tokenizer) -> str | None:
    """What a file of weights has to say of its tokenizer; None for the one of the package."""
    return None if tokenizer.is_builtin else tokenizer.to_json()
