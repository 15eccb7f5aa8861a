import json
import sys
from collections.abc import Callable
from pathlib import Path

import exported
import pytest
from PIL import Image

pytestmark = pytest.mark.whole


def test_a_row_has_times_and_accuracy(
    tiny_file: Path,
    tmp_path: Path,
    make_picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_picture().save(tmp_path / "0.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40], "area": 2000}
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 120, "height": 90}],
        "annotations": [{**box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    data = ["--data", str(tmp_path / "data.json"), "--images", str(tmp_path)]
    words = ["--weights", str(tiny_file), *data, "--out", str(tmp_path), "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["exported.py", *words, "--kinds"])
    exported.main()
    titles, _, row = capsys.readouterr().out.splitlines()[-3:]
    assert titles == "|  | MB | few words, s | many words, s | AP | AP50 |"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["torch", ""] and all(float(cell) >= 0 for cell in cells[2:])
