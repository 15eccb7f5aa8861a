"""What docs/video.md tells people to type works, on a tiny model in place of the packaged one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from glip.video.writing import whole_film
from tests.pages import DOCS, run_page

pytest.importorskip("av")
pytestmark = pytest.mark.whole


@pytest.mark.usefixtures("desk")
def test_the_page_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch,
    make_picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with whole_film("clip.mp4", rate=Fraction(10)) as add:
        for number in range(4):
            add(make_picture(seed=1), number / 10)
    found = run_page(DOCS / "video.md", monkeypatch)
    names = {"annotated.mp4", "tracks.jsonl", "mot.txt", "cvat.xml"}
    assert names <= {path.name for path in Path("all-formats").iterdir()}
    assert Path("clip.glip.mp4").exists() and Path("every-fifth.mp4").exists()
    assert len(Path("found.jsonl").read_text().splitlines()) == 4
    assert found["tracks"].frames == 4 and Path("from-python/tracks.jsonl").exists()
    assert Path("second-frame.jpg").exists()
    assert "4 frames, tracks:" in capsys.readouterr().out
