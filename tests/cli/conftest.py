"""What tests of several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glip.cli.main import main
from glip.detector import Detector


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default outputs land in the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def predict(tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`glip predict` with the tiny model, for a prompt that finds something."""
    monkeypatch.setattr("glip.detector.load", lambda *args, **options: tiny_detector)

    def run(*argv: str | Path, prompt: str = "cat. red car.") -> int:
        options = ["--device", "cpu", "--max-detections", "12"]
        return main(["predict", "--prompt", prompt, *options, "--image", *map(str, argv)])

    return run
