"""Classes that are doubtful, and what is said of those that are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.doctor.checks_classes import CHECKS
from tests.data.doctor.subjects import detection, found

USUAL = {"classes without boxes", "rare classes"}


@pytest.mark.parametrize(
    ("names", "check", "case"),
    [
        (("cat", " "), "category names", "category 2 has the name ' '"),
        (("cat", "cat"), "names twice", "'cat', 2 times"),
        (("cat", "Cat"), "names alike", "'cat' and 'Cat'"),
        (("cat", "Cat_"), "names alike", "'cat' and 'Cat_'"),
        (("cat", "class_7"), "names without words", "'class_7'"),
        (("cat", "very " * 300), "long names", "needs 300 tokens, there is room for 254"),
    ],
)
def test_names(names: tuple[str, ...], check: str, case: str, tmp_path: Path) -> None:
    cases = found(CHECKS, detection(tmp_path, names=names))
    assert case in cases[check][0]


def test_counts(tmp_path: Path) -> None:
    cases = found(CHECKS, detection(tmp_path))
    assert cases == {"classes without boxes": ["'dog'"], "rare classes": ["'cat' (1)"]}


def test_many_names_need_several_passes(tmp_path: Path) -> None:
    names = [f"thing number {n}" for n in range(200)]
    assert "200 names need" in found(CHECKS, detection(tmp_path, names=names))["long prompt"][0]


def test_absence_and_vocabularies(tmp_path: Path) -> None:
    cases = found(CHECKS, detection(tmp_path, absent=(0,)))
    assert cases["contradictions"] == ["a.png: 'cat'"]
    cases = found(CHECKS, detection(tmp_path, vocabulary="pets"))
    assert cases["vocabularies"] == ["a.png: 'cat' is not in 'pets'"]
    assert not set(found(CHECKS, detection(tmp_path))) - USUAL - {"vocabularies"}
