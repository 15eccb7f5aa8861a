"""What of a text is a word, is seen, or surrounds a phrase."""

import pytest

from glip.text.characters import core, has_word, is_visible, shown


@pytest.mark.parametrize(
    ("text", "visible", "word"),
    [
        ("cat", True, True),
        ("猫", True, True),
        ("7", True, True),
        ("?!", True, False),
        ("$", True, False),  # BERT takes all ASCII symbols for punctuation
        ("€", True, True),
        (" \t\n", False, False),
        ("\u200b\u0301", False, False),  # a zero-width blank and a combining accent
        ("", False, False),
    ],
)
def test_visible_characters_and_words(text: str, visible: bool, word: bool) -> None:
    assert (is_visible(text), has_word(text)) == (visible, word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a cat ", "a cat"),
        ("- a cat.", "a cat"),
        ("• a.c. unit...", "a.c. unit"),
        ("猫。", "猫"),
        ("(a cat)", "(a cat)"),
        (" .,; ", ""),
    ],
)
def test_core_is_without_bullets_and_stops(text: str, expected: str) -> None:
    start, end = core(text, 0, len(text))
    assert text[start:end] == expected


def test_long_texts_are_shown_by_their_beginning() -> None:
    assert shown("a 'cat'") == repr("a 'cat'")
    assert shown("x" * 500) == repr("x" * 77 + "...")
