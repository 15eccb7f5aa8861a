"""`glip serve`: from a command line to the options of a server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glip.cli import serve
from glip.cli.main import main, parser_of
from glip.errors import ConfigError
from glip.serve.options import LabelStudio, ServeOptions


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
    monkeypatch.setenv("GLIP_API_KEY", "abc\r\n")  # as files of variables may leave it
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


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("glip.serve.", "uvicorn"))]:
        if name != "glip.serve.options":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "--port", "0"]) == 2
    assert "needs uvicorn" in capsys.readouterr().err
