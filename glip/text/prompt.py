"""Prompt: a sentence and the phrases in it that boxes may be assigned to.

The one home of spans, phrases, passes and token maps (GLIP, arXiv 2112.03857, section 3.1:
detection as grounding of a prompt made of class names). Training targets and test scores both come
from the matrix that `token_map` returns. Knows nothing about boxes, images, batches or the text
encoder, of which it is told one number: how many tokens it takes.

Letters: P phrases, T tokens, S spans.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from numbers import Integral
from operator import index
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from glip.errors import ConfigError, PromptError
from glip.settings import within
from glip.text.characters import (
    composed,
    core,
    has_word,
    is_visible,
    shown,
    whole_words,
)
from glip.text.nouns import Chunker, noun_phrases
from glip.text.pack import SEPARATOR, join, split_caption, split_names
from glip.text.sentences import are_names, pieces_of, without_request
from glip.text.tokenizer import Encoding, Span, Tokenizer

T = TypeVar("T")

PhraseLike: TypeAlias = str | Span | Sequence[Span]
"""A phrase of a caption as a user gives it: its words, its [start, end), or several of those."""


_UNTIDY = re.compile(r"[.;:,!?\n\r\u3002]|^\W|\s$|^$")
"""What class names may hold that were typed as a text."""


@dataclass(frozen=True)
class Prompt:
    """A sentence and the phrases in it, hashable and checked on construction.

    Phrases may nest, overlap and repeat; their order is the order of the labels in every result.

    Attributes:
        text: the sentence, exactly as the text encoder will read it.
        phrases: per phrase, its [start, end) character spans in the text.
        names: per phrase, what the user called it; by default its words in the text.
    Raises:
        PromptError: no phrase, a span outside the text, empty, reversed or overlapping another of
            the same phrase, a phrase without visible characters, or nothing but punctuation at all.
    """

    text: str
    phrases: tuple[tuple[Span, ...], ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.phrases:
            raise _no_prompt(self.text)
        phrases = tuple(map(partial(_checked_phrase, self.text), count(), self.phrases))
        names = tuple(self.names) or tuple(_words_of(self.text, spans) for spans in phrases)
        if len(names) != len(phrases):
            raise PromptError(
                f"prompt has {len(phrases)} phrases but {len(names)} names; give one each"
            )
        if not any(has_word(self.text[a:b]) for spans in phrases for a, b in spans):
            raise PromptError(
                f"prompt {shown(self.text)} is only punctuation; name at least one thing to look "
                "for"
            )
        object.__setattr__(self, "phrases", phrases)
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.phrases)

    @classmethod
    def of(cls, value: "Prompt | str | Sequence[str]") -> "Prompt":
        """A prompt from whatever a user may pass: a prompt, a text (`from_text`) or class names.

        Class names are tidied as a person would: periods around them go, "cat. cup." in one string
        is two names, and a name that is given twice, in whatever case, is looked for once.
        `from_classes` takes them as they are.

        Raises:
            PromptError: another type, or a text or list that makes no prompt.
        """
        if isinstance(value, Prompt):
            return value
        if isinstance(value, str):
            return cls.from_text(value)
        if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
            raise PromptError(
                f"a prompt is a string, a list of class names or a Prompt, got "
                f"{type(value).__name__}"
            )
        if all(isinstance(name, str) and not _UNTIDY.search(name) for name in value):
            return cls.from_classes(once_each(value))
        return cls.from_classes(_tidied(value))

    @classmethod
    def from_classes(
        cls,
        names: Sequence[str],
        *,
        separator: str = SEPARATOR,
        clean: bool = True,
        trailing: bool = False,
    ) -> "Prompt":
        """One phrase for each class name, in order; by default the official evaluation prompt.

        Args:
            names: the classes; they stay as they are in `Prompt.names`. A repeated name is a phrase
                of its own.
            separator: stands between two names.
            clean: write names as the official evaluation does (`clean_name`); a name of which
                cleaning leaves nothing is written as it is.
            trailing: put a separator after the last name too. With `separator=" . "` and
                `clean=False` this is the prompt of the official demo.
        Raises:
            PromptError: an empty list, a name that is not a string or has no visible character, or
                only punctuation in all names together.
        """
        if isinstance(names, str):
            raise PromptError(
                f"class names must be a list, got the string {shown(names)}; write [{shown(names)}]"
            )
        names = _listed(names, "class names")
        for row, name in enumerate(names):
            if not isinstance(name, str) or not is_visible(name):
                raise _bad_name(row, name)
        if not names:
            raise PromptError(
                "the list of class names is empty; name at least one thing to look for"
            )
        pieces = [clean_name(name) if clean else name for name in names]
        pieces = [
            piece if is_visible(piece) else name for piece, name in zip(pieces, names, strict=True)
        ]
        text, phrases = join(pieces, separator)
        return cls(text + (separator if trailing else ""), phrases, tuple(names))

    @classmethod
    def from_caption(
        cls,
        caption: str,
        phrases: Sequence[PhraseLike] | None = None,
        *,
        chunker: Chunker = "auto",
    ) -> "Prompt":
        """A sentence, verbatim, with the given phrases or with all its noun phrases.

        Args:
            caption: the sentence.
            phrases: each either words of the caption (whatever their case; whole words; "dog" given
                twice is its first and its second occurrence), or one (start, end) span of
                characters, or a list of such spans. A phrase lies outside the longer ones if it
                can: "hat" beside "a red hat" is the other hat. By default the noun phrases that
                `chunker` finds; a caption in which it finds none is one phrase.
            chunker: see `glip.text.nouns.noun_phrases`.
        Raises:
            PromptError: a caption without words, a phrase that is not in it, or a span that does
                not fit (see the constructor).
        """
        if not isinstance(caption, str):
            raise PromptError(f"a caption must be a string, got {type(caption).__name__}")
        if not has_word(caption):
            raise PromptError(f"caption {shown(caption)} has no words; name something to look for")
        if phrases is None:
            found = noun_phrases(caption, chunker) or [core(caption, 0, len(caption))]
            return cls(caption, tuple((span,) for span in found))
        if isinstance(phrases, str):
            raise PromptError(
                f"phrases must be a list, got the string {shown(phrases)}; write [{shown(phrases)}]"
            )
        phrases = _listed(phrases, "phrases")
        places = _places(caption, [phrase for phrase in phrases if isinstance(phrase, str)])
        spans = [
            (next(places),) if isinstance(phrase, str) else _as_spans(phrase) for phrase in phrases
        ]
        return cls(caption, tuple(spans))

    @classmethod
    def from_text(cls, text: str, *, chunker: Chunker = "auto") -> "Prompt":
        """What a person types: class names with periods between them, or else a caption.

        "person. bicycle.", "person . traffic light" and names on lines of their own are class
        names: every piece is one phrase and the text stays verbatim, unless a name stands in it
        twice ("cat. Cat."), which is looked for once. A period separates only before
        a blank or at the end, and not after single letters or a title ("a.c. unit", "st. bernard").
        Pieces are sentences instead when one holds a form of "be", a pronoun or an article after
        its first word, or when half of them hold a verb. Everything else is a caption, so "cat, dog
        and bus" is the three noun phrases in it, unless it is nothing but one name ("traffic
        light"). A name that this could misread ("man on the moon") is exact in a list. Of a request
        only what is asked for is kept: "find me all of the raccoons please" is "raccoons".

        Args:
            text: what was typed.
            chunker: see `glip.text.nouns.noun_phrases`.
        Raises:
            PromptError: no words in the text.
        """
        if not isinstance(text, str):
            raise PromptError(f"a prompt must be a string, got {type(text).__name__}")
        text = without_request(text)
        pieces = pieces_of(text)
        names = [text[a:b] for a, b in pieces]
        if names and are_names(names):
            once = once_each(names)
            if len(once) < len(names):
                return cls.from_classes(once, clean=False)
            return cls(text, tuple((span,) for span in pieces))
        return cls.from_caption(text, chunker=chunker)

    def passes(
        self, tokenizer: Tokenizer, max_tokens: int = 256, max_classes: int | None = None
    ) -> tuple["PromptPass", ...]:
        """The prompt as the text encoder can take it: as few texts as possible, no phrase cut.

        A prompt that fits is one pass with the text verbatim. Otherwise a class list (nothing but
        punctuation between the phrases) is regrouped and each pass reads as the official prompt of
        its names; a caption is cut between words outside every phrase, at ends of sentences if that
        costs no pass more. Text of a caption that would need a pass without any phrase is left out.

        Args:
            tokenizer: the tokenizer of the text encoder.
            max_tokens: what the encoder takes, [CLS] and [SEP] included.
            max_classes: for class lists, cut into consecutive groups of this many names first, as
                the official evaluation of LVIS does with 40; a caption pays no attention to it.
        Returns:
            The passes; every row of `phrases` is in exactly one of them.
        Raises:
            PromptError: a phrase alone needs more than `max_tokens`, or has no token at all.
            ConfigError: `max_tokens` below three or `max_classes` below one.
        """
        if max_tokens < 3:
            raise ConfigError(
                f"max_tokens must be at least 3 ([CLS], a word, [SEP]), got {max_tokens}"
            )
        within("max_classes", max_classes, least=1)
        encoding = tokenizer.encode(self.text)
        if len(encoding.ids) <= max_tokens and (max_classes is None or len(self) <= max_classes):
            return (self._pass(self.text, encoding, range(len(self)), self.phrases),)
        return self._several_passes(encoding, tokenizer, max_tokens, max_classes)

    def _several_passes(
        self, encoding: Encoding, tokenizer: Tokenizer, max_tokens: int, max_classes: int | None
    ) -> tuple["PromptPass", ...]:
        """`passes` where one is not enough, or may not be."""
        is_list = self.is_list
        if len(encoding) <= max_tokens and not is_list:
            return (self._pass(self.text, encoding, range(len(self)), self.phrases),)
        # A text may need a token more where its first word has lost its neighbours (not with BERT,
        # which reads words one by one): then the next way is to pack for one token less.
        pieces = [self.text[spans[0][0] : spans[0][1]] for spans in self.phrases]
        for parts in (
            split_names(pieces, tokenizer, max_tokens, max_classes)
            if is_list
            else split_caption(self.text, self.phrases, encoding, max_tokens)
        ):
            encodings = [tokenizer.encode(part.text) for part in parts]
            if all(len(encoded) <= max_tokens for encoded in encodings):
                break
        return tuple(
            self._pass(part.text, encoded, part.rows, part.phrases)
            for part, encoded in zip(parts, encodings, strict=True)
        )

    @property
    def is_list(self) -> bool:
        """Whether the phrases follow one another with nothing but punctuation around them."""
        end = 0
        for spans in self.phrases:
            if len(spans) > 1 or spans[0][0] < end or has_word(self.text[end : spans[0][0]]):
                return False
            end = spans[0][1]
        return not has_word(self.text[end:])

    def _pass(
        self,
        text: str,
        encoding: Encoding,
        rows: Iterable[int],
        phrases: Sequence[Sequence[Span]],
    ) -> "PromptPass":
        """A pass, after a look whether every phrase is there at all."""
        rows = tuple(rows)
        mapped = token_map(phrases, encoding.offsets)
        if not mapped.any(-1).all():
            row = rows[int((~mapped.any(-1)).argmax())]
            raise PromptError(
                f"phrase {row} ({shown(self.names[row])}) has no character that the text encoder "
                "reads; remove it"
            )
        return PromptPass(text, encoding.ids, mapped, rows)


@dataclass(frozen=True, eq=False)
class PromptPass:
    """A text short enough for the encoder, and the phrases of a prompt that are in it.

    Attributes:
        text: what is encoded.
        token_ids: its T tokens, [CLS] and [SEP] included.
        token_map: (P, T) bool, the tokens of each phrase of this pass; no row is empty.
        rows: P rows of `Prompt.phrases`, in the order of the rows of `token_map`.
    """

    text: str
    token_ids: tuple[int, ...]
    token_map: npt.NDArray[np.bool_]
    rows: tuple[int, ...]


def clean_name(name: str) -> str:
    """A class name as the official evaluation writes it.

    Everything from the first "(" to the last ")" goes, underscores become blanks and two blanks
    one, once from left to right. official: blanks that are left at the ends stay, "bow_(ribbon)" is
    "bow ".
    """
    return re.sub(r"\(.*\)", "", name).replace("_", " ").replace("  ", " ")


def reads_as(name: str) -> str:
    """What is left of a name when everything is gone that the text encoder cannot see."""
    return _folded(clean_name(name)) or name


def _folded(text: str) -> str:
    """What stays the same whatever the case and the blanks."""
    return " ".join(composed(text).casefold().split())


def token_map(
    phrases: Sequence[Sequence[Span]], offsets: Sequence[Span] | npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Does token t lie in phrase p? Tokens that touch a span do, so blanks around it are harmless.

    The same as the official search from the characters of a span to its tokens.

    Args:
        phrases: P phrases, each its [start, end) spans of characters.
        offsets: (T, 2) characters [start, end) of each token, (0, 0) for one that has none.
    Returns:
        (P, T) bool.
    """
    owners = [row for row, spans in enumerate(phrases) for _ in spans]
    spans = np.array([span for row in phrases for span in row], np.int64).reshape(-1, 2)
    tokens = np.asarray(offsets, np.int64).reshape(-1, 2)
    touches = (tokens[:, 0] < spans[:, 1:]) & (tokens[:, 1] > spans[:, :1])  # (S, T)
    one_span_each = owners == list(range(len(phrases)))
    return touches if one_span_each else _by_phrase(touches, owners, len(phrases))


