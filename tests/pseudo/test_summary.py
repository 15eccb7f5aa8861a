"""Counts over the journal of a job, and how they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.jobs.journal import Journal
from glip.pseudo.config import DONE, REFUSED, REJECTED
from glip.pseudo.summary import Summary, summarise


def caption(scores: list[float], owners: list[int], phrases: int = 2) -> dict[str, Any]:
    spans = [[4 * row, 4 * row + 3] for row in range(phrases)]
    return {"caption": "cat dog", "phrases": spans, "scores": scores, "owners": owners}


@pytest.fixture
def counted(tmp_path: Path) -> Summary:
    """Three captions of two pictures, one picture refused, two bad ones."""
    rows: list[tuple[str, str, Any]] = [
        ("a", DONE, {"refused": [], "captions": [caption([0.95, 0.55, 0.35], [0, 0, 1])]}),
        (
            "b",
            DONE,
            {"refused": ["no_phrase"], "captions": [caption([0.5], [1]), caption([], [])]},
        ),
        ("c", REFUSED, {"refused": ["no_phrase", "repeated"]}),
        ("d", REJECTED, "d.jpg is damaged"),
        ("e", REJECTED, "e.jpg is damaged"),
    ]
    with Journal(tmp_path / "journal", {"job": 1}) as journal:
        journal.write(rows)
        return summarise(journal, examples=1)


def test_entries_captions_phrases_and_boxes_are_counted(counted: Summary) -> None:
    assert counted.entries == {DONE: 2, REFUSED: 1, REJECTED: 2}
    assert counted.captions == 3
    assert (counted.phrases, counted.grounded_phrases, counted.confident_phrases) == (6, 3, 1)
    assert (counted.boxes, counted.confident_boxes) == (4, 2), "0.5 itself is no sure box"
    assert counted.scores == [0, 0, 0, 1, 0, 2, 0, 0, 0, 1]


def test_refusals_are_counted_by_reason_and_only_some_bad_ones_named(counted: Summary) -> None:
    assert counted.refused == {"no_phrase": 2, "repeated": 1}
    assert counted.rejected == ["d.jpg is damaged"]


def test_text_says_why_captions_were_refused(counted: Summary) -> None:
    text = counted.text()
    assert "2 grounded, 1 refused by the filters, 2 bad" in text
    assert "2 no_phrase: no noun phrase" in text
    assert "3 (50.0%) with a box, 1 (16.7%) with one above 0.5" in text
    assert "score 0.9 to 1.0          1" in text and "0.1 to 0.2" not in text
    assert text.endswith("bad, for example\n  d.jpg is damaged")


def test_job_without_anything_divides_by_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", {"job": 1}) as journal:
        assert "phrases             0, 0 with a box" in summarise(journal).text()
