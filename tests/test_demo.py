"""The demo as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.whole

DEMO = Path(__file__).parents[1] / "demo" / "predict.py"


def run_demo(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, str(DEMO), *argv],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_demo_draws_prints_and_writes_json(
    tmp_path: Path, make_picture: Callable[..., Image.Image], tiny_file: Path
) -> None:
    make_picture().save(tmp_path / "x.png")
    argv = ["--image", "x.png", "--prompt", "person. bicycle.", "--json", "out.json"]
    argv += ["--weights", str(tiny_file), "--threshold", "0.3", "--device", "cpu"]
    result = run_demo(tmp_path, *argv, "--dtype", "bfloat16")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("phrase") and "person" in result.stdout
    assert Image.open(tmp_path / "x.glip.jpg").size == (120, 90)
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["prompt"] == "person. bicycle."
    assert {found["phrase"] for found in record["detections"]} == {"person", "bicycle"}
    assert all(found["score"] > 0.3 for found in record["detections"])


def test_demo_without_weights_says_so(
    tmp_path: Path, make_picture: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_picture().save(tmp_path / "x.png")
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    argv = ["--image", "x.png", "--prompt", "person", "--weights", "glip_tiny"]
    result = run_demo(tmp_path, *argv)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ")
    assert "glip_tiny_model_o365_goldg_cc_sbu.pth" in result.stderr
    assert str(tmp_path / "home") in result.stderr
