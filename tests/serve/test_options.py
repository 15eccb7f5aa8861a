"""What a server can be told, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.cli import serve
from glip.cli.main import parser_of
from glip.errors import ConfigError
from glip.serve.options import LabelStudio, Limits, ServeOptions


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


def test_an_address_of_label_studio() -> None:
    with pytest.raises(ConfigError, match="http://label-studio:8080"):
        LabelStudio("localhost:8080")


def test_keys_are_not_shown() -> None:
    options = ServeOptions(api_key="secret", label_studio=LabelStudio("http://x", "hidden"))
    assert "secret" not in repr(options)
    assert "hidden" not in repr(options)


def test_processes_share_devices_and_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ServeOptions(devices=("cuda:0", "cuda:1"), processes=3)
    assert [options.device_of(number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert (options.threads, ServeOptions().threads) == (2, None)


def begun(monkeypatch: pytest.MonkeyPatch, *words: str) -> ServeOptions:
    """The options that a command line comes to."""
    found: list[ServeOptions] = []
    monkeypatch.setattr(serve, "start", lambda options: found.append(options) or 0)
    assert serve.run(parser_of("serve").parse_args(words)) == 0
    return found[0]


def test_a_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLIP_API_KEY", raising=False)
    assert begun(monkeypatch) == ServeOptions()
    key = tmp_path / "key"
    key.write_text("abc\n")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "token")
    words = ["--device", "cuda:0,cuda:1", "--task", "a=b=c.safetensors", "--max-bytes", "5"]
    words += ["--seconds", "2.5", "--origin", "https://example.org", "--urls"]
    words += ["--api-key-file", str(key), "--label-studio", "http://ls:8080/"]
    options = begun(monkeypatch, *words)
    assert options.devices == ("cuda:0", "cuda:1")
    assert options.tasks == {"a": "b=c.safetensors"}
    assert (options.limits.max_bytes, options.limits.seconds) == (5, 2.5)
    assert (options.api_key, options.urls) == ("abc", True)
    assert options.label_studio == LabelStudio("http://ls:8080", "token")


def test_an_open_server_without_a_key_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GLIP_API_KEY", raising=False)
    begun(monkeypatch, "--host", "0.0.0.0")
    assert "GLIP_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("GLIP_API_KEY", "abc")
    assert begun(monkeypatch, "--host", "0.0.0.0").api_key == "abc"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "name"], "NAME=FILE"),
        (["--task", "a=b", "--task", "a=c"], "twice"),
        (["--api-key-file", "nowhere"], "nowhere"),
        (["--queue", "0"], "queue"),
    ],
)
def test_bad_command_lines(monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        begun(monkeypatch, *words)