def _by_phrase(
    touches: npt.NDArray[np.bool_], owners: Sequence[int], phrases: int
) -> npt.NDArray[np.bool_]:
    """(S, T) of spans as (P, T) of the phrases that have them."""
    mapped = np.zeros((phrases, touches.shape[1]), np.bool_)
    np.logical_or.at(mapped, owners, touches)
    return mapped


def _words_of(text: str, spans: Sequence[Span]) -> str:
    return " ".join(text[a:b] for a, b in spans)


def _no_prompt(text: object) -> PromptError:
    """Why a text without phrases, or what is no text, makes no prompt."""
    if not isinstance(text, str):
        return PromptError(f"prompt text must be a string, got {type(text).__name__}")
    return PromptError(f"prompt {shown(text)} has no phrases; name at least one thing to look for")


def _bad_name(row: int, name: object) -> PromptError:
    """Why something cannot be a class name."""
    if not isinstance(name, str):
        return PromptError(f"class name {row} must be a string, got {shown(name)}")
    return PromptError(f"class name {row} is empty: {shown(name)}; remove it from the list")


def _listed(values: Iterable[T], what: str) -> list[T]:
    """The members of a list of words, whatever it is a list of.

    Raises:
        PromptError: it has no members.
    """
    if isinstance(values, (bytes, bytearray)) or not isinstance(values, Iterable):
        raise PromptError(f"{what} must be a list, got {shown(values)}")
    return list(values)


