"""Which characters count, and where a phrase begins and ends."""

import pytest

from glip.text.characters import (
    WORD,
    composed,
    composed_keys,
    core,
    has_word,
    is_visible,
    shown,
    whole_words,
)


@pytest.mark.parametrize(
    ("text", "visible", "word"),
    [
        ("cat", True, True),
        ("...", True, False),
        ("$", True, False),
        ("\u20ac", True, True),
        (" \n\u200b", False, False),
        ("\u0301", False, False),
        ("\u732b", True, True),
        ("", False, False),
    ],
)
def test_what_is_left_for_the_text_encoder(text: str, visible: bool, word: bool) -> None:
    assert (is_visible(text), has_word(text)) == (visible, word)


@pytest.mark.parametrize(
    ("text", "words"), [("  - a cat. ", "a cat"), ("\u2022 dog\uff0c", "dog"), ("cat", "cat")]
)
def test_core_has_no_bullets_blanks_or_final_marks(text: str, words: str) -> None:
    start, end = core(text, 0, len(text))
    assert text[start:end] == words


def test_words_are_letters_between_blanks() -> None:
    assert WORD.match("a") and WORD.match("7")
    assert not WORD.match("\u732b") and not WORD.match(".")


def test_long_texts_are_shown_short() -> None:
    assert shown("a" * 80) == repr("a" * 80)
    assert shown("a" * 81) == repr("a" * 77 + "...")


def test_an_accent_and_its_letter_are_one_character() -> None:
    assert composed("cafe\u0301") == composed("caf\u00e9") == "caf\u00e9"
    assert composed_keys({"cafe\u0301": 1, "\u1112\u1161": 2}) == {"caf\u00e9": 1, "\ud558": 2}


def test_whole_words() -> None:
    assert whole_words("A woman, a MAN and a man", "man") == [(11, 14), (21, 24)]
    assert whole_words("red\n hat", "Red hat") == [(0, 8)]
    assert whole_words("a dog", " ") == []
