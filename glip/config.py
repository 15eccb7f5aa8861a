"""The numbers of a model, as small dataclasses that a checkpoint carries with it.

A config is read at the door (`glip/model/presets.py`, `glip/checkpoint.py`) and goes no further:
the modules of the model take plain numbers. This file imports nothing else of the package but its
errors.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, Union

from glip.errors import ConfigError

ChannelOrder = Literal["rgb", "bgr"]


def _check_chances(config: object, where: str, *names: str) -> None:
    """Probabilities of dropping something must leave something."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"{where}: {name} must lie in [0, 1), got {getattr(config, name)}")


@dataclass(frozen=True)
class PixelConfig:
    """How a picture becomes the tensor that the backbone was trained on."""

    short_side: int = 800
    """Pixels of the shorter side after resizing."""
    long_side: int = 1333
    """The longer side does not grow beyond this; the shorter one then stays below `short_side`."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from pixel values 0..255; always in R, G, B order."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """Divides the difference; always in R, G, B order."""
    order: ChannelOrder = "bgr"
    """Channel order that the weights expect. Users pass RGB in any case."""

    def __post_init__(self) -> None:
        if not 1 <= self.short_side <= self.long_side:
            raise ConfigError(
                f"pixels: short_side {self.short_side} must lie between 1 and long_side "
                f"{self.long_side}"
            )
        if self.order not in ("rgb", "bgr"):
            raise ConfigError(f"pixels: order {self.order!r} is neither 'rgb' nor 'bgr'")
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"pixels: std {self.std} must be positive")


@dataclass(frozen=True)
class BackboneConfig:
    """The image encoder: any feature extractor of timm."""

    name: str = "swin_tiny_patch4_window7_224"
    """Model name of timm. Names that begin with `swin_` take the exact detection form of Swin."""
    drop_path: float = 0.2
    """Largest stochastic depth rate while training; 0 switches it off."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the timm model, such as sizes that differ from the named one's."""

    def __post_init__(self) -> None:
        _check_chances(self, "backbone", "drop_path")


@dataclass(frozen=True)
class TextConfig:
    """The text encoder: any BERT-like encoder of transformers."""

    model_type: str = "bert"
    """`model_type` of a transformers configuration, such as "bert" or "roberta"."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What differs from that configuration's defaults (bert-base-uncased for "bert")."""
    max_tokens: int = 256
    """Longest prompt of one pass, [CLS] and [SEP] included."""
    tokenizer: str = "bert-base-uncased"
    """The packaged vocabulary, or the path of a `tokenizer.json`; saved weights carry a copy."""

    def __post_init__(self) -> None:
        if self.max_tokens < 3:
            raise ConfigError(
                f"text: max_tokens {self.max_tokens} leaves no room for a word; use at least 3"
            )


@dataclass(frozen=True)
class HeadConfig:
    """The tower of fused blocks and the outputs on top of it."""

    channels: int = 256
    """Width of the feature pyramid and of every visual map in the head."""
    blocks: int = 6
    """Dynamic head blocks; with fusion, each has a fusion and a text layer before it."""
    fusion: bool = True
    """Deep cross-modal fusion. Without it, (A), words and regions meet in the dot product only."""
    fusion_heads: int = 8
    fusion_dim: int = 2048
    """Width of the attention between words and regions, over all heads."""
    fusion_dropout: float = 0.1
    text_layer_heads: int = 12
    text_layer_dim: int = 3072
    """Width of the feed-forward part of the text layers inside the tower."""
    text_layer_dropout: float = 0.1
    group_norm_groups: int = 16
    drop_block: float = 0.3
    """DropBlock probability on the two finer laterals of the pyramid, training only."""

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "fusion_heads", "fusion_dim", "text_layer_heads",
                     "text_layer_dim", "group_norm_groups"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"head: {name} must be at least 1, got {getattr(self, name)}")
        for width, parts, names in (
            (self.fusion_dim, self.fusion_heads, "fusion_dim and fusion_heads"),
            (self.channels, self.group_norm_groups, "channels and group_norm_groups"),
        ):
            if width % parts:
                raise ConfigError(f"head: {names} do not divide: {width} by {parts}")
        _check_chances(self, "head", "fusion_dropout", "text_layer_dropout", "drop_block")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that is needed to build a GLIP model of untrained weights."""

    name: str = "glip_tiny"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    text: TextConfig = field(default_factory=TextConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    pixels: PixelConfig = field(default_factory=PixelConfig)
    threshold: float = 0.3
    """Detections score above this unless a caller says otherwise; how sure a model is depends on
    how it was trained."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold must lie in [0, 1], got {self.threshold}")

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers, ready for JSON or YAML."""
        return dataclasses.asdict(self)


Config = TypeVar("Config")


def from_dict(kind: type[Config], values: Mapping[str, Any], *, where: str = "config") -> Config:
    """Build a config dataclass from plain dictionaries, strictly.

    Args:
        kind: The dataclass; nested dataclasses are built from nested dictionaries.
        values: As `to_dict` or a YAML file gives them.
        where: Prefix of error messages, such as the name of the file.
    Raises:
        ConfigError: An unknown key (with the nearest known one) or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {values!r}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = (
                f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(known))}"
            )
            raise ConfigError(f"{where}: unknown key '{key}'{hint}")
        arguments[key] = _coerce(hints[key], value, f"{where}.{key}")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type: exact, but for the number and sequence types YAML mixes up."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where=where)
    if origin in (Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (inner,) = (o for o in options if o is not type(None))
        return _coerce(inner, value, where)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(f"{where}: {value!r} is not one of {typing.get_args(hint)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        parts = typing.get_args(hint)
        inner_types = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(inner_types) != len(value):
            raise ConfigError(f"{where}: expected {len(inner_types)} values, got {value!r}")
        return tuple(_coerce(t, v, where) for t, v in zip(inner_types, value, strict=True))
    if origin is not None:  # Mapping[str, Any]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is not Any and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


SHOWN = 80  # letters of a value in a message


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two nested settings, each by its dotted name: "a.b was 1, is 2".

    Args:
        old, new: Mappings, lists and values, as JSON and YAML give them.
        name: Of what they are, for what lies below.
    """
    inner = [_members(value) for value in (old, new)]
    if all(isinstance(value, dict) for value in inner):
        before, now = inner
        return [
            difference
            for key in dict.fromkeys([*before, *now])
            for difference in differences(
                before.get(key, _ABSENT),
                now.get(key, _ABSENT),
                f"{name}.{key}" if name else str(key),
            )
        ]
    return [] if old == new else [f"{name} was {_shown(old)}, is {_shown(new)}"]


_ABSENT = object()


def _members(value: Any) -> Any:
    """A list of mappings by number, so that what differs in one of them can be named."""
    nested = isinstance(value, list) and any(isinstance(member, dict) for member in value)
    return dict(enumerate(value)) if nested else value


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
