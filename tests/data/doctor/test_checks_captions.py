"""Captions that are long."""

from __future__ import annotations

from pathlib import Path

from glip.data.doctor.checks_captions import CHECKS
from tests.data.doctor.subjects import found, grounding


def test_captions_longer_than_the_text_encoder_takes(tmp_path: Path) -> None:
    assert found(CHECKS, grounding(tmp_path, "a cat")) == {}
    cases = found(CHECKS, grounding(tmp_path, "a " * 300))
    assert cases == {"long captions": ["image 1 needs 302 tokens"]}
