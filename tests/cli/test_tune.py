"""`glip tune`: what it hands to the function, and what it prints."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from glip import api
from glip.cli.main import main


def test_options_reach_the_function_and_the_result_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    @functools.wraps(api.tune)
    def tune(**options: Any) -> api.Result:
        seen.update(options)
        return api.Result({"file": "task.prompt.safetensors"}, "AP  1 -> 2", Path("out"))

    monkeypatch.setattr(api, "tune", tune)
    words = ["tune", "--data", "photos", "--out", "out", "--shots", "all", "--lr", "1", "2"]
    assert main([*words, "--no-cache"]) == 0
    assert (seen["shots"], seen["lr"], seen["cache"]) == (None, [1.0, 2.0], False)
    out, err = capsys.readouterr()
    assert out == "AP  1 -> 2\n"
    assert err == "written: out/task.prompt.safetensors, out/report.html\n"


@pytest.mark.parametrize(
    "words",
    [["--lr", "1", "--search-lr"], ["--steps", "3", "--epochs", "1"], ["--shots", "0"]],
)
def test_options_that_exclude_each_other(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tune", "--data", "photos", "--out", "out", *words])
    assert caught.value.code == 2
