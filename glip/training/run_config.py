"""Everything a training run is told, as dataclasses that `glip.settings` reads from YAML.

The defaults are the released recipe of GLIP-T. Paths of data are relative to the working folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glip.choices import Split, TuneMode
from glip.data.augment import AugmentConfig
from glip.data.caption_packing import PackingConfig
from glip.data.faults import MAX_BAD
from glip.data.sampling import SamplingConfig
from glip.errors import ConfigError
from glip.evaluation.config import EvaluationConfig
from glip.model.presets import configured
from glip.settings import read_config, within
from glip.training.freezing import FreezeConfig
from glip.training.loop import Precision
from glip.training.lora import LoraConfig
from glip.training.losses import Criterion
from glip.training.optim import OptimizerConfig, ScheduleConfig
from glip.training.parallel import Strategy

MOST_PICTURES = 1_000_000
"""Of one step, whose places are drawn ahead."""
SEEDS = 2**32 - 2**16
"""All seeds of runs are below: each process has its own above that of the run, below 2**32."""


@dataclass(frozen=True)
class SourceConfig:
    """One data set to train on, in any format that `glip.data.formats.recognise` reads."""

    annotations: str
    """File or folder."""
    images: str | None = None
    """Folder or tar; by default beside the annotations."""
    split: Split | None = None
    """Of a folder with several."""
    label_map: str | None = None
    """For ODVG lines with class labels: the JSON file from label to name, where it is not the
    `label_map.json` beside them."""
    vocabulary: str | None = None
    """Of a file with several vocabularies: only the pictures of this one, so that each can have a
    weight and wordings of its own."""
    max_bad: float = MAX_BAD
    """Share of entries that cannot be used and may be left out; more of them refuse the run."""
    weight: float = 1.0
    """How often an epoch goes through it."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """For data with classes: how prompts are made."""
    keep_empty: bool = False
    """Also train on pictures without any box."""
    repeat_threshold: float = 0.0
    """For data with many rare classes: those in a smaller share of the pictures are shown more
    often, see `glip.data.sources.repeat_factors`. LVIS has 0.001."""
    min_score: float = 0.5
    """For captions with pseudo labels: only boxes above this are taken."""
    trust_scores: bool = False
    """For pseudo labels: weigh boxes by their scores, the `score` of COCO-style files included."""
    ignore_unsure: bool = False
    """For captions with pseudo labels: a phrase with nothing but boxes below `min_score` teaches
    nothing, in place of teaching that it is absent."""
    packing: PackingConfig = field(default_factory=PackingConfig)
    """For captions: those of other pictures beside them."""

    def __post_init__(self) -> None:
        within("data.sources: weight", self.weight, above=0)
        within("data.sources: min_score", self.min_score, least=0, most=1)
        within("data.sources: repeat_threshold", self.repeat_threshold, least=0, most=1)


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    sources: tuple[SourceConfig, ...] = ()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    workers: int = 4
    """Processes that read pictures, for each process that trains; no more than there are
    processors."""
    group_by_shape: bool = True
    """Batches of tall or of wide pictures only, which saves padding."""
    cache: bool = False
    """Compute what no trained parameter touches once for each picture and keep it. Wants pictures
    and prompts that stay the same but for flips; see `glip.training.features`."""
    cache_gib: float = 2.0
    """Memory for that; what does not fit is computed each time."""
    picture_cache: str | None = None
    """Folder where pictures that have at least twice the pixels that training asks for are kept,
    decoded and shrunk to the largest size that `augment` makes; None decodes them each time. See
    `glip.data.picture_cache`."""
    picture_cache_gib: float = 20.0
    """What that folder may hold; what does not fit is decoded each time."""
    max_unreadable: float = 0.05
    """Share of pictures that cannot be read, do not have the size that the annotations say, or
    have a caption that the text encoder cannot read, up to which others stand in for them. More of
    them end the run."""

    def __post_init__(self) -> None:
        within("data.workers", self.workers, least=0)
        within("data.cache_gib", self.cache_gib, least=0)
        within("data.max_unreadable", self.max_unreadable, least=0, most=1)
        within("data.picture_cache_gib", self.picture_cache_gib, above=0)


@dataclass(frozen=True)
class RunConfig:
    """A whole run."""

    model: str | Mapping[str, Any] = "glip_nano"
    """Name of a preset, or a `glip.config.ModelConfig` of which all that is left out is as in the
    preset that its `name` names, glip_nano by default: `{backbone: {name: resnet50}}` has another
    timm backbone. Not needed where weights bring their own config."""
    weights: str | None = None
    """File or name of what to start from; None starts from random weights."""
    prompt: str | None = None
    """For `tune: prompt`: a file of words to start from (`glip prompts`); None for the classes'
    names."""
    seed: int = 0
    batch_size: int = 16
    """Pictures of one step, over all processes and all accumulated batches."""
    epochs: float | None = None
    steps: int | None = None
    """Length of the run: this or `epochs`."""
    accumulate: int = 1
    """Batches that one step is divided into, to save memory. Each is normalised by its own count of
    positive anchors."""
    precision: Precision = "float32"
    strategy: Strategy = "ddp"
    """With several processes: "fsdp" divides weights and optimizer state among them."""
    activation_checkpointing: bool = False
    """Save memory, compute twice."""
    ema: float | None = None
    """Decay of a running average of the weights, which is then what is evaluated and kept."""
    word_noise: float = 0.0
    """How far the states of words are moved at random while training, so that words near those of
    the data are learned with them: up to this share of what sets words apart. See
    `glip.training.word_noise`."""
    log_every: int = 20
    save_every: int = 2500
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    losses: Criterion = field(default_factory=Criterion)
    """Their weights: `alignment_weight`, `box_weight`, `centerness_weight`."""
    tune: TuneMode = "full"
    """Which parts are trained: full, head, linear_probe, prompt, language or lora."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """For `tune: lora`."""
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        configured(self.model)
        if self.epochs is not None and self.steps is not None:
            raise ConfigError(f"give epochs ({self.epochs}) or steps ({self.steps}), not both")
        within("epochs", self.epochs, above=0)
        within("steps", self.steps, above=0)
        within("seed", self.seed, least=0, below=SEEDS)
        within("accumulate", self.accumulate, least=1)
        within("batch_size", self.batch_size, least=1, most=MOST_PICTURES)
        within("log_every", self.log_every, least=1)
        within("save_every", self.save_every, least=1)
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size {self.batch_size} cannot be divided into {self.accumulate} batches"
            )
        within("ema", self.ema, least=0, below=1)
        within("word_noise", self.word_noise, least=0)
        if self.word_noise and self.data.cache:
            raise ConfigError(
                "data.cache keeps words as they are first seen; with it, word_noise has to be 0"
            )
        within("keep_checkpoints", self.keep_checkpoints, least=1)


def read_run(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run, as `glip.settings.read_config` reads any settings.

    Raises:
        ConfigError: An unreadable file, an unknown key (with the nearest known one), a wrong value.
    """
    return read_config(RunConfig, path, overrides)
