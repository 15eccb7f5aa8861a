"""Noun phrases of a free caption: "a man", "a red umbrella", "the grass".

The built-in chunker needs no model and no download: `glip.text.tagger` gives every word a tag, and
a phrase is

    (article | quantifier | possessive)* (adverb | adjective)* noun+ ("'s" ...)?

that is, the base noun phrases of Ramshaw and Marcus (cmp-lg/9505040) with possessives kept whole,
as spaCy's `noun_chunks` has them. English only: in other languages it finds whole runs of words.
The one place that touches a language toolkit; knows nothing about prompts, tokens or boxes.
"""

import logging
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from glip.errors import ConfigError
from glip.text.tagger import Span, Tag, Word, tag_words

Chunker = Literal["auto", "builtin", "spacy"]
"""Who finds noun phrases: spaCy if it can be used and ours if not, always ours, always spaCy."""


def noun_phrases(caption: str, chunker: Chunker = "auto") -> list[Span]:
    """The base noun phrases of a caption as [start, end) character spans, in order, none
    overlapping.

    Pronouns alone ("it", "someone") are no phrases.

    Args:
        caption: any text; English for the built-in chunker.
        chunker: "builtin" gives the same phrases everywhere. "spacy" needs spaCy and an installed
            English model, "auto" takes them if they are there; nothing is ever downloaded.
    Raises:
        ConfigError: another chunker, or "spacy" without spaCy or an English model.
    """
    if chunker not in ("auto", "builtin", "spacy"):
        raise ConfigError(f"chunker: unknown name {chunker!r}; one of 'auto', 'builtin', 'spacy'")
    pipeline = None if chunker == "builtin" else _spacy_pipeline()
    if pipeline is not None:
        return _spacy_phrases(pipeline, caption)
    if chunker == "spacy":
        raise ConfigError(
            "chunker 'spacy' needs spaCy and an English model (python -m spacy download "
            "en_core_web_sm); 'builtin' needs neither"
        )
    return _phrases(tag_words(caption))


_LETTERS = {
    Tag.ARTICLE: "A",
    Tag.QUANTIFIER: "Q",
    Tag.ADJECTIVE: "J",
    Tag.ADVERB: "R",
    Tag.NOUN: "N",
    Tag.POSSESSIVE: "S",
    Tag.CONJUNCTION: "C",
}
_PHRASE = re.compile(
    r"""
    (?: (?: Q?AQ* | Q+ ) (?: R{0,3}J (?:,?C?R?J){0,8} )?  # all the two | very tall, dark and old
      | J (?:C?J){0,8} )?                                 # no determiner: no adverbs, no commas
    N+
    (?: S (?: R?J (?:,?C?R?J){0,8} )? N+ )*               # 's red hat
    """,
    re.VERBOSE,
)
"""A base noun phrase over the letters of its tags, a comma standing for itself."""


def _phrases(words: list[Word]) -> list[Span]:
    """The noun phrases of tagged words."""
    letters = "".join("," if word.text == "," else _LETTERS.get(word.tag, ".") for word in words)
    return [
        (words[match.start()].span[0], words[match.end() - 1].span[1])
        for match in _PHRASE.finditer(letters)
    ]


# spaCy.


@cache
def _spacy_pipeline() -> Callable[[str], Any] | None:
    """An installed English pipeline of spaCy; None without one that loads."""
    if find_spec("spacy") is None:
        return None
    try:
        spacy = import_module("spacy")
        for name in sorted(spacy.util.get_installed_models()):
            if name.startswith("en_"):
                pipeline: Callable[[str], Any] = spacy.load(name, exclude=["ner"])
                return pipeline
    except (ImportError, OSError, ValueError, AttributeError) as error:
        # An installation for other versions of Python, NumPy or the model.
        logging.getLogger(__name__).warning("spaCy cannot be used (%s)", error)
    return None


def _spacy_phrases(pipeline: Callable[[str], Any], caption: str) -> list[Span]:
    return [
        (chunk.start_char, chunk.end_char)
        for chunk in pipeline(caption).noun_chunks
        if any(token.pos_ in ("NOUN", "PROPN", "NUM", "ADJ") for token in chunk)
    ]
