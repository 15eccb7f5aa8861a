"""What docs/transformers.md tells people to type works, on tiny models in place of real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import DOCS, run_page
from tests.zero_shot.tiny import MAKERS, grounding_dino

pytestmark = pytest.mark.whole


@pytest.mark.usefixtures("desk")
def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_picture().save("street.jpg")
    cached = tmp_path / "cached"
    cached.mkdir()
    grounding_dino(cached)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(cached))
    names = run_page(DOCS / "transformers.md", monkeypatch)
    out = capsys.readouterr().out
    assert "Detections:" in out and "person" in out
    assert Path("found.jpg").exists() and Path("glip-nano/config.json").exists()
    assert names["detector"].config.name == "grounding-dino-tiny"


def test_every_kind_is_in_the_table() -> None:
    said = (DOCS / "transformers.md").read_text(encoding="utf-8").casefold().replace("-", " ")
    for kind in MAKERS:
        name = {"owlvit": "owl vit", "sam3": "sam 3"}.get(kind, kind.replace("-", " "))
        assert name in said, kind
