"""Pictures that are not what the file says."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from glip.data.doctor.checks_pictures import CHECKS
from tests.data.doctor.subjects import detection, found


def test_sizes_and_turns(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    cases = found(CHECKS, detection(tmp_path))
    assert cases == {"sizes": ["a.png has 30 x 20, the file says 60 x 40"]}
    Image.new("RGB", (40, 60)).save(tmp_path / "a.png")
    assert "as if it had been turned" in found(CHECKS, detection(tmp_path))["sizes"][0]


def test_damaged_and_unused_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "b.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    cases = found(CHECKS, detection(tmp_path, quick=False))
    assert list(cases) == ["unreadable pictures", "unused pictures"]
    assert "a.png" in cases["unreadable pictures"][0] and cases["unused pictures"] == ["b.png"]
