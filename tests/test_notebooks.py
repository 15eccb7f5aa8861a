"""The notebooks of `examples/` run from top to bottom, offline, with a tiny model."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from glip.checkpoint import Weights, save

pytestmark = pytest.mark.notebooks

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


def shown(value: Any) -> str | None:
    """What a notebook shows of the value of a cell."""
    if value is None:
        return None
    return value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)


def run(source: str, names: dict[str, Any]) -> str | None:
    """A cell, and what is shown below it."""
    cell = ast.parse(source)
    last = cell.body.pop() if isinstance(cell.body[-1], ast.Expr) else None
    exec(compile(cell, "cell", "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return shown(eval(compile(ast.Expression(last.value), "cell", "eval"), names))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Weights
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    save(tmp_path / "weights" / "glip_nano.safetensors", tiny_weights)
    names: dict[str, Any] = {}
    shows = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"]).replace("STEPS = 60", "STEPS = 2")
            shows.append(run(source, names))
    assert any(shows)


def test_there_are_four_without_outputs() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "five_photos",
        "label_a_folder",
        "quick_start",
        "worst_photos",
    ]
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None