def _tidied(names: Sequence[object]) -> list[str]:
    """Class names as somebody has typed them: without periods, each once.

    What makes no name, but is text, is left for `Prompt.from_classes`, which says so.

    Raises:
        PromptError: one of them is no text.
    """
    tidied: list[str] = []
    for row, name in enumerate(names):
        if not isinstance(name, str):
            raise _bad_name(row, name)
        pieces = pieces_of(name)
        tidied += [name[a:b] for a, b in pieces] if pieces else [name]
    return once_each(tidied)


def once_each(names: Iterable[str]) -> list[str]:
    """Without those that are an earlier one in another case; "bow (ribbon)" is not "bow"."""
    once: dict[str, str] = {}
    for name in names:
        once.setdefault(_folded(name), name)
    return [*once.values()]


def _checked_phrase(text: str, row: int, spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans of a phrase as plain tuples, or the reason why they cannot be."""
    try:
        checked = tuple((index(a), index(b)) for a, b in spans)
    except (TypeError, ValueError) as error:
        raise PromptError(
            f"phrase {row}: {shown(spans)} is not a sequence of (start, end)"
        ) from error
    inside = all(0 <= a < b <= len(text) for a, b in checked)
    apart = all(b <= c for (_, b), (c, _) in pairwise(sorted(checked)))
    if not (inside and apart and any(is_visible(text[a:b]) for a, b in checked)):
        raise _bad_phrase(text, row, checked)
    return checked


def _bad_phrase(text: str, row: int, spans: Sequence[Span]) -> PromptError:
    """What is wrong with the spans of a phrase."""
    if not spans:
        return PromptError(f"phrase {row} has no spans; give at least one (start, end)")
    for a, b in spans:
        if a < 0 or b > len(text):
            return PromptError(
                f"phrase {row}: span ({a}, {b}) lies outside the text of {len(text)} characters; "
                f"0 <= start < end <= {len(text)}"
            )
        if a >= b:
            return PromptError(f"phrase {row}: span ({a}, {b}) is empty; end comes after start")
    for (a, b), (c, d) in pairwise(sorted(spans)):
        if c < b:
            return PromptError(
                f"phrase {row}: spans ({a}, {b}) and ({c}, {d}) overlap; spans of one phrase must "
                "not (two phrases may)"
            )
    return PromptError(f"phrase {row} is blank: {shown(_words_of(text, spans))}; move or remove it")


def _as_spans(phrase: Span | Sequence[Span]) -> tuple[Span, ...]:
    """One span or several, as several."""
    try:
        first = phrase[0]
        return (phrase,) if isinstance(first, Integral) else tuple(phrase)  # type: ignore[arg-type]
    except (TypeError, IndexError, KeyError) as error:
        raise PromptError(
            f"phrase {shown(phrase)} is neither words of the caption nor (start, end) nor a list "
            "of them"
        ) from error


def _places(caption: str, phrases: Sequence[str]) -> Iterator[Span]:
    """The span of each phrase: its first place outside those of longer or earlier ones, if any."""
    places: dict[int, Span] = {}
    seen: Counter[str] = Counter()
    for row in sorted(range(len(phrases)), key=lambda row: -len(phrases[row])):
        key = " ".join(phrases[row].casefold().split())
        seen[key] += 1
        found = _occurrences(caption, phrases[row], seen[key])
        taken = list(places.values())
        free = (one for one in found if all(one[1] <= a or b <= one[0] for a, b in taken))
        places[row] = next(free, found[seen[key] - 1])
    return (places[row] for row in range(len(phrases)))


def _occurrences(caption: str, phrase: str, number: int) -> list[Span]:
    """Where a phrase stands in a caption, at least `number` times."""
    if not has_word(phrase):
        raise PromptError(f"phrase {shown(phrase)} has no words; name something in the caption")
    found = whole_words(caption, phrase)
    if not found:
        raise PromptError(
            f"phrase {shown(phrase)} is not in the caption {shown(caption)}; write it as it stands "
            "there or give its (start, end)"
        )
    if len(found) < number:
        raise PromptError(
            f"phrase {shown(phrase)} is asked for {number} times but occurs {len(found)} times in "
            f"{shown(caption)}; give (start, end) to mark one place twice"
        )
    return found
