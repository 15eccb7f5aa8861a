"""Everything a training run is told, as dataclasses: strict YAML and `a.b=value` overrides.

A YAML file holds what differs from the defaults, which are the released recipe of GLIP-T. It may
name another file as its `base`: mappings are merged, everything else is replaced. A list whose key
ends in "+" (`sources+:`) goes behind that of the base, and a mapping of numbers (`sources: {0: …}`)
changes single members of it or, with `null`, leaves them out. Paths of data are relative to the
working folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from glip.config import Config, ModelConfig, from_dict
from glip.data.augment import AugmentConfig
from glip.data.caption_packing import PackingConfig
from glip.data.records import Split
from glip.data.sampling import SamplingConfig
from glip.errors import ConfigError
from glip.evaluation.tasks import METRICS, Task
from glip.training.freezing import FreezeConfig, TuneMode
from glip.training.loop import Precision
from glip.training.lora import LoraConfig
from glip.training.losses import Criterion
from glip.training.optim import OptimizerConfig, ScheduleConfig
from glip.training.parallel import Strategy

BASE = "base"


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as YAML 1.2 does; the older YAML of this library wants 1.0e-4."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"),
    list("-+.0123456789"),
)


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
    """For pseudo labels: only boxes above this are taken."""
    trust_scores: bool = False
    """For pseudo labels: weigh boxes by their scores."""
    ignore_unsure: bool = False
    """For pseudo labels: a phrase with nothing but boxes below `min_score` teaches nothing, in
    place of teaching that it is absent."""
    packing: PackingConfig = field(default_factory=PackingConfig)
    """For captions: those of other pictures beside them."""


@dataclass(frozen=True)
class DataConfig:
    """What to train on."""

    sources: tuple[SourceConfig, ...] = ()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    workers: int = 4
    """Processes that read pictures, for each process that trains."""
    group_by_shape: bool = True
    """Batches of tall or of wide pictures only, which saves padding."""
    cache: bool = False
    """Compute what no trained parameter touches once for each picture and keep it. Wants pictures
    and prompts that stay the same but for flips; see `glip.training.features`."""
    cache_gib: float = 2.0
    """Memory for that; what does not fit is computed each time."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate on, while training and at its end."""

    annotations: str | None = None
    """None: no evaluation."""
    images: str | None = None
    split: Split | None = None
    task: Task = "coco"
    """The protocol."""
    every_epochs: float | None = 1.0
    """None: only at the end."""
    every_steps: int | None = None
    """Instead of `every_epochs`, where data sets are of any size."""
    metric: str | None = None
    """The one that decides about the best weights; by default the first of the protocol."""
    batch_size: int = 1
    limit: int | None = None
    """Only the first pictures."""
    sample_pictures: int = 8
    """How many are drawn in the report."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"evaluation.limit must be at least 1, got {self.limit}")
        known = METRICS.get(self.task)
        # Parts have metrics of their own, such as "people/R@1".
        name = None if self.metric is None else self.metric.rpartition("/")[2]
        if known is not None and name is not None and name not in known:
            raise ConfigError(
                f"evaluation.metric: {self.task} has no {self.metric!r}; it has {', '.join(known)}"
            )


@dataclass(frozen=True)
class RunConfig:
    """A whole run."""

    model: str = "glip_nano"
    """Name of a preset; not needed where weights bring their own config."""
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
        if self.epochs is not None and self.steps is not None:
            raise ConfigError(f"give epochs ({self.epochs}) or steps ({self.steps}), not both")
        length = self.epochs if self.epochs is not None else self.steps
        if length is not None and length <= 0:
            raise ConfigError(f"the run must have a length above 0, got {length}")
        if self.batch_size < 1 or self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size {self.batch_size} cannot be divided into {self.accumulate} batches"
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(f"ema must lie in [0, 1), got {self.ema}")
        if self.keep_checkpoints < 1:
            raise ConfigError(f"keep_checkpoints must be at least 1, got {self.keep_checkpoints}")

    def to_yaml(self) -> str:
        """All values, defaults too, as `read_run` reads them."""
        return yaml.safe_dump(_plain(asdict(self)), sort_keys=False, allow_unicode=True)


def read_run(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run.

    Args:
        path: YAML file.
        overrides: `a.b=value`, the value as in YAML; a number in the name counts members of a list
            (`data.sources.0.annotations=train.json`).
    Raises:
        ConfigError: An unreadable file, an unknown key (with the nearest known one), a wrong value.
    """
    return read_config(RunConfig, path, overrides)


