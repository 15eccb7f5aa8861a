"""What docs/transformers.md tells people to type works, on tiny models in place of real ones."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.checkpoint import Weights, save
from glip.cli.main import main
from tests.zero_shot.tiny import MAKERS, grounding_dino

pytestmark = pytest.mark.whole

PAGE = (Path(__file__).parent.parent / "docs" / "transformers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|bash)\n(.*?)```", PAGE, re.DOTALL)
REPOSITORY = "IDEA-Research/grounding-dino-tiny"


@pytest.fixture
def desk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_weights: Weights,
    make_picture: Callable[..., Image.Image],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    save(tmp_path / "weights" / "glip_nano.safetensors", tiny_weights)
    make_picture().save("street.jpg")
    cached = tmp_path / "cached"
    cached.mkdir()
    grounding_dino(cached)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(cached))


@pytest.mark.usefixtures("desk")
def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for language, block in BLOCKS:
        if language == "bash":
            words = re.findall(r'"[^"]*"|\S+', block)
            assert words[0] == "glip"
            assert main([word.strip('"') for word in words[1:]]) == 0
        elif "Trainer" not in block or importlib.util.find_spec("accelerate"):
            exec(compile(block, "transformers.md", "exec"), names)
    out = capsys.readouterr().out
    assert "Detections:" in out and "person" in out
    assert Path("found.jpg").exists() and Path("glip-nano/config.json").exists()
    assert names["detector"].config.name == REPOSITORY.split("/")[1]


def test_every_kind_is_in_the_table() -> None:
    said = PAGE.casefold().replace("-", " ")
    for kind in MAKERS:
        name = {"owlvit": "owl vit", "sam3": "sam 3"}.get(kind, kind.replace("-", " "))
        assert name in said, kind
