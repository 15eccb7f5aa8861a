"""Whether a typed text is a list of class names or sentences, and the pieces it falls into.

Knows nothing about prompts or tokens.
"""

import re
from collections.abc import Sequence

from glip.text.characters import core, is_visible
from glip.text.tagger import Span, Tag, tag_words

_TITLES = frozenset(("mr", "mrs", "ms", "dr", "st", "mt"))
_INITIALS = re.compile(r"(?:^|\s)(?:[^\W\d_]\.)+[^\W\d_]$")  # "a.c" at the end of a piece
_SEPARATORS = re.compile(r"\.+(?=\s|$)|[。\n\r;]")


def pieces_of(text: str) -> list[Span]:
    """The spans between ending periods, line ends and semicolons; blank ones left out."""
    pieces: list[Span] = []
    start = 0
    for match in _SEPARATORS.finditer(text):
        piece = text[start : match.start()]
        last = piece.split()[-1:]
        abbreviated = match.group() == "." and (
            _INITIALS.search(piece) is not None or (last and last[0].lower() in _TITLES)
        )
        if not (abbreviated and text[match.end() :].strip()):
            pieces.append((start, match.start()))
            start = match.end()
    pieces.append((start, len(text)))
    trimmed = [core(text, a, b) for a, b in pieces]
    return [(a, b) for a, b in trimmed if is_visible(text[a:b])]


_OF_NAMES = {Tag.NOUN, Tag.ADJECTIVE, Tag.ADVERB, Tag.QUANTIFIER}


def are_names(pieces: Sequence[str]) -> bool:
    """Whether the pieces of a text are class names rather than sentences."""
    tags = [[word.tag for word in tag_words(piece)] for piece in pieces]
    if len(pieces) == 1:
        return Tag.NOUN in tags[0] and _OF_NAMES.issuperset(tags[0])
    if any(len(t) > 1 and ({Tag.BE, Tag.PRONOUN} & {*t} or Tag.ARTICLE in t[1:]) for t in tags):
        return False
    return 2 * sum(len(t) < 2 or Tag.VERB not in t for t in tags) > len(pieces)


_PLEASANTRY = r"(?:please|kindly|thanks|thank\ you|(?:can|could|would|will)\ you|now)"
_REQUEST = re.compile(
    rf"""^\s*(?:{_PLEASANTRY}[\s,]+)*
    (?: (?:find|detect|locate|spot|highlight|identify|look\ for|search\ for|point\ out|point\ to
          |where\ is|where\ are)\s+(?:(?:me|us)\s+)?
      | (?:show|give|get|mark|box)\s+(?:me\s+|us\s+|(?=all\s|every\s|each\s|the\s|any\s)) )
    (?:(?:all|each|every|every\ one|any|both)\s+(?:of\s+)?)?
    (?:(?:the|these|those)\s+)?(?=\S)""",
    re.VERBOSE | re.IGNORECASE,
)
_THANKS = re.compile(
    rf"""(?:[\s,]+(?:{_PLEASANTRY}|for\ (?:me|us)
      |(?:in|on|from)\ (?:the|this|that)\ (?:image|picture|photo|photograph)))+\s*[.!?]*\s*$""",
    re.VERBOSE | re.IGNORECASE,
)


def without_request(text: str) -> str:
    """What a request asks for: "find me all of the raccoons please" -> "raccoons".

    A text that does not begin as a request is returned as it is.
    """
    begin = _REQUEST.match(text)
    if begin is None:
        return text
    asked = _THANKS.sub("", text[begin.end() :]).rstrip(" \t\r\n?!")
    return asked if is_visible(asked) else text
