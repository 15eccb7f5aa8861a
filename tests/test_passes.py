"""Passes are made once, and hold only what a text encoder can read."""

from __future__ import annotations

import pytest

from glip import passes
from glip.passes import Passes
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer


def test_a_prompt_is_cut_once() -> None:
    known = Passes(Tokenizer.bert_uncased(), 8, None)
    prompt = Prompt.of(["red cat", "dog", "very old bird"])
    first = known.of(prompt)
    assert known.of(prompt) is first
    assert sorted(row for part in first for row in part.rows) == [0, 1, 2]


def test_phrases_that_nobody_can_read_are_in_no_pass(caplog: pytest.LogCaptureFixture) -> None:
    known = Passes(Tokenizer.bert_uncased(), 256, None)
    (part,) = known.of(Prompt.of(["😀", "cat"]))
    assert part.rows == (1,) and part.token_map.shape[0] == 1
    assert "cannot read '😀'" in caplog.text
    assert known.of(Prompt.of(["😀"])) == ()
    caplog.clear()
    assert known.of(Prompt.of(["n" * 50_000])) == ()
    assert "cannot read 'nnn" in caplog.text and len(caplog.text) < 500


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "CACHED_TEXTS", 2)
    cache: dict[str, int] = {}
    for number, name in enumerate("abc"):
        assert passes.keep(cache, name, number) == number
    assert cache == {"b": 1, "c": 2}
