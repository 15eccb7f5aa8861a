"""A data set as a whole."""

from __future__ import annotations

from pathlib import Path

from glip.data.doctor.checks_file import CHECKS
from tests.data.doctor.subjects import detection, found


def test_reasons_why_there_is_nothing_to_learn(tmp_path: Path) -> None:
    assert found(CHECKS, detection(tmp_path)) == {}
    assert found(CHECKS, detection(tmp_path, [])) == {"nothing": ["there is no box"]}
    [line] = found(CHECKS, detection(tmp_path, crowd=True))["nothing"]
    assert "iscrowd" in line
