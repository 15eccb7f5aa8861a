"""Prompts longer than the text encoder: as few passes as possible, and no phrase cut."""

import itertools
import random
import time
from collections.abc import Sequence

import pytest

from glip.errors import ConfigError, PromptError
from glip.text.prompt import Prompt, PromptPass, clean_name
from glip.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.bert_uncased()


def words(prompt: Prompt) -> list[str]:
    """The text under the spans of each phrase."""
    return [" ".join(prompt.text[a:b] for a, b in spans) for spans in prompt.phrases]


def many_names(number: int) -> list[str]:
    """Names of one to some ten tokens."""
    extra = ("", "red ", "very large old wooden ", "café-style ", "猫 ")
    return [f"{extra[i % 5]}thing_{i * 7919 % 10007} (kind {i})" for i in range(number)]


def check_passes(prompt: Prompt, passes: Sequence[PromptPass], max_tokens: int) -> None:
    """Every phrase in exactly one pass, whole, and no pass above the limit."""
    assert sorted(row for part in passes for row in part.rows) == list(range(len(prompt)))
    for part in passes:
        encoding = TOKENIZER.encode(part.text)
        assert part.token_ids == encoding.ids
        assert len(part.token_ids) <= max_tokens
        assert part.token_map.shape == (len(part.rows), len(part.token_ids))
        for row, tokens in zip(part.rows, part.token_map, strict=True):
            found = tokens.nonzero().flatten().tolist()
            covered = [encoding.ids[token] for token in found]
            assert covered == [
                token
                for a, b in sorted(prompt.phrases[row])
                for token in TOKENIZER.encode(prompt.text[a:b]).ids[1:-1]
            ]


def test_a_prompt_that_fits_is_one_pass_verbatim() -> None:
    prompt = Prompt.from_classes(["cat", "dog"], separator=" . ", trailing=True)
    (only,) = prompt.passes(TOKENIZER, max_tokens=6)
    assert only.text == "cat . dog . "
    assert only.token_ids == (101, 4937, 1012, 3899, 1012, 102)


