"""A question: what is looked for, in several wordings each, and what is not meant by it.

The model reads one prompt of all wordings and negatives; answers belong to the names of another one
that only the user sees. Knows nothing about boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from glip.errors import PromptError
from glip.text.pack import SEPARATOR
from glip.text.prompt import Prompt, clean_name, reads_as

SLOT = "{}"
"""Where a template has the name."""


@dataclass(frozen=True)
class Question:
    """Two prompts, and which phrases of the second are answers to which of the first."""

    prompt: Prompt
    """What results speak of."""
    asked: Prompt
    """What the model reads: all wordings, then the negatives."""
    labels: tuple[int, ...]
    """Of each phrase of `asked` its row in `prompt`; of a negative the number of rows there."""


def question(
    prompt: Prompt,
    *,
    negatives: Sequence[str] = (),
    wordings: Mapping[str, Sequence[str]] | None = None,
    template: str | None = None,
) -> Question:
    """A prompt with what else is to be asked.

    Args:
        prompt: What is looked for.
        negatives: What is looked for and not reported: what answers one of them better is no answer
            to the prompt.
        wordings: For names of the prompt other words for the same, asked beside the name.
        template: Such as "a photo of a {}", written around each name and wording; only for prompts
            that are class names.
    Raises:
        PromptError: A name that the prompt does not have, no "{}" in the template, something that
            is no list of strings, or a negative that is looked for.
    """
    _check_strings("not_", negatives)
    wanted = {reads_as(name) for name in prompt.names}
    if both := [words for words in negatives if reads_as(words) in wanted]:
        raise PromptError(f"not_ holds {both[0]!r}, which is looked for; leave it out of one")
    others = _by_row(prompt, wordings or {})
    if template is not None and (template.count(SLOT) != 1 or not prompt.is_list):
        raise PromptError(
            f"template {template!r} needs a single {SLOT} for the name, and class names to fill it"
        )
    if template is None:
        more_to_come = negatives or any(others.values())
        pieces = [prompt.text.rstrip(" .") if more_to_come else prompt.text]
        spans = list(prompt.phrases)
        labels = list(range(len(prompt)))
    else:
        pieces, spans, labels = [], [], []
        others = {
            row: [prompt.text[spans[0][0] : spans[0][1]], *others.get(row, ())]
            for row, spans in enumerate(prompt.phrases)
        }
    more = [(row, words) for row in sorted(others) for words in others[row]]
    more += [(len(prompt), words) for words in negatives]
    start = sum(map(len, pieces)) + len(SEPARATOR) * len(pieces)
    for row, words in more:
        before, _, after = (template or SLOT).partition(SLOT)
        name = clean_name(words).strip() or words
        spans.append(((start + len(before), start + len(before) + len(name)),))
        pieces.append(before + name + after)
        labels.append(row)
        start += len(pieces[-1]) + len(SEPARATOR)
    text = SEPARATOR.join(pieces)
    names = tuple(_names(prompt, spans, text, template is None))
    return Question(prompt, Prompt(text, tuple(spans), names), tuple(labels))


def _by_row(prompt: Prompt, wordings: Mapping[str, Sequence[str]]) -> dict[int, Sequence[str]]:
    """Other words for a name, by its row in the prompt."""
    if not isinstance(wordings, Mapping) or not all(isinstance(name, str) for name in wordings):
        raise PromptError(f"wordings must be like {{'sofa': ['couch']}}, got {wordings!r}")
    known = {reads_as(name): row for row, name in enumerate(prompt.names)}
    for name, words in wordings.items():
        _check_strings(f"wordings of {name!r}", words)
        if reads_as(name) not in known:
            raise PromptError(f"wordings of {name!r}, but names are {', '.join(prompt.names)}")
    return {known[reads_as(name)]: words for name, words in wordings.items()}


def _names(
    prompt: Prompt, spans: Sequence[Sequence[tuple[int, int]]], text: str, keep: bool
) -> Iterator[str]:
    """The names of the prompt's own phrases, and of others their words."""
    own = prompt.names if keep else ()
    yield from own
    for phrase in spans[len(own) :]:
        yield " ".join(text[a:b] for a, b in phrase)


def _check_strings(name: str, values: Sequence[str]) -> None:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise PromptError(f"{name} must be a list of strings, got {values!r}")
    blank = [value for value in values if not value.strip()]
    if blank:
        raise PromptError(f"{name} holds an empty string; remove it")
