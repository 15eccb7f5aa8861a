"""What a server can be told, and what it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from glip.errors import ConfigError
from glip.serve.options import LabelStudio, Limits, ServeOptions

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70000}, "port"),
        ({"processes": 0}, "processes"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"readers": -1}, "readers"),
        ({"tasks": {"a b": "x"}}, "task name 'a b'"),
        ({"api_key": " "}, "API key"),
        ({"origins": ("example.org",)}, "https://example.org"),
        ({"origins": ("https://example.org/page",)}, "without a path"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServeOptions(**options)


@pytest.mark.parametrize("name", list(vars(Limits())))
def test_limits_begin_at_one(name: str) -> None:
    for value in (0, -3, True, "7", float("nan")):
        with pytest.raises(ConfigError, match=f"{name} must be"):
            Limits(**{name: value})


@pytest.mark.parametrize("url", ["localhost:8080", "http://[", "http://localhost:80800"])
def test_an_address_of_label_studio(url: str) -> None:
    with pytest.raises(ConfigError, match="http://label-studio:8080"):
        LabelStudio(url)


def test_keys_are_not_shown() -> None:
    options = ServeOptions(api_key="secret", label_studio=LabelStudio("http://x", "hidden"))
    assert "secret" not in repr(options)
    assert "hidden" not in repr(options)


def test_batches_are_for_gpus() -> None:
    assert [ServeOptions().batch_size_on(device) for device in ("cpu", "cuda:1")] == [1, 8]
    assert ServeOptions(batch_size=3).batch_size_on("cpu") == 3


def test_processes_share_devices() -> None:
    options = ServeOptions(devices=("cuda:0", "cuda:1"), processes=3)
    assert [options.device_of(number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
