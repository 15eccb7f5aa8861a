"""Captions of other pictures beside the true one, as negatives (reference J.4).

A caption alone says what is there and nothing of what is not. Packed among captions of other
pictures, its phrases have to be told from theirs. Knows nothing about boxes or pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from glip.settings import within
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PackingConfig:
    """How many captions join the true one."""

    captions: int = 0
    """Most of them; 0 packs none. official: 20 for captions of the web."""
    none_probability: float = 0.4
    """How often the caption stays alone."""
    full_probability: float = 0.5
    """How often, of the other times, as many join as may; otherwise their number is uniform below
    that."""

    def __post_init__(self) -> None:
        within("packing: captions", self.captions, least=0)
        for name in ("none_probability", "full_probability"):
            within(f"packing: {name}", getattr(self, name), least=0, most=1)


class CaptionPacker:
    """Puts captions among others.

    Args:
        tokenizer: Of the text encoder.
        config: How many.
        max_tokens: What the text encoder takes, [CLS] and [SEP] included.
    """

    def __init__(
        self, tokenizer: Tokenizer, config: PackingConfig, *, max_tokens: int = 256
    ) -> None:
        self.config = config
        self._tokenizer = tokenizer
        self._room = max_tokens - 2

    def __call__(self, true: Prompt, another: Callable[[], str | None], rng: Random) -> Prompt:
        """A caption among others, all in random order; its phrases are those of the result.

        Args:
            true: The caption of the picture.
            another: Draws the caption of another picture, or None; the true one is left out if it
                comes.
            rng: Decides.
        Returns:
            `true` itself if nothing joins it, for want of room or by chance.
        """
        config = self.config
        if not config.captions or rng.random() < config.none_probability:
            return true
        wanted = config.captions
        if rng.random() >= config.full_probability:
            wanted = rng.randrange(wanted)
        own = _ended(true.text)
        room = self._room - self._tokens(own)
        others: dict[str, None] = {}
        for _ in range(wanted):
            drawn = another()
            other = None if drawn is None else _ended(drawn.strip())
            if other is None or other == own.strip() or other in others:
                continue
            room -= self._tokens(other)
            if room < 0:
                break
            others[other] = None
        if not others:
            return true
        pieces = list(others)
        rng.shuffle(pieces)
        place = rng.randint(0, len(pieces))
        start = sum(len(piece) + 1 for piece in pieces[:place])
        pieces.insert(place, own)
        phrases = [[(a + start, b + start) for a, b in spans] for spans in true.phrases]
        return Prompt(" ".join(pieces), tuple(map(tuple, phrases)), true.names)

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text)) - 2


def _ended(caption: str) -> str:
    """A caption with a period behind it."""
    return caption if caption.rstrip().endswith(".") else f"{caption}."
