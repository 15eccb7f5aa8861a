"""Prompts as passes that a text encoder can take, remembered: what every engine needs of words.

Knows nothing about models; of a learned prompt it asks for the pass that answers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from glip.errors import shown
from glip.task_prompt import TaskPrompt
from glip.text.prompt import Prompt, PromptPass
from glip.text.tokenizer import Tokenizer

CACHED_TEXTS = 256
"""Of at most 256 tokens each: their states take below 200 MB for BERT-base."""
Key = TypeVar("Key")
Value = TypeVar("Value")
logger = logging.getLogger(__name__)


class Passes:
    """The passes of prompts; any number of threads may ask.

    Args:
        tokenizer: Of the text encoder.
        max_tokens: What it takes, [CLS] and [SEP] included.
        task: The learned prompt that answers in its place, if there is one.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, task: TaskPrompt | None) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._task = task
        self._known: dict[Prompt, tuple[PromptPass, ...]] = {}

    def check(self, prompt: Prompt) -> None:
        """Raises PromptError if a phrase is too long, or not one of the learned prompt."""
        if self._task is not None:
            self._task.answer(prompt)
        else:
            prompt.passes(self._tokenizer, self._max_tokens)

    def of(self, prompt: Prompt) -> tuple[PromptPass, ...]:
        """The prompt in pieces that fit the text encoder; phrases that it cannot read are in none.

        Raises:
            PromptError: A phrase is longer than the encoder, or not one of the learned prompt.
        """
        known = self._known.get(prompt)
        if known is not None:
            return known
        if self._task is not None:
            return keep(self._known, prompt, (self._task.answer(prompt),))
        passes = prompt.passes(self._tokenizer, self._max_tokens)
        if any(self._tokenizer.unknown_id in part.token_ids for part in passes):
            passes = tuple(self._readable(prompt, passes))
        return keep(self._known, prompt, passes)

    def _readable(self, prompt: Prompt, passes: Sequence[PromptPass]) -> Iterator[PromptPass]:
        """The passes without phrases that the text encoder cannot read, of which a warning tells.

        All words that it does not know are one token, so what is found for them has nothing to do
        with them: such a phrase finds nothing.
        """
        strange: list[str] = []
        for part in passes:
            known = np.array(part.token_ids) != self._tokenizer.unknown_id
            readable = (part.token_map & known).any(-1)
            kept, lost = np.flatnonzero(readable), np.flatnonzero(~readable)
            strange += [prompt.names[part.rows[row]] for row in lost]
            if len(kept):
                rows = tuple(part.rows[row] for row in kept)
                yield replace(part, token_map=part.token_map[kept], rows=rows)
        if strange:
            logger.warning(
                "the text encoder cannot read %s and finds nothing for that; use words of the "
                "language it was trained on",
                ", ".join(map(shown, strange[:5])),
            )


def keep(cache: MutableMapping[Key, Value], key: Key, value: Value) -> Value:
    """Remember a value, and forget the oldest ones beyond `CACHED_TEXTS`; any thread may."""
    cache[key] = value
    while len(cache) > CACHED_TEXTS:
        with contextlib.suppress(StopIteration, RuntimeError):  # others forget at the same time
            cache.pop(next(iter(cache)), None)
    return value
