"""What docs/video.md tells people to type works, on a tiny model in place of the packaged one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.checkpoint import Weights, save
from glip.cli.main import main
from glip.video.writing import whole_film

pytest.importorskip("av")
pytestmark = pytest.mark.whole

PAGE = (Path(__file__).parent.parent / "docs" / "video.md").read_text(encoding="utf-8")


def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_weights: Weights,
    make_picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    save(tmp_path / "weights" / "glip_nano.safetensors", tiny_weights)
    with whole_film("clip.mp4", rate=Fraction(10)) as add:
        for number in range(4):
            add(make_picture(seed=1), number / 10)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in "".join(blocks).splitlines():
        assert main(shlex.split(line)[1:]) == 0
    names = {"annotated.mp4", "tracks.jsonl", "mot.txt", "cvat.xml"}
    assert names <= {path.name for path in Path("all-formats").iterdir()}
    assert Path("clip.glip.mp4").exists() and Path("every-fifth.mp4").exists()
    assert len(Path("found.jsonl").read_text().splitlines()) == 4
    example = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    found: dict[str, Any] = {}
    exec(compile(example, "video.md", "exec"), found)
    assert found["tracks"].frames == 4 and Path("from-python/tracks.jsonl").exists()
    assert Path("second-frame.jpg").exists()
    assert "4 frames, tracks:" in capsys.readouterr().out
