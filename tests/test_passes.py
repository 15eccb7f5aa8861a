"""Prompts as passes, remembered, without phrases that the text encoder cannot read."""

import pytest

from glip.passes import CACHED_TEXTS, Passes, keep
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer


@pytest.fixture
def passes() -> Passes:
    return Passes(Tokenizer.bert_uncased(), 256, None)


def test_a_prompt_is_split_once(passes: Passes) -> None:
    prompt = Prompt.of(["cat", "dog"])
    (only,) = passes.of(prompt)
    assert only.rows == (0, 1) and only.token_map.shape == (2, len(only.token_ids))
    assert passes.of(prompt) is passes.of(Prompt.of(["cat", "dog"]))


def test_all_phrases_of_a_long_prompt_are_in_one_pass_each(passes: Passes) -> None:
    parts = passes.of(Prompt.of([f"thing number {n}" for n in range(200)]))
    assert len(parts) > 1
    assert sorted(row for part in parts for row in part.rows) == list(range(200))


def test_what_cannot_be_read_is_told_and_finds_nothing(
    passes: Passes, caplog: pytest.LogCaptureFixture
) -> None:
    (part,) = passes.of(Prompt.of(["cat", "\U0001f99d", "dog"]))
    assert part.rows == (0, 2)
    assert "cannot read '\U0001f99d' and finds nothing" in caplog.text
    assert passes.of(Prompt.of(["\U0001f99d"])) == ()


def test_the_oldest_are_forgotten() -> None:
    cache: dict[int, int] = {}
    for number in range(CACHED_TEXTS + 5):
        assert keep(cache, number, -number) == -number
    assert list(cache) == list(range(5, CACHED_TEXTS + 5))
