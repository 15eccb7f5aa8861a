"""What docs/export.md tells people to do works, with the tiny model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import DOCS, run_page

pytestmark = [
    pytest.mark.export,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxscript") is None, reason="needs pip install 'glip[export]'"
    ),
]


@pytest.mark.usefixtures("desk")
def test_the_page_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, make_picture: Callable[..., Image.Image]
) -> None:
    make_picture().save("street.jpg")
    names = run_page(DOCS / "export.md", monkeypatch)
    assert {path.suffix for path in Path("nano").iterdir()} >= {".json", ".onnx"}
    assert names["found"].image_hw == Image.open("street.jpg").size[::-1]