@pytest.mark.parametrize("number", [1, 80, 1203, 5000])
def test_class_lists_of_any_length(number: int) -> None:
    names = many_names(number)
    prompt = Prompt.from_classes(names)
    start = time.perf_counter()
    passes = prompt.passes(TOKENIZER)
    assert time.perf_counter() - start < 5  # 0.15 s for 5,000 here
    check_passes(prompt, passes, 256)
    tokens = sum(len(TOKENIZER.encode(clean_name(name))) - 1 for name in names)  # and a period
    assert len(passes) == -(-tokens // 255)  # not one pass more than the tokens need
    if len(passes) > 1:
        for part in passes:
            assert part.text == Prompt.from_classes([names[row] for row in part.rows]).text


def test_neighbours_stay_together_where_that_costs_nothing() -> None:
    prompt = Prompt.from_classes(["cat", "dog", "cow", "pig", "hen"])
    passes = prompt.passes(TOKENIZER, max_tokens=5)  # two names and a period
    assert [part.rows for part in passes] == [(0, 1), (2, 3), (4,)]
    assert [part.text for part in passes] == ["cat. dog", "cow. pig", "hen"]


def test_names_are_regrouped_where_that_saves_a_pass() -> None:
    names = ["red dog", "big red dog", "cat", "a big red dog", "one"]  # 2 3 1 4 1 tokens
    prompt = Prompt.from_classes(names)
    passes = prompt.passes(TOKENIZER, max_tokens=8)
    assert len(passes) == 3  # in order it takes four
    check_passes(prompt, passes, 8)


def test_official_chunks_of_forty() -> None:
    prompt = Prompt.from_classes([f"n{i}" for i in range(1203)])
    passes = prompt.passes(TOKENIZER, max_classes=40)
    expected = [tuple(range(i, min(i + 40, 1203))) for i in range(0, 1203, 40)]
    assert [part.rows for part in passes] == expected
    check_passes(prompt, passes, 256)


def test_chunk_above_the_token_limit_is_split_in_place() -> None:
    prompt = Prompt.from_classes(["cat", "dog", "cow", "pig", "hen", "fox"])
    passes = prompt.passes(TOKENIZER, max_tokens=5, max_classes=3)
    assert [part.rows for part in passes] == [(0, 1), (2,), (3, 4), (5,)]


SENTENCES = (
    "A man in a red shirt walks his two dogs.",
    "Behind them, a girl rides a small bicycle past an old stone wall.",
    "The sky is grey.",
)


@pytest.mark.parametrize("max_tokens", [8, 12, 16, 24, 40, 100, 256])
def test_long_captions(max_tokens: int) -> None:
    prompt = Prompt.from_text(" ".join(SENTENCES * 20), chunker="builtin")
    passes = prompt.passes(TOKENIZER, max_tokens=max_tokens)
    check_passes(prompt, passes, max_tokens)
    assert [row for part in passes for row in part.rows] == list(range(len(prompt)))
    position = 0
    for part in passes:  # pieces of the caption, in order
        position = prompt.text.index(part.text, position) + len(part.text)


def test_captions_are_cut_at_sentences() -> None:
    prompt = Prompt.from_text(" ".join(SENTENCES * 2), chunker="builtin")
    for part in prompt.passes(TOKENIZER, max_tokens=34):
        assert part.text.startswith(("A man", "Behind", "The sky"))
        assert part.text.endswith(".")


def test_no_phrase_is_cut_even_where_it_has_several_spans() -> None:
    text = "pick the big heavy box up and put the small light bag down"
    prompt = Prompt.from_caption(text, [[(0, 4), (23, 25)], "small light bag", "bag"])
    passes = prompt.passes(TOKENIZER, max_tokens=8)
    assert [part.rows for part in passes] == [(0,), (1, 2)]
    check_passes(prompt, passes, 8)


def test_text_without_phrases_costs_no_pass() -> None:
    prompt = Prompt.from_caption("very " * 300 + "big dog", ["dog"])
    (only,) = prompt.passes(TOKENIZER)
    assert only.text.endswith("very big dog")
    assert len(only.token_ids) == 256


def test_random_spans_end_up_in_one_pass_each() -> None:
    draw = random.Random(0)
    text = " ".join(
        draw.choice(["dog", "t-shirt", "café", "🐶", "umbrella,", "猫猫", "a."]) for _ in range(200)
    )
    for _ in range(20):
        starts = [draw.randrange(len(text) - 1) for _ in range(30)]
        spans = [(a, min(a + draw.randint(1, 12), len(text))) for a in starts]
        prompt = Prompt(text, tuple((span,) for span in spans if text[slice(*span)].strip()))
        passes = prompt.passes(TOKENIZER, max_tokens=48)
        assert sorted(itertools.chain(*(part.rows for part in passes))) == list(range(len(prompt)))
        assert all(len(part.token_ids) <= 48 for part in passes)


def test_phrase_longer_than_the_encoder() -> None:
    for prompt in (
        Prompt.from_classes(["cat", "very " * 300 + "big dog"]),
        Prompt.from_caption("a " + "very " * 300 + "big dog ran", [(0, 1500)]),
    ):
        with pytest.raises(PromptError, match=r"needs 30\d tokens .* takes 256 .*; shorten it"):
            prompt.passes(TOKENIZER)


def test_phrases_that_overlap_in_an_endless_row() -> None:
    text = "dog " * 40
    prompt = Prompt(text, tuple(((i, i + 11),) for i in range(0, 144, 4)))
    with pytest.raises(PromptError, match="overlap in a run"):
        prompt.passes(TOKENIZER, max_tokens=16)


def test_phrase_without_tokens() -> None:
    with pytest.raises(PromptError, match="phrase 1 is blank"):
        Prompt("cat \u0301 dog", (((0, 3),), ((4, 5),)))
    prompt = Prompt.of(["cat", "\ufffd"])  # a visible character that BERT drops
    with pytest.raises(PromptError, match=r"phrase 1 .* no character that the text encoder reads"):
        prompt.passes(TOKENIZER)


@pytest.mark.parametrize("options", [{"max_classes": 0}, {"max_tokens": 2}])
def test_impossible_limits(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least"):
        Prompt.of("cat").passes(TOKENIZER, **options)
