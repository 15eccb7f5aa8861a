"""Prompt: a sentence and the phrases in it that boxes may be assigned to.

The one home of spans, phrases, passes and token maps (GLIP, arXiv 2112.03857, section 3.1:
detection as grounding of a prompt made of class names). Training targets and test scores both come
from the matrix that `token_map` returns. Knows nothing about boxes, images, batches or the text
encoder, of which it is told one number: how many tokens it takes.

Letters: P phrases, T tokens, S spans.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import index
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from glip.errors import ConfigError, PromptError
from glip.text.nouns import NO_SPACE_SCRIPTS, Chunker, Tag, noun_phrases, tag_words
from glip.text.tokenizer import Encoding, Span, Tokenizer

PhraseLike: TypeAlias = str | Span | Sequence[Span]
"""A phrase of a caption as a user gives it: its words, its [start, end), or several of those."""

SEPARATOR = ". "
"""Between two class names, as in every released configuration."""


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
        text = self.text
        if not isinstance(text, str):
            raise PromptError(f"prompt text must be a string, got {type(text).__name__}")
        if not self.phrases:
            raise PromptError(
                f"prompt {_shown(text)} has no phrases; name at least one thing to look for"
            )
        phrases = tuple(_checked_phrase(text, row, spans) for row, spans in enumerate(self.phrases))
        names = tuple(self.names) or tuple(_words_of(text, spans) for spans in phrases)
        if len(names) != len(phrases):
            raise PromptError(
                f"prompt has {len(phrases)} phrases but {len(names)} names; give one each"
            )
        if not any(_has_word(text[a:b]) for spans in phrases for a, b in spans):
            raise PromptError(
                f"prompt {_shown(text)} is only punctuation; name at least one thing to look for"
            )
        object.__setattr__(self, "phrases", phrases)
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.phrases)

    @classmethod
    def of(cls, value: "Prompt | str | Sequence[str]") -> "Prompt":
        """A prompt from whatever a user may pass: a prompt, a text (`from_text`) or class names.

        Raises:
            PromptError: another type, or a text or list that makes no prompt.
        """
        if isinstance(value, Prompt):
            return value
        if isinstance(value, str):
            return cls.from_text(value)
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
            return cls.from_classes(value)
        raise PromptError(
            f"a prompt is a string, a list of class names or a Prompt, got {type(value).__name__}"
        )

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
                f"class names must be a list, got the string {names!r}; write [{names!r}]"
            )
        pieces: list[str] = []
        for row, name in enumerate(names):
            if not isinstance(name, str):
                raise PromptError(f"class name {row} must be a string, got {name!r}")
            if not _is_visible(name):
                raise PromptError(f"class name {row} is empty: {name!r}; remove it from the list")
            cleaned = clean_name(name) if clean else name
            pieces.append(cleaned if _is_visible(cleaned) else name)
        if not pieces:
            raise PromptError(
                "the list of class names is empty; name at least one thing to look for"
            )
        text, phrases = _join(pieces, separator)
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
                characters, or a list of such spans. By default the noun phrases that `chunker`
                finds; a caption in which it finds none is one phrase.
            chunker: see `glip.text.nouns.noun_phrases`.
        Raises:
            PromptError: a caption without words, a phrase that is not in it, or a span that does
                not fit (see the constructor).
        """
        if not isinstance(caption, str):
            raise PromptError(f"a caption must be a string, got {type(caption).__name__}")
        if not _has_word(caption):
            raise PromptError(f"caption {_shown(caption)} has no words; name something to look for")
        if phrases is None:
            found = noun_phrases(caption, chunker) or [_core(caption, 0, len(caption))]
            return cls(caption, tuple((span,) for span in found))
        if isinstance(phrases, str):
            raise PromptError(
                f"phrases must be a list, got the string {phrases!r}; write [{phrases!r}]"
            )
        seen: dict[str, int] = {}
        spans: list[tuple[Span, ...]] = []
        for phrase in phrases:
            if isinstance(phrase, str):
                key = " ".join(phrase.casefold().split())
                seen[key] = seen.get(key, 0) + 1
                spans.append((_occurrence(caption, phrase, seen[key]),))
            else:
                spans.append(_as_spans(phrase))
        return cls(caption, tuple(spans))

    @classmethod
    def from_text(cls, text: str, *, chunker: Chunker = "auto") -> "Prompt":
        """What a person types: class names with periods between them, or else a caption.

        "person. bicycle.", "person . traffic light" and names on lines of their own are class
        names: every piece is one phrase and the text stays verbatim. A period separates only before
        a blank or at the end, and not after single letters or a title ("a.c. unit", "st. bernard").
        Pieces are sentences instead when one holds a form of "be", a pronoun or an article after
        its first word, or when half of them hold a verb. Everything else is a caption, so "cat, dog
        and bus" is the three noun phrases in it, unless it is nothing but one name ("traffic
        light"). A name that this could misread ("man on the moon") is exact in a list.

        Args:
            text: what was typed.
            chunker: see `glip.text.nouns.noun_phrases`.
        Raises:
            PromptError: no words in the text.
        """
        if not isinstance(text, str):
            raise PromptError(f"a prompt must be a string, got {type(text).__name__}")
        pieces = _pieces(text)
        if pieces and _are_names([text[a:b] for a, b in pieces]):
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
        if max_classes is not None and max_classes < 1:
            raise ConfigError(f"max_classes must be at least 1, got {max_classes}")
        encoding = tokenizer.encode(self.text)
        is_list = self._is_list()
        if len(encoding) <= max_tokens and not (
            is_list and max_classes is not None and len(self) > max_classes
        ):
            return (self._pass(self.text, encoding, range(len(self)), self.phrases),)
        # A text may need a token more where its first word has lost its neighbours (not with BERT,
        # which reads words one by one): then the next way is to pack for one token less.
        for parts in (
            _split_names(self, tokenizer, max_tokens, max_classes)
            if is_list
            else _split_caption(self, encoding, max_tokens)
        ):
            encodings = [tokenizer.encode(part.text) for part in parts]
            if all(len(encoded) <= max_tokens for encoded in encodings):
                break
        return tuple(
            self._pass(part.text, encoded, part.rows, part.phrases)
            for part, encoded in zip(parts, encodings, strict=True)
        )

    def _is_list(self) -> bool:
        """Whether the phrases follow one another with nothing but punctuation around them."""
        end = 0
        for spans in self.phrases:
            if len(spans) > 1 or spans[0][0] < end or _has_word(self.text[end : spans[0][0]]):
                return False
            end = spans[0][1]
        return not _has_word(self.text[end:])

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
        for row, seen in zip(rows, mapped.any(dim=-1).tolist(), strict=True):
            if not seen:
                raise PromptError(
                    f"phrase {row} ({self.names[row]!r}) has no character that the text encoder "
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
    token_map: Tensor
    rows: tuple[int, ...]


def clean_name(name: str) -> str:
    """A class name as the official evaluation writes it.

    Everything from the first "(" to the last ")" goes, underscores become blanks and two blanks
    one, once from left to right. official: blanks that are left at the ends stay, "bow_(ribbon)" is
    "bow ".
    """
    return re.sub(r"\(.*\)", "", name).replace("_", " ").replace("  ", " ")


def token_map(phrases: Sequence[Sequence[Span]], offsets: Sequence[Span] | Tensor) -> Tensor:
    """Does token t lie in phrase p? Tokens that touch a span do, so blanks around it are harmless.

    The same as the official search from the characters of a span to its tokens.

    Args:
        phrases: P phrases, each its [start, end) spans of characters.
        offsets: (T, 2) characters [start, end) of each token, (0, 0) for one that has none.
    Returns:
        (P, T) bool.
    """
    owners = [row for row, spans in enumerate(phrases) for _ in spans]
    spans = torch.tensor([span for row in phrases for span in row], dtype=torch.int64).view(-1, 2)
    tokens = torch.as_tensor(offsets, dtype=torch.int64).view(-1, 2)
    touches = (tokens[:, 0] < spans[:, 1:]) & (tokens[:, 1] > spans[:, :1])  # (S, T)
    if owners == list(range(len(phrases))):
        return touches  # one span each
    counts = torch.zeros(len(phrases), len(tokens), dtype=torch.int32)
    return counts.index_add_(0, torch.tensor(owners, dtype=torch.int64), touches.int()) > 0


def mean_weights(token_map: Tensor) -> Tensor:
    """Weights that average the tokens of each phrase, as the official code does.

    Args:
        token_map: (..., P, T) bool.
    Returns:
        (..., P, T) float32; rows sum to one, a row without tokens (padding) stays zero.
    """
    return token_map.float() / token_map.sum(dim=-1, keepdim=True).clamp(min=1)


def first_token(token_map: Tensor) -> Tensor:
    """Weights that pick the first token of each phrase.

    Args:
        token_map: (..., P, T) bool.
    Returns:
        (..., P, T) float32, one-hot; a row without tokens (padding) stays zero.
    """
    return (token_map & (token_map.cumsum(dim=-1) == 1)).float()


# Characters and words.

# A letter or digit of a script that puts blanks between words.
_WORD = re.compile(f"[^\\W{NO_SPACE_SCRIPTS}]")


def _shown(text: str) -> str:
    """The text as an error message shows it."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _is_visible(text: str) -> bool:
    """Whether any character survives BERT's normalisation: no blank, control or combining mark."""
    return any(
        not (category[0] in "ZC" or category == "Mn")
        for category in map(unicodedata.category, text)
    )


def _has_word(text: str) -> bool:
    """Whether any visible character is not punctuation (for BERT that is all ASCII symbols)."""
    for character in text:
        category = unicodedata.category(character)
        symbol = category[0] == "P" or (category[0] == "S" and character.isascii())
        if not (symbol or category[0] in "ZC" or category == "Mn"):
            return True
    return False


def _core(text: str, start: int, end: int) -> Span:
    """The span without blanks around it, bullets before it or periods and commas after it."""
    piece = text[start:end].rstrip(" \t\r\n.,;:!?。！？、，")
    end = start + len(piece)
    return end - len(piece.lstrip(" \t\r\n-*\u2022")), end


def _words_of(text: str, spans: Sequence[Span]) -> str:
    return " ".join(text[a:b] for a, b in spans)


def _checked_phrase(text: str, row: int, spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans of a phrase as plain tuples, or the reason why they cannot be."""
    if not spans:
        raise PromptError(f"phrase {row} has no spans; give at least one (start, end)")
    try:
        checked = tuple((index(a), index(b)) for a, b in spans)
    except (TypeError, ValueError) as error:
        raise PromptError(f"phrase {row}: {spans!r} is not a sequence of (start, end)") from error
    for a, b in checked:
        if a < 0 or b > len(text):
            raise PromptError(
                f"phrase {row}: span ({a}, {b}) lies outside the text of {len(text)} characters; "
                f"0 <= start < end <= {len(text)}"
            )
        if a >= b:
            raise PromptError(f"phrase {row}: span ({a}, {b}) is empty; end comes after start")
    ordered = sorted(checked)
    for (a, b), (c, d) in pairwise(ordered):
        if c < b:
            raise PromptError(
                f"phrase {row}: spans ({a}, {b}) and ({c}, {d}) overlap; spans of one phrase must "
                "not (two phrases may)"
            )
    if not any(_is_visible(text[a:b]) for a, b in checked):
        raise PromptError(f"phrase {row} is blank: {_words_of(text, checked)!r}; move or remove it")
    return checked


def _as_spans(phrase: Span | Sequence[Span]) -> tuple[Span, ...]:
    """One span or several, as several."""
    try:
        first = phrase[0]
        return (phrase,) if isinstance(first, int) else tuple(phrase)  # type: ignore[arg-type, return-value]
    except (TypeError, IndexError, KeyError) as error:
        raise PromptError(
            f"phrase {phrase!r} is neither words of the caption nor (start, end) nor a list of them"
        ) from error


def _occurrence(caption: str, phrase: str, number: int) -> Span:
    """The span of the `number`-th occurrence (from 1) of a phrase in a caption."""
    words = phrase.split()
    if not _has_word(phrase):
        raise PromptError(f"phrase {phrase!r} has no words; name something in the caption")
    pattern = r"\s+".join(re.escape(word) for word in words)
    if _WORD.match(words[0]):
        pattern = f"(?<!{_WORD.pattern}){pattern}"
    if _WORD.match(words[-1][-1]):
        pattern = f"{pattern}(?!{_WORD.pattern})"
    found = [match.span() for match in re.finditer(pattern, caption, re.IGNORECASE)]
    if not found:
        raise PromptError(
            f"phrase {phrase!r} is not in the caption {_shown(caption)}; write it as it stands "
            "there or give its (start, end)"
        )
    if len(found) < number:
        raise PromptError(
            f"phrase {phrase!r} is asked for {number} times but occurs {len(found)} times in "
            f"{_shown(caption)}; give (start, end) to mark one place twice"
        )
    return found[number - 1]


# Names or sentences?

_TITLES = frozenset(("mr", "mrs", "ms", "dr", "st", "mt"))
_INITIALS = re.compile(r"(?:^|\s)(?:[^\W\d_]\.)+[^\W\d_]$")  # "a.c" at the end of a piece
_SEPARATORS = re.compile(r"\.+(?=\s|$)|[。\n\r;]")


def _pieces(text: str) -> list[Span]:
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
    trimmed = [_core(text, a, b) for a, b in pieces]
    return [(a, b) for a, b in trimmed if _is_visible(text[a:b])]


_OF_NAMES = {Tag.NOUN, Tag.ADJECTIVE, Tag.ADVERB, Tag.QUANTIFIER}


def _are_names(pieces: Sequence[str]) -> bool:
    """Whether the pieces of a text are class names rather than sentences."""
    tags = [[word.tag for word in tag_words(piece)] for piece in pieces]
    if len(pieces) == 1:
        return Tag.NOUN in tags[0] and _OF_NAMES.issuperset(tags[0])
    if any(len(t) > 1 and ({Tag.BE, Tag.PRONOUN} & {*t} or Tag.ARTICLE in t[1:]) for t in tags):
        return False
    return 2 * sum(len(t) < 2 or Tag.VERB not in t for t in tags) > len(pieces)


# Packing.

_PASS = 10**9  # of a caption: the cost of one more pass, above any sum of the two below
_LEFT_OUT = 10  # of a token that no pass reads
_CUT_AT_SENTENCE, _CUT_AT_CLAUSE, _CUT_AT_BLANK, _CUT_ELSEWHERE = 0, 1, 2, 4


class _Part(NamedTuple):
    """A text to encode, the rows of the phrases in it and where they stand in it."""

    text: str
    rows: Sequence[int]
    phrases: Sequence[Sequence[Span]]


def _join(pieces: Sequence[str], separator: str) -> tuple[str, tuple[tuple[Span, ...], ...]]:
    """The pieces with separators between them, and the span of each."""
    phrases: list[tuple[Span, ...]] = []
    start = 0
    for piece in pieces:
        phrases.append(((start, start + len(piece)),))
        start += len(piece) + len(separator)
    return separator.join(pieces), tuple(phrases)


def _too_long(prompt: Prompt, row: int, tokens: int, max_tokens: int) -> PromptError:
    return PromptError(
        f"phrase {row} ({_shown(prompt.names[row])}) needs {tokens} tokens besides [CLS] and "
        f"[SEP], the text encoder takes {max_tokens} with them; shorten it"
    )


def _sizes(encoding: Encoding, spans: Sequence[Span]) -> list[int]:
    """Number of tokens that touch each span."""
    starts = [a for a, _ in encoding.offsets[1:-1]]
    ends = [b for _, b in encoding.offsets[1:-1]]
    return [bisect_left(starts, b) - bisect_right(ends, a) for a, b in spans]


def _split_names(
    prompt: Prompt, tokenizer: Tokenizer, max_tokens: int, max_classes: int | None
) -> Iterator[list[_Part]]:
    """Ways to pack a class list, the best first, each part the official prompt of its names."""
    pieces = [prompt.text[a:b] for ((a, b),) in prompt.phrases]
    text, phrases = _join(pieces, SEPARATOR)
    sizes = _sizes(tokenizer.encode(text), [spans[0] for spans in phrases])
    gap = len(tokenizer.encode(SEPARATOR)) - 2
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    for room in range(max_tokens - 2, sizes[longest] - 1, -1):
        parts = []
        for rows in _group(sizes, gap, room, max_classes):
            text, phrases = _join([pieces[row] for row in rows], SEPARATOR)
            parts.append(_Part(text, rows, phrases))
        yield parts
    raise _too_long(prompt, longest, sizes[longest], max_tokens)


def _group(
    sizes: Sequence[int], gap: int, room: int, max_classes: int | None
) -> Sequence[Sequence[int]]:
    """Rows in as few groups as we can, `gap` tokens between neighbours, `room` tokens a group.

    Neighbours stay together where that costs no group more; with `max_classes` always.
    """
    block = max_classes or len(sizes)
    runs = [
        run
        for first in range(0, len(sizes), block)
        for run in _runs(sizes, gap, room, range(first, min(first + block, len(sizes))))
    ]
    fewest = -(-sum(size + gap for size in sizes) // (room + gap))
    if max_classes is not None or len(runs) == fewest:
        return runs
    return min(runs, _best_fit(sizes, gap, room), key=len)


def _runs(sizes: Sequence[int], gap: int, room: int, rows: Iterable[int]) -> list[list[int]]:
    """Consecutive groups, each filled until the next row does not fit."""
    groups: list[list[int]] = []
    free = 0
    for row in rows:
        free -= gap + sizes[row]
        if free < 0 or not groups:
            groups.append([])
            free = room - sizes[row]
        groups[-1].append(row)
    return groups


def _best_fit(sizes: Sequence[int], gap: int, room: int) -> list[list[int]]:
    """Groups by best fit decreasing: the largest row first, each where it leaves the least free."""
    groups: list[list[int]] = []
    spaces: list[tuple[int, int]] = []  # (free tokens, group), sorted
    for row in sorted(range(len(sizes)), key=lambda row: -sizes[row]):
        fit = bisect_left(spaces, (sizes[row] + gap, -1))
        if fit < len(spaces):
            free, group = spaces.pop(fit)
            free -= gap + sizes[row]
        else:
            free, group = room - sizes[row], len(groups)
            groups.append([])
        groups[group].append(row)
        insort(spaces, (free, group))
    return sorted(sorted(group) for group in groups)


def _split_caption(prompt: Prompt, encoding: Encoding, max_tokens: int) -> Iterator[list[_Part]]:
    """Ways to cut a caption into consecutive parts, the best first."""
    text = prompt.text
    hulls = [(min(spans)[0], max(spans)[1]) for spans in prompt.phrases]
    cuts, ranks = _cuts(text, encoding, hulls)
    token_starts = [a for a, _ in encoding.offsets[1:-1]]
    phrase_starts = sorted(a for a, _ in hulls)
    tokens = [bisect_left(token_starts, cut) for cut in cuts]  # before each cut
    begun = [0] + [bisect_left(phrase_starts, cut) for cut in cuts[1:]]
    for room in range(max_tokens - 2, 0, -1):
        segments = _segment(tokens, begun, ranks, room)
        if segments is None:
            break
        parts = []
        for first, last in segments:
            start, end = cuts[first], cuts[last]
            rows = [
                row for row, (a, _) in enumerate(hulls) if a < end and (first == 0 or a >= start)
            ]
            # A span may begin on blanks before the first token.
            phrases = [[(max(a - start, 0), b - start) for a, b in prompt.phrases[r]] for r in rows]
            parts.append(_Part(text[start:end].rstrip(), rows, phrases))
        yield parts
    sizes = _sizes(encoding, hulls)
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[longest] > max_tokens - 2:
        raise _too_long(prompt, longest, sizes[longest], max_tokens)
    raise PromptError(
        f"phrases of {_shown(text)} overlap in a run of more than the {max_tokens} tokens that the "
        "text encoder takes; shorten them or make a prompt of each"
    )


def _cuts(text: str, encoding: Encoding, hulls: Sequence[Span]) -> tuple[list[int], list[int]]:
    """Where a caption may be cut: before tokens that begin a word, outside every phrase.

    Returns:
        Positions in the text, its two ends included, and how much we dislike each.
    """
    inside = [0] * (len(text) + 1)  # +1 where a phrase can no longer be cut off, -1 after it
    for a, b in hulls:
        inside[a + 1] += 1
        inside[b] -= 1
    depth = list(accumulate(inside))
    starts = sorted({a for a, _ in encoding.offsets[1:-1]})
    cuts, ranks = [starts[0]], [0]
    for start in starts[1:]:
        in_word = bool(_WORD.match(text[start - 1]) and _WORD.match(text[start]))
        if depth[start] == 0 and not in_word:
            before = text[:start].rstrip()[-1:] if text[start - 1].isspace() else ""
            if not before or not text[start].isalnum():
                rank = _CUT_ELSEWHERE
            elif before in ".!?。！？":
                rank = _CUT_AT_SENTENCE
            else:
                rank = _CUT_AT_CLAUSE if before in ",;:" else _CUT_AT_BLANK
            cuts.append(start)
            ranks.append(rank)
    return [*cuts, len(text)], [*ranks, 0]


def _segment(
    tokens: Sequence[int], begun: Sequence[int], ranks: Sequence[int], room: int
) -> list[tuple[int, int]] | None:
    """The cheapest way from the first cut to the last: fewest passes, most text, nicest cuts.

    Args:
        tokens: tokens before each cut.
        begun: phrases begun before each cut.
        ranks: cost of each cut.
        room: most tokens of a segment.
    Returns:
        Pairs of cuts around every pass, in order; None if some phrase does not fit.
    """
    last = len(tokens) - 1
    cost = [0] + [_PASS * _PASS] * last
    came: list[tuple[int, bool]] = [(0, False)] * (
        last + 1
    )  # from which cut, as a pass or left out
    for i in range(last):
        if begun[i + 1] == begun[i]:
            steps = [(i + 1, _LEFT_OUT * (tokens[i + 1] - tokens[i]), False)]
        else:
            steps = []
        for j in range(i + 1, last + 1):
            if tokens[j] - tokens[i] > room:
                break
            if begun[j] > begun[i]:
                steps.append((j, _PASS + ranks[j], True))
        for j, step, is_pass in steps:
            if cost[i] + step < cost[j]:
                cost[j], came[j] = cost[i] + step, (i, is_pass)
    if cost[last] >= _PASS * _PASS:
        return None
    segments = []
    while last > 0:
        i, is_pass = came[last]
        if is_pass:
            segments.append((i, last))
        last = i
    return segments[::-1]
