"""The configuration of a model: it survives JSON, and numbers out of range are refused."""

import json
from typing import Any

import pytest

from glip.config import (
    BackboneConfig,
    HeadConfig,
    ModelConfig,
    PixelConfig,
    TextConfig,
)
from glip.errors import ConfigError
from glip.model.presets import PRESETS
from glip.settings import from_dict


@pytest.mark.parametrize("name", PRESETS)
def test_config_survives_json(name: str) -> None:
    written = json.dumps(PRESETS[name].to_dict())
    assert from_dict(ModelConfig, json.loads(written)) == PRESETS[name]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (PixelConfig, {"short_side": 0}, "short_side 0 must lie between 1 and long_side"),
        (PixelConfig, {"short_side": 900, "long_side": 800}, "short_side 900"),
        (PixelConfig, {"order": "grb"}, "'grb'"),
        (PixelConfig, {"std": (1.0, 0.0, 1.0)}, "std .* must be positive"),
        (PixelConfig, {"std": (1.0, float("nan"), 1.0)}, "std .* must be positive"),
        (BackboneConfig, {"drop_path": 1.0}, "drop_path must lie in \\[0, 1\\), got 1.0"),
        (BackboneConfig, {"drop_path": -0.1}, "drop_path"),
        (TextConfig, {"max_tokens": 2}, "max_tokens 2 leaves no room"),
        (HeadConfig, {"fusion_heads": 7}, "fusion_dim and fusion_heads do not divide: 2048 by 7"),
        (HeadConfig, {"fusion_heads": 0}, "fusion_heads must be at least 1, got 0"),
        (HeadConfig, {"text_layer_heads": 0}, "text_layer_heads must be at least 1, got 0"),
        (HeadConfig, {"channels": 0}, "channels must be at least 1, got 0"),
        (HeadConfig, {"group_norm_groups": 24}, "channels and group_norm_groups"),
        (HeadConfig, {"blocks": 0}, "blocks must be at least 1, got 0"),
        (HeadConfig, {"fusion_dropout": 1.5}, "fusion_dropout must lie in"),
        (HeadConfig, {"text_layer_dropout": 1.0}, "text_layer_dropout must lie in"),
        (HeadConfig, {"drop_block": -1.0}, "drop_block must lie in"),
    ],
)
def test_numbers_out_of_range_are_refused(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**values)
