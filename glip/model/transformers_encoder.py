"""Text encoders of transformers, through its public classes only.

Knows nothing about tokens or sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from glip.errors import ConfigError
from glip.settings import nearest


class Built(NamedTuple):
    """An encoder and what its configuration says of it."""

    model: nn.Module
    """Takes `input_ids` (B, T) and `attention_mask` (B, T); its first output is (B, T, D)."""
    width: int
    """D."""
    positions: int | None
    """Most tokens that it takes, if it has such a limit."""


def build_encoder(model_type: str, options: Mapping[str, Any]) -> Built:
    """An encoder with untrained weights.

    Args:
        model_type: `model_type` of a transformers configuration, such as "roberta".
        options: Overrides of that configuration's defaults.
    Raises:
        ConfigError: transformers does not know the type, or an option is wrong.
    """
    if model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"text encoder '{model_type}' is not a model type of transformers; "
            + nearest(model_type, CONFIG_MAPPING.keys(), else_="use 'bert' or 'roberta'", most=3)
        )
    defaults = AutoConfig.for_model(model_type)
    for key in options:  # transformers would keep an unknown one and use it nowhere
        if not hasattr(defaults, key):
            raise ConfigError(
                f"text encoder '{model_type}' has no option '{key}'; "
                + nearest(key, defaults.to_dict())
            )
    try:
        config = AutoConfig.for_model(model_type, **options)
        try:
            model = AutoModel.from_config(config, add_pooling_layer=False)
        except TypeError:  # types without a pooler do not know the option
            model = AutoModel.from_config(config)
        if getattr(config, "is_encoder_decoder", False):
            model = model.get_encoder()
        return Built(model, int(config.hidden_size), _positions(config))
    except Exception as error:  # of many kinds, which differ between versions
        raise ConfigError(f"text encoder '{model_type}': {error}") from error


def _positions(config: Any) -> int | None:
    """Tokens with a place of their own; RoBERTa and its kin begin to count behind the padding."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    counted_from_padding = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer"}
    if config.model_type in counted_from_padding:
        return positions - int(config.pad_token_id) - 1
    return positions
