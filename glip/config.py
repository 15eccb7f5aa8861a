"""The numbers of a model, as small dataclasses that a checkpoint carries with it, and those of
what becomes of its output.

A config is read at the door (`glip/model/presets.py`, `glip/checkpoint.py`) and goes no further:
the modules of the model take plain numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from glip.choices import Aggregate
from glip.errors import ConfigError
from glip.settings import one_of, within

ChannelOrder = Literal["rgb", "bgr"]


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
        within("backbone: drop_path", self.drop_path, least=0, below=1)


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
            within(f"head: {name}", getattr(self, name), least=1)
        for width, parts, names in (
            (self.fusion_dim, self.fusion_heads, "fusion_dim and fusion_heads"),
            (self.channels, self.group_norm_groups, "channels and group_norm_groups"),
        ):
            if width % parts:
                raise ConfigError(f"head: {names} do not divide: {width} by {parts}")
        for name in ("fusion_dropout", "text_layer_dropout", "drop_block"):
            within(f"head: {name}", getattr(self, name), least=0, below=1)


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
        within("threshold", self.threshold, least=0, most=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers, ready for JSON or YAML."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PostprocessOptions:
    """How outputs become detections; the defaults are the official test settings."""

    probability: float = 0.05
    """A phrase's probability at a region must exceed this before its centerness counts."""
    score: float = 0.0
    """Detections must score above this; 0 keeps whatever passed `probability`."""
    nms: float = 0.6
    """Of two boxes of one phrase that overlap by more than this IoU, the better one stays."""
    candidates_per_level: int = 1000
    max_detections: int = 100
    aggregate: Aggregate | None = None
    """A phrase's probability from its tokens' probabilities; by default as the model was trained,
    which is the mean for GLIP."""
    exclusive: bool = False
    """Of what is left, boxes of different phrases suppress each other too: one phrase for each
    thing. Not official, where a dog may be a "dog" and an "animal"."""

    def __post_init__(self) -> None:
        for name in ("probability", "score", "nms"):
            value = getattr(self, name)
            shown = "threshold" if name == "score" else name  # as users of `predict` know it
            within(shown, value, least=0, most=1, required=True)
        for name in ("candidates_per_level", "max_detections"):
            within(name, getattr(self, name), least=1, whole=True, required=True)
        one_of("aggregate", self.aggregate, Aggregate)
