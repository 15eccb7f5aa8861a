"""Configurations from plain dictionaries: what is taken, what is refused, and with which words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from glip.config import (
    BackboneConfig,
    HeadConfig,
    ModelConfig,
    PixelConfig,
    TextConfig,
    from_dict,
)
from glip.errors import ConfigError
from glip.model.presets import PRESETS


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    on: bool = False
    pair: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = ()
    word: Literal["a", "b"] = "a"
    maybe: int | None = 3
    inner: Inner = field(default_factory=Inner)
    rest: Mapping[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rate": 2}, {"rate": 2.0}),
        ({"on": True}, {"on": True}),
        ({"pair": [3, 4]}, {"pair": (3, 4)}),
        ({"many": [1, 2.5, 3]}, {"many": (1.0, 2.5, 3.0)}),
        ({"many": []}, {"many": ()}),
        ({"maybe": None}, {"maybe": None}),
        ({"inner": {"size": 5}}, {"inner": Inner(5)}),
        ({"inner": {}}, {"inner": Inner()}),
        ({"rest": {"any": [1, "b"]}}, {"rest": {"any": [1, "b"]}}),
    ],
)
def test_values_take_the_annotated_type(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert from_dict(Outer, {"name": "x", **values}) == Outer("x", **expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "y"}, r"^config: unknown key 'nam'; did you mean 'name'\?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: inner, many, maybe, name, on, pair"),
        ({7: 1}, "unknown key '7'"),
        ({"inner": {"siez": 1}}, r"^config\.inner: unknown key 'siez'; did you mean 'size'\?"),
        ({"inner": {"size": "1"}}, r"^config\.inner\.size: expected int, got '1'"),
        ({"inner": 5}, r"config\.inner: expected a mapping, got 5"),
        ({"inner": {"size": True}}, "expected int, got True"),
        ({"inner": {"size": 1.0}}, r"expected int, got 1\.0"),
        ({"rate": True}, "expected float, got True"),
        ({"rate": "0.5"}, "expected float, got '0.5'"),
        ({"rate": None}, "expected float, got None"),
        ({"on": 1}, "expected bool, got 1"),
        ({"pair": [1]}, r"config\.pair: expected 2 values, got \[1\]"),
        ({"pair": [1, 2, 3]}, "expected 2 values"),
        ({"pair": "12"}, "expected a list, got '12'"),
        ({"pair": [1, 2.5]}, r"expected int, got 2\.5"),
        ({"many": [1, "x"]}, "expected float, got 'x'"),
        ({"word": "c"}, r"config\.word: 'c' is not one of \('a', 'b'\)"),
        ({"maybe": "x"}, "expected int, got 'x'"),
        ({"rest": [1]}, r"config\.rest: expected a mapping, got \[1\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(values: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, {"name": "x", **values})


def test_missing_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^some\.yaml: .*'name'"):
        from_dict(Outer, {"rate": 0.1}, where="some.yaml")


def test_config_must_be_a_mapping() -> None:
    with pytest.raises(ConfigError, match="config: expected a mapping, got None"):
        from_dict(ModelConfig, None)  # type: ignore[arg-type]


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
