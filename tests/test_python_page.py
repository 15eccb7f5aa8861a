"""What docs/python.md tells people to type works, on a tiny model in place of the packaged one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from glip.checkpoint import Weights, save

pytestmark = pytest.mark.whole

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def desk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_weights: Weights,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    save(tmp_path / "weights" / "glip_nano.safetensors", tiny_weights)


@pytest.mark.usefixtures("desk")
def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if "glip.train" in block:  # one step says as much as hundreds
            block = block.replace('["steps=500"]', '["steps=1", "data.workers=0"]')
            block = block.replace("shots=5", "shots=1, steps=1, evaluations=1, batch_size=1")
        exec(compile(block, "python.md", "exec"), names)
    out = capsys.readouterr().out
    assert "22 pictures labelled, 0 rejected" in out and "learned from" in out
    assert "pictures: 5 of 5 pictures, {'done': 5}" in out
    assert names["results"]["metrics"]["AP50"] >= 0
    assert Path("runs/mine/report.html").exists()
