"""`glip models`: a line for each model that has a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip import api
from glip.cli.main import main


def test_a_line_for_each_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [
        api.Model("glip_nano", 3_600_000, "this package", Path("nano.safetensors")),
        api.Model("glip_tiny", 232_000_000, "the Hub", None),
    ]
    monkeypatch.setattr(api, "models", lambda: known)
    assert main(["models"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["glip_nano", "4", "M", "this", "package", "nano.safetensors"]
    assert second.endswith("not on this machine")
