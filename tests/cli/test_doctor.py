"""`glip doctor`: its report and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from glip.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10],
                         "area": 100, "iscrowd": 0}],
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(content))
    return tmp_path / "train.json"


def test_good_data_ends_with_0(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(data)]) == 0
    assert "train.json" in capsys.readouterr().out


def test_faults_are_exit_code_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data.parent / "a.png").write_bytes(b"no picture")
    assert main(["doctor", str(data)]) == 1
    assert "a.png" in capsys.readouterr().out
    (data.parent / "a.png").unlink()
    assert main(["doctor", str(data), "--quick"]) == 1