def read_config(
    kind: type[Config],
    path: str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
    *,
    under: Mapping[str, Any] | None = None,
) -> Config:
    """Read any configuration that is a dataclass, as `read_run` does.

    Args:
        kind: The dataclass.
        path: YAML file; None for nothing but defaults and overrides.
        overrides: As for `read_run`.
        under: Values that the file lies over.
    Raises:
        ConfigError: As for `read_run`.
    """
    values = _laid_over(under or {}, {} if path is None else _read_yaml(Path(path), ()))
    for override in overrides:
        _override(values, override)
    return from_dict(kind, values, where="options" if path is None else os.fspath(path))


def _read_yaml(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A file laid over its base."""
    path = path.resolve()
    if path in above:
        raise ConfigError(f"{path}: is its own base")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got {values!r}")
    base = values.pop(BASE, None)
    if base is None:
        return values
    return _laid_over(_read_yaml(path.parent / str(base), (*above, path)), values)


def _laid_over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values over those of a base, as the head of this module says."""
    result = dict(base)
    for key, value in values.items():
        if str(key).endswith("+") and isinstance(value, list):
            result[key[:-1]] = [*(result.get(key[:-1]) or ()), *value]
            continue
        under = result.get(key)
        if isinstance(under, list) and isinstance(value, Mapping):
            under = dict(enumerate(under))
            if not set(value) <= set(under):
                raise ConfigError(
                    f"{key}: {list(value)} are not numbers of its {len(under)} members, which "
                    "count from 0"
                )
            members = _laid_over(under, value).values()
            result[key] = [member for member in members if member is not None]
        elif isinstance(under, Mapping) and isinstance(value, Mapping):
            result[key] = _laid_over(under, value)
        else:
            result[key] = value
    return result


def _override(values: dict[str, Any], override: str) -> None:
    name, sign, text = override.partition("=")
    if not sign or not name:
        raise ConfigError(f"override {override!r} is not of the form a.b=value")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {error}") from error
    place: Any = values
    parts = name.split(".")
    for parent, child in pairwise(parts):
        if isinstance(place, list):
            place = place[_row(place, parent, override)]
        else:
            if place.get(parent) is None:
                place[parent] = [{}] if child == "0" else {}
            place = place[parent]
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"override {override!r}: {parent!r} has no parts")
    last = parts[-1]
    if isinstance(place, list):
        place[_row(place, last, override)] = value
    else:
        place[last] = value


def _row(members: list[Any], name: str, override: str) -> int:
    if not name.isdecimal() or int(name) >= len(members):
        raise ConfigError(
            f"override {override!r}: {name!r} is not one of the {len(members)} members, "
            "counted from 0"
        )
    return int(name)


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, (list, tuple)) else value


def without_chance(config: ModelConfig) -> ModelConfig:
    """The same model with every source of chance in training switched off.

    Dropout, stochastic depth and DropBlock at zero, so that two training steps from the same
    weights are equal: for comparisons with recorded losses and gradients.
    """
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return replace(
        config,
        backbone=replace(config.backbone, drop_path=0.0),
        text=replace(config.text, options={**config.text.options, **options}),
        head=replace(config.head, fusion_dropout=0.0, text_layer_dropout=0.0, drop_block=0.0),
    )
