"""The models by name, and the one place where a config meets constructors.

Sizes follow the released models (arXiv 2112.03857, Table 1); `glip_nano` is ours, for CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from glip.config import BackboneConfig, HeadConfig, ModelConfig, PixelConfig, TextConfig
from glip.errors import ConfigError
from glip.model.backbone import Backbone
from glip.model.dyhead import DyHeadBlock
from glip.model.fpn import FPN, LEVEL_STRIDES
from glip.model.fusion import BiAttention
from glip.model.glip import GLIP
from glip.model.head import Head, HeadStage, Outputs
from glip.model.prompt_table import PromptTable
from glip.model.text_encoder import TextEncoder, TextLayer
from glip.settings import from_dict, laid_over, nearest

_TINY = ModelConfig()

PRESETS: dict[str, ModelConfig] = {
    # (B), (C) and GLIP-T are one architecture; only what they were trained on differs.
    "glip_tiny_a": replace(_TINY, name="glip_tiny_a", head=replace(_TINY.head, fusion=False)),
    "glip_tiny_b": replace(_TINY, name="glip_tiny_b"),
    "glip_tiny_c": replace(_TINY, name="glip_tiny_c"),
    "glip_tiny": _TINY,
    "glip_large": ModelConfig(
        name="glip_large",
        backbone=BackboneConfig("swin_large_patch4_window12_384", drop_path=0.4),
        head=HeadConfig(blocks=8),
    ),
    # A pyramid half as wide on an EfficientNet-Lite, and the lower layers of a MiniLM: 29 M
    # parameters, 58 MB in float16.
    "glip_nano": ModelConfig(
        name="glip_nano",
        backbone=BackboneConfig("tf_efficientnet_lite0", drop_path=0.1),
        text=TextConfig(
            options={
                "hidden_size": 384,
                "num_hidden_layers": 4,
                "num_attention_heads": 12,
                "intermediate_size": 1536,
                # As for the fusion's below: random numbers cost a CPU a tenth of a training step.
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            }
        ),
        head=HeadConfig(
            channels=128,
            blocks=2,
            fusion_heads=4,
            fusion_dim=512,
            text_layer_dim=1536,
            fusion_dropout=0.0,
            drop_block=0.0,
        ),
        pixels=PixelConfig(
            short_side=320,
            long_side=512,
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
            order="rgb",
        ),
        threshold=0.5,  # for 80 names in everyday photos, where precision and recall balance best
    ),
}


# With these timm opens files of its own, in old versions pickles that may run code.
SOURCES = frozenset(
    {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
)


def preset(name: str) -> ModelConfig:
    """The config of a named model.

    Raises:
        ConfigError: No such name.
    """
    if name not in PRESETS:
        raise ConfigError(f"no model is called '{name}'; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def configured(choice: str | Mapping[str, Any], where: str = "model") -> ModelConfig:
    """The config that a run asks for.

    Args:
        choice: The name of a preset, or a `ModelConfig` as a mapping of which anything may be left
            out: that is as in the preset that `name` names, or else as in glip_nano.
        where: Begins error messages.
    Raises:
        ConfigError: No such name or key, or a value of another type.
    """
    if isinstance(choice, str):
        return preset(choice)
    name = choice.get("name", "glip_nano")
    under = PRESETS.get(name)
    if under is None:
        if near := nearest(name, PRESETS, else_=""):  # else it is a new model's own name
            raise ConfigError(f"{where}: no model is called '{name}'; {near}")
        under = PRESETS["glip_nano"]
    config = from_dict(ModelConfig, laid_over(asdict(under), choice), where=where)
    changed = config.name in PRESETS and config != PRESETS[config.name]
    return replace(config, name=f"{config.name}_changed") if changed else config


def without_sources(config: ModelConfig) -> ModelConfig:
    """The same model, without what only said where its first weights come from (`pretrained`).

    Whoever loads weights has them already, and is not sent to fetch others.
    """
    kept = {k: v for k, v in config.backbone.options.items() if k not in SOURCES}
    return replace(config, backbone=replace(config.backbone, options=kept))


def build(config: ModelConfig, table: PromptTable | None = None) -> GLIP:
    """A model with untrained weights, in evaluation mode.

    Args:
        config: Its numbers.
        table: Learned words in the place of a text encoder, of which then none is made.
    """
    head = config.head
    backbone = Backbone(config.backbone.name, config.backbone.drop_path, **config.backbone.options)
    text = table if table is not None else _text_encoder(config.text)

    def stage() -> HeadStage:
        block = DyHeadBlock(head.channels, head.group_norm_groups)
        if not head.fusion:
            return HeadStage(block)
        fusion = BiAttention(
            head.channels,
            text.width,
            head.fusion_dim,
            head.fusion_heads,
            dropout=head.fusion_dropout,
            gamma=1 / head.blocks,
        )
        text_layer = TextLayer(
            text.width, head.text_layer_heads, head.text_layer_dim, head.text_layer_dropout
        )
        return HeadStage(block, fusion, text_layer)

    outputs = Outputs(head.channels, text.width, len(LEVEL_STRIDES))
    neck = FPN(backbone.channels, head.channels, head.drop_block)
    model = GLIP(backbone, neck, text, Head([stage() for _ in range(head.blocks)], outputs))
    return model.eval()


def _text_encoder(config: TextConfig) -> TextEncoder:
    text = TextEncoder(config.model_type, config.options)
    if text.positions is not None and text.positions < config.max_tokens:
        raise ConfigError(
            f"text: max_tokens {config.max_tokens} exceeds the {text.positions} positions of the "
            "text encoder"
        )
    return text


class _EmptyWithoutMemory(TorchFunctionMode):
    """`torch.empty`, which layers make their weights of, gives shapes only; buffers are real.

    For the thread and the block that it is entered in. (`torch.device("meta")` would take the
    buffers that constructors compute, too.)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        number = kwargs.get("dtype") or torch.get_default_dtype()
        if func is torch.empty and kwargs.get("device") is None and number.is_floating_point:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def build_empty(config: ModelConfig, table: PromptTable | None = None) -> GLIP:
    """A model whose weights hold no numbers yet, for `load_state_dict(..., assign=True)`.

    Drawing random weights for a large model takes longer than reading trained ones. Arguments are
    those of `build`; a table keeps its numbers.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            with _EmptyWithoutMemory():
                model = build(config, table)
        except (ConfigError, NotImplementedError, RuntimeError):
            return build(config, table)  # some backbones compute with their weights at once
        if any(buffer.is_meta for buffer in model.buffers()):
            return build(config, table)  # or make buffers where those are
        return model
