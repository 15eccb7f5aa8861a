"""`glip samples`: a folder, and what stands in the way of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.cli.main import main


def test_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samples", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "train.json").exists()
    assert "22 pictures" in capsys.readouterr().out
    (tmp_path / "a" / "train.json").write_text("{}", encoding="utf-8")
    assert main(["samples", str(tmp_path / "a")]) == 2
    assert "another folder" in capsys.readouterr().err
