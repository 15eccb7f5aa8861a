"""Prompts from lists, texts and captions; token maps; passes; and everything that is refused."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors

from glip.errors import PromptError
from glip.text.prompt import Prompt, clean_name, reads_as, token_map
from glip.text.tokenizer import Span, Tokenizer

TOKENIZER = Tokenizer.bert_uncased()
OFFICIAL = json.loads(Path(__file__).with_name("official_prompts.json").read_text(encoding="utf-8"))


def words(prompt: Prompt) -> list[str]:
    """The text under the spans of each phrase."""
    return [" ".join(prompt.text[a:b] for a, b in spans) for spans in prompt.phrases]


def many_names(number: int) -> list[str]:
    """Names of one to some ten tokens."""
    extra = ("", "red ", "very large old wooden ", "café-style ", "猫 ")
    return [f"{extra[i % 5]}thing_{i * 7919 % 10007} (kind {i})" for i in range(number)]


# Reference values of the official code.


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda case: case["kind"])
def test_official_prompts_byte_for_byte(case: dict[str, Any]) -> None:
    if case["kind"] == "class list, evaluation":
        prompt = Prompt.from_classes(case["classes"])
    elif case["kind"] == "class list, demo":
        prompt = Prompt.from_classes(case["classes"], separator=" . ", trailing=True, clean=False)
    else:
        prompt = Prompt.from_caption(case["caption"], case["phrases"])
        assert prompt.phrases == tuple(tuple(map(tuple, spans)) for spans in case["spans"])
    assert prompt.text == case["caption"]
    (only,) = prompt.passes(TOKENIZER, max_tokens=512)
    assert list(only.token_ids) == case["token_ids"]
    assert [np.flatnonzero(row).tolist() for row in only.token_map] == case["tokens"]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("traffic light", "traffic light"),
        ("cell_phone", "cell phone"),
        ("bow_(decorative_ribbons)", "bow "),
        ("a (b) c (d) e", "a e"),
        ("a    b", "a  b"),
        (" T-Shirt ", " T-Shirt "),
    ],
)
def test_cleaning_of_names(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


# Where the phrases are.


@pytest.mark.parametrize(
    "names",
    [
        ["person", "traffic light"],
        ["car", "car seat", "seat"],  # names within names
        ["dog", "dog", "Dog"],
        ["T-Shirt", "o'clock", "a.c. unit", "C++", "jack-o'-lantern"],
        ["café", "cafe\u0301", "naïve"],
        ["🐶", "👩‍🚀", "?", "€"],
        ["猫", "とけい", "собака", "كلب", "कुत्ता", "สุนัข"],
        ["cell_phone", "bow_(ribbon)", "(all of it)"],
        [" padded ", "two  blanks", "a. b", "new\nline"],
        ["x"],
        ["x" * 300],
    ],
)
def test_class_lists(names: list[str]) -> None:
    prompt = Prompt.from_classes(names)
    assert prompt.names == tuple(names)
    assert len(prompt) == len(names)
    assert words(prompt) == [clean_name(name) or name for name in names]
    assert prompt.text == ". ".join(words(prompt))
    (only,) = prompt.passes(TOKENIZER)
    assert only.rows == tuple(range(len(names)))
    assert only.token_map.any(1).all()
    assert not only.token_map[:, [0, -1]].any()  # [CLS] and [SEP]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("person. bicycle.", ["person", "bicycle"]),
        ("person . bicycle", ["person", "bicycle"]),
        ("person . traffic light . ", ["person", "traffic light"]),
        ("black bishop. white king", ["black bishop", "white king"]),
        ("a. b. c", ["a", "b", "c"]),
        ("1. 2. 3.", ["1", "2", "3"]),
        ("t-shirt. a.c. unit", ["t-shirt", "a.c. unit"]),
        ("poodle. st. bernard. u.s. flag", ["poodle", "st. bernard", "u.s. flag"]),
        ("cup of coffee. bow and arrow", ["cup of coffee", "bow and arrow"]),
        (
            "Running Shoe. washing machine. stop sign",
            ["Running Shoe", "washing machine", "stop sign"],
        ),
        ("cat\nhot dog\n", ["cat", "hot dog"]),
        ("- cat\n- hot dog", ["cat", "hot dog"]),
        ("cat; hot dog", ["cat", "hot dog"]),
        ("🐶. 🐱", ["🐶", "🐱"]),
        ("猫。犬。", ["猫", "犬"]),
        ("كلب. قطة.", ["كلب", "قطة"]),
        ("version 2.5. version 3", ["version 2.5", "version 3"]),
        ("dog... cat", ["dog", "cat"]),
        # one name
        ("cat", ["cat"]),
        ("Cat.", ["Cat"]),
        ("traffic light", ["traffic light"]),
        ("zorblax", ["zorblax"]),
        ("a.c. unit", ["a.c. unit"]),
        # captions
        ("a man holding a red umbrella", ["a man", "a red umbrella"]),
        ("Two dogs play. A man watches.", ["Two dogs", "A man"]),
        ("Dogs running. Cats sleeping.", ["Dogs", "Cats"]),
        ("A man on a bench. A dog on the grass.", ["A man", "a bench", "A dog", "the grass"]),
        ("A dog. It barks.", ["A dog"]),
        ("cat, dog and bus", ["cat", "dog", "bus"]),
        ("running", ["running"]),  # no noun: the whole text
        ("  running fast!", ["running fast"]),
    ],
)
def test_what_a_person_types(text: str, names: list[str]) -> None:
    prompt = Prompt.from_text(text, chunker="builtin")
    assert prompt.text == text  # verbatim
    assert list(prompt.names) == words(prompt) == names


@pytest.mark.parametrize("text", ["cat. Cat. hot dog. hot  dog. CAT.", "cat\nhot dog\nCat"])
def test_a_name_that_is_given_twice_is_looked_for_once(text: str) -> None:
    prompt = Prompt.of(text)
    assert list(prompt.names) == words(prompt) == ["cat", "hot dog"]
    assert Prompt.of(["cat", "Cat", "hot dog", "cat. CAT"]).names == ("cat", "hot dog")


def test_names_that_differ_in_brackets_or_number_are_two() -> None:
    names = ("bow (ribbon)", "bow (weapon)", "person", "persons")
    assert Prompt.of(list(names)).names == names
    assert Prompt.of("person. persons.").text == "person. persons."


@pytest.mark.parametrize(
    ("caption", "phrases", "spans"),
    [
        ("A dog and a dog", ["dog", "dog"], [[(2, 5)], [(12, 15)]]),
        ("A DOG", ["a dog"], [[(0, 5)]]),
        ("hotdog dog", ["dog"], [[(7, 10)]]),  # whole words
        ("a car seat", ["car", "car seat"], [[(2, 5)], [(2, 10)]]),
        ("a c++ (and c#) book", ["c++", "(and c#)"], [[(2, 5)], [(6, 14)]]),  # no pattern
        ("two  red\napples", ["red apples"], [[(5, 15)]]),
        ("una café y té", ["CAFÉ", "té"], [[(4, 8)], [(11, 13)]]),
        ("一只猫在睡觉", ["猫"], [[(2, 3)]]),
        ("it is five o'clock", ["o'clock"], [[(11, 18)]]),
        ("a dog runs", [(2, 5)], [[(2, 5)]]),
        ("pick it up", [[(0, 4), (8, 10)]], [[(0, 4), (8, 10)]]),
        ("a dog runs", ["dog", (0, 5), [(2, 5)]], [[(2, 5)], [(0, 5)], [(2, 5)]]),
    ],
)
def test_phrases_of_a_caption(
    caption: str, phrases: Sequence[Any], spans: list[list[Span]]
) -> None:
    prompt = Prompt.from_caption(caption, phrases)
    assert [list(row) for row in prompt.phrases] == spans
    assert list(prompt.names) == words(prompt)


def test_a_prompt_may_come_in_any_form() -> None:
    prompt = Prompt.of(["cat", "dog"])
    assert Prompt.of(prompt) is prompt
    assert Prompt.of(("cat", "dog")) == prompt == Prompt.of("cat. dog")
    assert hash(Prompt.of("cat. dog")) == hash(prompt)  # the key of a cache
    assert Prompt("cat. dog", [[[0, 3]], [[5, 8]]]) == prompt  # type: ignore[arg-type]


# What is refused.


@pytest.mark.parametrize("value", ["", "   ", ".", "...", "!!!", "?! $", "\u200b", "\n", "\ud800"])
def test_texts_without_words(value: str) -> None:
    for make in (Prompt.of, Prompt.from_text, Prompt.from_caption):
        with pytest.raises(PromptError, match="no words"):
            make(value)
    with pytest.raises(PromptError):
        Prompt.of([value])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "list of class names is empty"),
        (["cat", ""], "class name 1 is empty"),
        (["cat", " \t\u200d"], "class name 1 is empty"),
        (["cat", None], "class name 1 must be a string, got None"),
        (["?", "."], "only punctuation"),
        (3, "got int"),
        (None, "got NoneType"),
        (b"cat", "got bytes"),
        ({"cat": 1}, "got dict"),
    ],
)
def test_values_that_make_no_prompt(value: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt.of(value)


def test_a_string_is_no_list() -> None:
    with pytest.raises(PromptError, match=r"write \['cat'\]"):
        Prompt.from_classes("cat")
    with pytest.raises(PromptError, match=r"write \['cat'\]"):
        Prompt.from_caption("a cat", "cat")


def test_spans_may_be_numbers_of_numpy() -> None:
    span = (np.int64(2), np.int64(5))
    assert Prompt.from_caption("a cat", [span]) == Prompt.from_caption("a cat", [(2, 5)])


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ([], "no phrases"),
        ([[]], "phrase 0 has no spans"),
        ([[(0, 9)]], r"span \(0, 9\) lies outside the text of 8 characters"),
        ([[(-1, 3)]], "outside"),
        ([[(0, 3)], [(5, 5)]], r"phrase 1: span \(5, 5\) is empty"),
        ([[(3, 0)]], r"span \(3, 0\) is empty"),
        ([[(0, 3), (2, 5)]], r"spans \(0, 3\) and \(2, 5\) overlap"),
        ([[(0, 3), (0, 3)]], "overlap"),
        ([[(4, 5)]], "phrase 0 is blank"),
        ([[(3, 4)]], "only punctuation"),
        ([(0, 3)], "not a sequence of"),
        ([[(0.0, 3.0)]], "not a sequence of"),
        (["cat"], "not a sequence of"),
    ],
)
def test_spans_that_do_not_fit(phrases: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt("cat. dog", tuple(phrases))


def test_names_must_match_the_phrases() -> None:
    with pytest.raises(PromptError, match="2 phrases but 1 names"):
        Prompt("cat. dog", (((0, 3),), ((5, 8),)), ("cat",))


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        ("cat", "'cat' is not in the caption 'a dog and a hotdog'"),
        ("d.g", "not in the caption"),
        ("hot", "not in the caption"),
        ("", "no words"),
        ("...", "no words"),
        ((0, 99), "outside"),
        (7, "neither words"),
        ([], "neither words"),
    ],
)
def test_phrases_that_are_not_in_the_caption(phrase: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Prompt.from_caption("a dog and a hotdog", [phrase])


def test_more_repeats_than_occurrences() -> None:
    with pytest.raises(PromptError, match="asked for 2 times but occurs 1 times"):
        Prompt.from_caption("a dog", ["dog", "Dog"])


# Token maps.


def test_token_map_unites_the_spans_of_a_phrase() -> None:
    offsets = [(0, 0), (0, 4), (5, 7), (8, 10), (0, 0)]  # [CLS] pick it up [SEP]
    phrases = (((0, 4), (8, 10)), ((5, 7),))
    expected = [[False, True, False, True, False], [False, False, True, False, False]]
    assert token_map(phrases, offsets).tolist() == expected


def test_token_map_of_a_phrase_without_spans_is_empty() -> None:
    mapped = token_map([[], [(0, 3), (4, 7)]], [(0, 0), (0, 3), (4, 7), (0, 0)])
    assert mapped.tolist() == [[False] * 4, [False, True, True, False]]
    assert token_map([], [(0, 0), (0, 0)]).shape == (0, 2)


@pytest.mark.parametrize("span", [(1, 4), (0, 4), (1, 5), (0, 6)])
def test_blanks_around_a_span_change_nothing(span: Span) -> None:
    offsets = [(0, 0), (1, 4), (6, 9), (0, 0)]  # " dog  cat"
    assert token_map([[span]], offsets).tolist() == [[False, True, False, False]]


def test_tokenizer_that_counts_a_first_word_differently() -> None:
    # "▁" stands for the blank before a word; only the first word of a text has none.
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<pad>", 0.0)]
    vocabulary += [(character, -9.0) for character in "▁.abcdefghijklmnopqrstuvwxyz"]
    vocabulary += [("▁cat", -1.0), ("▁dog", -1.0)]
    unigram = FastTokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    unigram.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    tokenizer = Tokenizer(unigram)
    prompt = Prompt.from_classes(["cat", "dog"] * 10)
    passes = prompt.passes(tokenizer, max_tokens=12)
    assert sorted(row for part in passes for row in part.rows) == list(range(20))
    assert all(len(part.token_ids) <= 12 for part in passes)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["cat."], ("cat",)),
        (["cat. cup."], ("cat", "cup")),
        (["cat", "dog", "cat"], ("cat", "dog")),
        (["st. bernard", "a.c. unit"], ("st. bernard", "a.c. unit")),
        (["bow_(ribbon)"], ("bow_(ribbon)",)),
        ("cat. cup.", ("cat", "cup")),
    ],
)
def test_class_names_are_tidied_as_a_person_would(
    given: str | list[str], names: tuple[str, ...]
) -> None:
    assert Prompt.of(given).names == names


def test_class_names_of_data_stay_as_they_are() -> None:
    assert Prompt.from_classes(["cat.", "cat.", "a. b."]).names == ("cat.", "cat.", "a. b.")


@pytest.mark.parametrize("letters", ["a", "a'", "a.", "find ", "a please "])
def test_work_on_a_text_is_proportional_to_its_length(letters: str) -> None:
    started = time.process_time()
    Prompt.of(letters * (80_000 // len(letters)))
    assert time.process_time() - started < 3  # squares of it took minutes


@pytest.mark.parametrize(
    ("phrases", "spans"),
    [
        (["a red hat", "hat"], [(9, 18), (26, 29)]),
        (["hat", "a red hat"], [(26, 29), (9, 18)]),
        (["hat", "hat"], [(15, 18), (26, 29)]),
        (["a man in a red hat", "red hat"], [(0, 18), (11, 18)]),
    ],
)
def test_a_phrase_lies_outside_longer_ones_if_it_can(
    phrases: list[str], spans: list[tuple[int, int]]
) -> None:
    prompt = Prompt.from_caption("a man in a red hat with a hat", phrases)
    assert [span for (span,) in prompt.phrases] == spans


def test_unicode_forms_of_a_name_read_the_same() -> None:
    assert reads_as("Cafe\u0301") == reads_as("caf\u00e9")
