"""A prompt longer than the text encoder in pieces that fit: as few as possible, no phrase cut.

Class lists are packed like bins, by best fit; captions are cut where it hurts least, by the
cheapest way through all places where they may be cut. Knows nothing about prompts, only texts,
spans and numbers of tokens.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from glip.errors import PromptError
from glip.text.characters import WORD, shown
from glip.text.tokenizer import Encoding, Span, Tokenizer

SEPARATOR = ". "
"""Between two class names, as in every released configuration."""

_PASS = 10**9  # of a caption: the cost of one more pass, above any sum of the two below
_LEFT_OUT = 10  # of a token that no pass reads
_CUT_AT_SENTENCE, _CUT_AT_CLAUSE, _CUT_AT_BLANK, _CUT_ELSEWHERE = 0, 1, 2, 4


class Part(NamedTuple):
    """A text to encode, the rows of the phrases in it and where they stand in it."""

    text: str
    rows: Sequence[int]
    phrases: Sequence[Sequence[Span]]


def join(pieces: Sequence[str], separator: str) -> tuple[str, tuple[tuple[Span, ...], ...]]:
    """The pieces with separators between them, and the span of each."""
    phrases: list[tuple[Span, ...]] = []
    start = 0
    for piece in pieces:
        phrases.append(((start, start + len(piece)),))
        start += len(piece) + len(separator)
    return separator.join(pieces), tuple(phrases)


def _too_long(row: int, words: str, tokens: int, max_tokens: int) -> PromptError:
    return PromptError(
        f"phrase {row} ({shown(words)}) needs {tokens} tokens besides [CLS] and "
        f"[SEP], the text encoder takes {max_tokens} with them; shorten it"
    )


def _sizes(encoding: Encoding, spans: Sequence[Span]) -> list[int]:
    """Number of tokens that touch each span."""
    starts = [a for a, _ in encoding.offsets[1:-1]]
    ends = [b for _, b in encoding.offsets[1:-1]]
    return [bisect_left(starts, b) - bisect_right(ends, a) for a, b in spans]


def split_names(
    pieces: Sequence[str], tokenizer: Tokenizer, max_tokens: int, max_classes: int | None
) -> Iterator[list[Part]]:
    """Ways to pack a class list, the best first, each part the official prompt of its names.

    Args:
        pieces: The names as they are written.
        tokenizer: Counts their tokens.
        max_tokens: Of a part, [CLS] and [SEP] included.
        max_classes: Of a part, or None for as many as fit.
    Raises:
        PromptError: A name alone is too long.
    """
    text, phrases = join(pieces, SEPARATOR)
    sizes = _sizes(tokenizer.encode(text), [spans[0] for spans in phrases])
    gap = len(tokenizer.encode(SEPARATOR)) - 2
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    for room in range(max_tokens - 2, sizes[longest] - 1, -1):
        parts = []
        for rows in _group(sizes, gap, room, max_classes):
            text, phrases = join([pieces[row] for row in rows], SEPARATOR)
            parts.append(Part(text, rows, phrases))
        yield parts
    raise _too_long(longest, pieces[longest], sizes[longest], max_tokens)


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


def split_caption(
    text: str, all_phrases: Sequence[Sequence[Span]], encoding: Encoding, max_tokens: int
) -> Iterator[list[Part]]:
    """Ways to cut a caption into consecutive parts, the best first.

    Args:
        text: The caption.
        all_phrases: Of each phrase its spans.
        encoding: Of the whole caption.
        max_tokens: Of a part, [CLS] and [SEP] included.
    Raises:
        PromptError: A phrase, or a run of overlapping ones, is too long.
    """
    hulls = [(min(spans)[0], max(spans)[1]) for spans in all_phrases]
    cuts, ranks = _cuts(text, encoding, hulls)
    token_starts = [a for a, _ in encoding.offsets[1:-1]]
    phrase_starts = sorted(a for a, _ in hulls)
    tokens = [bisect_left(token_starts, cut) for cut in cuts]  # before each cut
    begun = [0] + [bisect_left(phrase_starts, cut) for cut in cuts[1:]]
    for room in range(max_tokens - 2, 0, -1):
        segments = _segment(tokens, begun, ranks, room)
        if segments is None:
            break
        places = [(cuts[first], cuts[last]) for first, last in segments]
        yield [_part(text, all_phrases, hulls, place) for place in places]
    sizes = _sizes(encoding, hulls)
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[longest] > max_tokens - 2:
        start, end = hulls[longest]
        raise _too_long(longest, text[start:end], sizes[longest], max_tokens)
    raise PromptError(
        f"phrases of {shown(text)} overlap in a run of more than the {max_tokens} tokens that the "
        "text encoder takes; shorten them or make a prompt of each"
    )


def _part(
    text: str, all_phrases: Sequence[Sequence[Span]], hulls: Sequence[Span], place: Span
) -> Part:
    """The characters of a place, and the phrases that begin there."""
    start, end = place
    rows = [row for row, (a, _) in enumerate(hulls) if a < end and (start == 0 or a >= start)]
    # A span may begin on blanks before the first token.
    phrases = [[(max(a - start, 0), b - start) for a, b in all_phrases[r]] for r in rows]
    return Part(text[start:end].rstrip(), rows, phrases)


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
        in_word = bool(WORD.match(text[start - 1]) and WORD.match(text[start]))
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
