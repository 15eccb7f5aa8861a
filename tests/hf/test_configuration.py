"""Our numbers as a configuration of transformers, by what its own tests ask of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from glip.errors import ConfigError
from glip.hf import GlipConfig
from glip.model.presets import preset
from tests.toy import TINY


def test_what_transformers_asks_of_a_configuration(tmp_path: Path) -> None:
    config = GlipConfig(TINY)
    assert config.numbers == TINY
    assert json.loads(config.to_json_string())["model_type"] == "glip"
    config.to_json_file(tmp_path / "config.json")
    assert GlipConfig.from_json_file(tmp_path / "config.json").to_dict() == config.to_dict()
    config.save_pretrained(tmp_path / "saved")
    again = GlipConfig.from_pretrained(tmp_path / "saved")
    assert again.numbers == TINY
    assert isinstance(AutoConfig.from_pretrained(tmp_path / "saved"), GlipConfig)
    assert GlipConfig.from_dict(config.to_dict()).numbers == TINY
    assert GlipConfig().numbers == preset("glip_tiny")  # nothing said
    assert GlipConfig("glip_nano").numbers == preset("glip_nano")
    assert config.hidden_size == TINY.head.channels
    labelled = GlipConfig(TINY, id2label={0: "cat", 1: "dog"})
    assert labelled.num_labels == 2


def test_no_other_file_is_opened_for_it() -> None:
    values = TINY.to_dict()
    values["backbone"]["options"] = {
        **values["backbone"]["options"],
        "checkpoint_path": "/etc/passwd",
    }
    assert "checkpoint_path" not in GlipConfig(values).glip["backbone"]["options"]


@pytest.mark.parametrize(
    ("glip", "message"),
    [
        ("glip_huge", "no model is called 'glip_huge'"),
        ({"nme": "x"}, "unknown key 'nme'"),
        ({"head": {"channels": 0}}, "channels"),
        ({"head": {"channels": "many"}}, "channels"),
        ({"threshold": 2}, "threshold"),
        ({"pixels": {"short_side": 900, "long_side": 10}}, "short_side"),
        ([1, 2], "expected a mapping"),
        (7, "expected a mapping"),
    ],
)
def test_bad_numbers(glip: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GlipConfig(glip)
