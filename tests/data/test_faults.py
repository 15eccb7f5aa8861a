"""What is left out, and when that is too much."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from glip.data.faults import Faults
from glip.errors import ConfigError, DataError


def test_a_share_may_be_left_out_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(Path("x.json"))
    faults.count("boxes", 200)
    for number in range(10):
        faults.add("no boxes", f"annotation {number}")
    faults.note("read another way")
    with caplog.at_level(logging.WARNING):
        faults.close()
    assert "left out 10 of 200 boxes: annotation 0; annotation 1; annotation 2; …" in caplog.text
    assert "read another way (1)" in caplog.text
    faults.add("unknown images", "annotation 11")  # of the same population
    assert faults.is_too_much("no boxes") and faults.is_too_much("unknown images")
    with pytest.raises(DataError, match=r"x.json: annotation 0; .*10 of 200 boxes .*--max-bad"):
        faults.close()


@pytest.mark.parametrize(("share", "refused"), [(0.0, True), (0.5, False), (1.0, False)])
def test_the_share_is_a_choice(share: float, refused: bool) -> None:
    faults = Faults(Path("x.json"), share)
    faults.count("lines", 2)
    faults.add("lines", "x.json:2")
    assert faults.is_too_much("lines") is refused


def test_shares_lie_between_nothing_and_all() -> None:
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\], got 5"):
        Faults(Path(), 5)


def test_reason_is_said_where_nothing_is_left() -> None:
    faults = Faults(Path("x.json"))
    faults.close_if_nothing([])
    faults.count("files")
    faults.add("files", "a.xml is not valid XML")
    faults.close_if_nothing([1])
    with pytest.raises(DataError, match=r"a.xml is not valid XML"):
        faults.close_if_nothing([])


def test_nothing_left_is_refused_at_any_share() -> None:
    faults = Faults(Path("x.csv"), 1.0)
    faults.count("lines", 3)
    faults.close_if_nothing([])
    faults.add("lines", "x.csv:2 has no box")
    faults.close_if_nothing([1])
    with pytest.raises(DataError, match=r"x\.csv holds nothing else: x\.csv:2 has no box"):
        faults.close_if_nothing([])
