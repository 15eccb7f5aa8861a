"""Characters and words of a prompt, as BERT's normalisation sees them.

Which characters are left of a text, which of them are words, and where a phrase begins and ends
among blanks and punctuation. Knows nothing about prompts or tokens.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import TypeVar

from glip.text.tagger import NO_SPACE_SCRIPTS, Span

WORD = re.compile(f"[^\\W{NO_SPACE_SCRIPTS}]")
"""A letter or digit of a script that puts blanks between words."""


Value = TypeVar("Value")


def composed(text: str) -> str:
    """The text with each accent in one character with its letter (Unicode NFC), as names are kept.

    Many a Mac writes two characters, which look the same and are the same to the text encoder.
    """
    return unicodedata.normalize("NFC", text)


def composed_keys(values: Mapping[str, Value]) -> dict[str, Value]:
    """What is said by name, by `composed` names; a number that YAML made of a name is one."""
    return {composed(str(name)): value for name, value in values.items()}


def shown(value: object) -> str:
    """A text, or what stands in the place of one, as an error message shows it."""
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else value[:77] + "...")
    try:
        written = repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a very large {type(value).__name__}"
    return written if len(written) <= 80 else written[:77] + "..."


def is_visible(text: str) -> bool:
    """Whether any character survives BERT's normalisation: no blank, control or combining mark."""
    return any(
        not (category[0] in "ZC" or category == "Mn")
        for category in map(unicodedata.category, text)
    )


def has_word(text: str) -> bool:
    """Whether any visible character is not punctuation (for BERT that is all ASCII symbols)."""
    for character in text:
        category = unicodedata.category(character)
        symbol = category[0] == "P" or (category[0] == "S" and character.isascii())
        if not (symbol or category[0] in "ZC" or category == "Mn"):
            return True
    return False


def core(text: str, start: int, end: int) -> Span:
    """The span without blanks around it, bullets before it or periods and commas after it."""
    piece = text[start:end].rstrip(" \t\r\n.,;:!?。！？、，")
    end = start + len(piece)
    return end - len(piece.lstrip(" \t\r\n-*\u2022")), end


def whole_words(text: str, phrase: str) -> list[Span]:
    """Where a phrase stands in a text, whatever its case and blanks, and not inside of a word."""
    words = phrase.split()
    if not words:
        return []
    pattern = r"\s+".join(re.escape(word) for word in words)
    if WORD.match(words[0]):
        pattern = f"(?<!{WORD.pattern}){pattern}"
    if WORD.match(words[-1][-1]):
        pattern = f"{pattern}(?!{WORD.pattern})"
    return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
