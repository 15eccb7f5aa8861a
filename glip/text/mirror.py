"""Left and right in words, for pictures that are mirrored.

A mirrored picture of "the man on the left" shows him on the right, so its caption has to change
with it; the official code leaves captions as they are. English only. Where a word need not be a
direction ("right next to", "has left the room") there is no sure mirror, and the picture is better
not flipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

Span = tuple[int, int]

_DIRECTION = re.compile(r"\b(left|right)(?=(?:most|wards?|hand|handed|side)?\b)", re.IGNORECASE)
_WORD_BEFORE = re.compile(r"([\w']+)[\s-]*$")
_WORD_AFTER = re.compile(r"^[\s-]*([\w']+)")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_INTRODUCING = _words(
    "the to on at from a his her its their my your our whose"
    " far upper lower top bottom middle center centre front back rear"
)
"""Words after which "left" and "right" are directions, but before one of `_SENSES`."""

_SIDED = _words(
    "side sides hand hands arm leg foot eye ear half part corner edge end lane wing shoulder knee"
    " page panel turn most ward wards handed facing of"
)
"""Words before which they are directions, but after one of `_BEING`."""

_MOVING = _words(
    "facing looking turning moving heading leaning pointing going faces looks turns leans points"
    " turned"
)
"""Words after which they are directions at the end of a clause: not in "looking right at me"."""

_SENSES = _words("angle angles angled place time way size amount thing moment answer choice over")
_BEING = _words("is are was were be been being has have had who just")


class Mirrored(NamedTuple):
    """A text with its directions exchanged."""

    text: str
    edits: tuple[tuple[int, int, int], ...]
    """(start, end, growth) of each exchanged word, in the old text, in order."""

    def span(self, span: Span) -> Span:
        """Where the characters [start, end) of the old text are in the new one."""
        start, end = span
        # A span that begins or ends inside an exchanged word takes all of it.
        for a, b, _ in self.edits:
            start = a if a < start < b else start
            end = b if a < end < b else end
        return start + self._growth(start), end + self._growth(end)

    def _growth(self, position: int) -> int:
        return sum(growth for _, end, growth in self.edits if end <= position)


def mirror(text: str) -> Mirrored | None:
    """The text for the mirrored picture, or None where a "left" or "right" may mean something
    else.
    """
    edits, pieces, last = [], [], 0
    for match in _DIRECTION.finditer(text):
        start, end = match.span(1)
        if not _is_direction(text, start, end):
            return None
        opposite = _opposite(match.group(1))
        pieces += [text[last:start], opposite]
        edits.append((start, end, len(opposite) - (end - start)))
        last = end
    return Mirrored("".join([*pieces, text[last:]]), tuple(edits))


def mirror_name(name: str, names: Iterable[str]) -> str:
    """A class name for the mirrored picture.

    "left hand" becomes "right hand"; inside a word ("myleft") only if that gives another class of
    the data set, so that "bright" stays.
    """
    swapped = re.sub(
        "left|right", lambda match: _opposite(match.group()), name, flags=re.IGNORECASE
    )
    if swapped != name and swapped in names:
        return swapped
    return _DIRECTION.sub(lambda match: _opposite(match.group(1)), name)


def _is_direction(text: str, start: int, end: int) -> bool:
    """Whether the "left" or "right" at [start, end) is one for sure."""
    if text[end : end + 1].isalpha():  # leftmost
        return True
    found = _WORD_BEFORE.search(text[:start])
    before = found.group(1).lower() if found else ""
    found = _WORD_AFTER.search(text[end:])
    after = found.group(1).lower() if found else ""
    if after in _SENSES:
        return False
    if before in _INTRODUCING or before.endswith("'s"):
        return True
    if before in ("and", "or"):  # left and right
        return _DIRECTION.search(" ".join(text[:start].split()[-2:])) is not None
    if before in _MOVING:
        return after in ("", "and", "or")
    return after in _SIDED and before not in _BEING


def _opposite(word: str) -> str:
    """The other direction, in the same case."""
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
