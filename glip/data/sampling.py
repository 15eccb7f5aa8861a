"""Which class names join the prompt of a training picture, and in which order.

The prompt of a detection picture holds the classes that are in it and some that are not (GLIP,
arXiv 2112.03857, section 3.1; reference E.4 and E.5). Negatives come from the classes that are
known to be absent, and from nowhere else: a class nobody looked for may well be in the picture.
Knows nothing about boxes or pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal, NamedTuple

from glip.errors import ConfigError, PromptError
from glip.settings import one_of, within
from glip.text.characters import composed, composed_keys
from glip.text.mirror import mirror_name
from glip.text.pack import SEPARATOR
from glip.text.prompt import Prompt, reads_as
from glip.text.tokenizer import Tokenizer

Negatives = Literal["sampled", "all"]

BACKGROUND = "__background__"


@dataclass(frozen=True)
class SamplingConfig:
    """How a training prompt is put together."""

    negatives: Negatives = "sampled"
    """"sampled": anew for each picture, as in pre-training (E.4). "all": every class that is known
    to be absent, as in fine-tuning (E.5); what does not fit the text encoder is left out at
    random."""
    max_negatives: int = 85
    """Most names drawn as negatives. official: not reduced by the number of positives."""
    full_probability: float = 0.5
    """How often `max_negatives` names are drawn; otherwise their number is uniform below it."""
    partial_probability: float = 0.0
    """How often only some of the classes in the picture are asked for, among few that are not:
    uniformly none to all but one, and log-uniformly one to `max_negatives`. The boxes of the rest
    are background. Where each prompt names all that is there, a model learns that a name asked
    for alone is always there."""
    shuffle: bool = True
    """Positives and negatives in random order; off, they keep the order of the classes."""
    background: bool = False
    """official: pre-training may draw the name " background " as a negative."""
    wordings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class name -> other wordings of it; each time the name or one of them is drawn. It should
    hold only true synonyms: a wording that also fits another class makes contradicting labels."""
    decorations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class name -> text before and after it in the prompt, as some ODinW tasks have them."""

    def __post_init__(self) -> None:
        one_of("sampling: negatives", self.negatives, Negatives)
        within("sampling: max_negatives", self.max_negatives, least=1)
        within("sampling: full_probability", self.full_probability, least=0, most=1)
        within("sampling: partial_probability", self.partial_probability, least=0, most=1)
        for name, words in self.wordings.items():
            if not _are_texts(words):  # of a single text, each letter would be a wording
                raise ConfigError(
                    f"sampling: wordings of {name!r} must be a list of texts, such as [one, "
                    f"another], got {words!r}"
                )
        for name, parts in self.decorations.items():
            if not _are_texts(parts) or len(parts) != 2:
                raise ConfigError(
                    f"sampling: decoration of {name!r} must be [before, after], got {parts!r}"
                )
        others = {name: list(map(composed, own)) for name, own in self.wordings.items()}
        object.__setattr__(self, "wordings", composed_keys(others))
        object.__setattr__(self, "decorations", composed_keys(self.decorations))


def _are_texts(values: object) -> bool:
    """Whether something is a list of texts."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        return False
    return all(isinstance(value, str) for value in values)


class SampledPrompt(NamedTuple):
    """A prompt and where each class of the picture stands in it."""

    prompt: Prompt
    rows: dict[int, int]
    """Class row -> phrase row. A class that did not fit is not there, and its boxes must go."""


class PromptSampler:
    """Draws prompts for the pictures of one detection data set.

    Args:
        names: Its classes; class rows count them.
        tokenizer: Of the text encoder.
        config: See there.
        max_tokens: What the text encoder takes, [CLS] and [SEP] included.
    Raises:
        PromptError: A class name makes no prompt, or is longer than the text encoder takes.
    """

    def __init__(
        self,
        names: Sequence[str],
        tokenizer: Tokenizer,
        config: SamplingConfig,
        *,
        max_tokens: int = 256,
    ) -> None:
        self.names = tuple(names)
        self.config = config
        self._tokenizer = tokenizer
        self._known = frozenset(names)
        self._room = max_tokens - 2
        self._costs: dict[str, int] = {}
        for name in names:
            class_prompt([name], config.decorations)
            for wording in (name, *config.wordings.get(name, ())):
                if self._cost(wording) > self._room:
                    raise PromptError(
                        f"class {wording!r} needs {self._cost(wording)} tokens, the text encoder "
                        f"has room for {self._room}; shorten it"
                    )
        self._readings = {mirrored: self._all_readings(mirrored) for mirrored in (False, True)}
        # A class of that name is drawn as all others are.
        named = frozenset[str]().union(*self._readings[False])
        self._background = config.background and reads_as(BACKGROUND) not in named

    def __call__(
        self,
        positives: Iterable[int],
        absent: Iterable[int],
        rng: Random,
        *,
        doubtful: Iterable[int] = (),
        mirrored: bool = False,
    ) -> SampledPrompt | None:
        """A prompt with the classes of a picture and some of those that are not in it.

        Args:
            positives: Class rows with a box.
            absent: Class rows known not to be there.
            rng: Decides everything that is left to chance.
            doubtful: Class rows of which there may be something without a box.
            mirrored: Whether the picture was flipped, so that "left" in a name is now "right".
        Returns:
            None if there is neither a positive nor a negative class to ask for.
        """
        config = self.config
        present = list(dict.fromkeys(positives))
        rng.shuffle(present)
        # Two classes may be one and the same wording; a prompt that named it as positive and as
        # negative would contradict itself, also where the positive does not fit.
        absent = self.surely_absent(absent, [*present, *doubtful], mirrored=mirrored)
        prompt = partial(self._prompt, rng=rng, mirrored=mirrored)
        may_be_partial = config.partial_probability and present and absent
        if may_be_partial and rng.random() < config.partial_probability:
            asked = present[: rng.randrange(len(present))]
            if (part := prompt(asked, self._few(absent, rng))) is not None:
                return part
        return prompt(present, self._negatives(present, absent, rng))

    def surely_absent(
        self, absent: Iterable[int], doubtful: Iterable[int], *, mirrored: bool = False
    ) -> list[int]:
        """Class rows without those that share a wording with one that may be there.

        Args:
            absent: Class rows without a box.
            doubtful: Class rows of which there may be something, with a box or without.
            mirrored: As for the call.
        """
        readings = self._readings[mirrored]
        there = frozenset[str]().union(*(readings[row] for row in doubtful))
        return [row for row in absent if there.isdisjoint(readings[row])]

    def _prompt(
        self,
        asked: list[int],
        negatives: list[int],
        *,
        rng: Random,
        mirrored: bool,
    ) -> SampledPrompt | None:
        """The prompt with these class rows, as far as there is room; -1 is the background.

        Args:
            asked: Class rows with a box.
            negatives: Class rows surely not there.
            rng: As for the call.
            mirrored: As for the call.
        """
        config, room = self.config, self._room
        chosen: dict[str, tuple[int, str]] = {}  # key -> first class, wording
        phrase_of: dict[int, str] = {}
        for row in asked:
            wording = rng.choice(self._wordings(row, mirrored))
            key = reads_as(wording)
            if key not in chosen:
                if (cost := self._cost(wording)) > room:
                    continue
                room -= cost
                chosen[key] = row, wording
            phrase_of[row] = key
        for row in negatives:
            wording = BACKGROUND if row < 0 else rng.choice(self._wordings(row, mirrored))
            key, cost = reads_as(wording), self._cost(wording)
            if key in chosen:
                continue
            if cost > room:
                break
            room -= cost
            chosen[key] = row, wording
        if not chosen:
            return None
        keys = list(chosen)
        if config.shuffle:
            rng.shuffle(keys)
        else:
            keys.sort(key=lambda key: chosen[key][0])
        prompt = class_prompt([chosen[key][1] for key in keys], config.decorations)
        place = {key: row for row, key in enumerate(keys)}
        return SampledPrompt(prompt, {row: place[key] for row, key in phrase_of.items()})

    def _few(self, absent: list[int], rng: Random) -> list[int]:
        """Class rows to add where only some are asked for, in random order."""
        wanted = round(self.config.max_negatives ** rng.random())
        return rng.sample(absent, min(wanted, len(absent)))

    def _negatives(self, present: list[int], absent: list[int], rng: Random) -> list[int]:
        """Class rows to add, in random order; -1 stands for the background."""
        config = self.config
        if config.negatives == "all":
            rng.shuffle(absent)
            return absent
        # official: drawn from all classes, and those that turn out to be positive are discarded.
        pool = [*absent, *present, *([-1] if self._background else [])]
        wanted = config.max_negatives
        if rng.random() >= config.full_probability:
            wanted = rng.randint(1, wanted)
        drawn = rng.sample(pool, min(wanted, len(pool)))
        positive = set(present)
        return [row for row in drawn if row not in positive]

    def _wordings(self, row: int, mirrored: bool) -> list[str]:
        """A class's name and its synonyms, for the picture as it is now."""
        name = self.names[row]
        wordings = [name, *self.config.wordings.get(name, ())]
        return [mirror_name(w, self._known) for w in wordings] if mirrored else wordings

    def _all_readings(self, mirrored: bool) -> list[frozenset[str]]:
        """What the text encoder may read of each class."""
        rows = range(len(self.names))
        return [frozenset(map(reads_as, self._wordings(row, mirrored))) for row in rows]

    def _cost(self, wording: str) -> int:
        """Tokens of a name in a prompt, with what separates it from the next."""
        if wording not in self._costs:
            piece = class_prompt([wording], self.config.decorations).text + SEPARATOR
            self._costs[wording] = len(self._tokenizer.encode(piece)) - 2
        return self._costs[wording]


def class_prompt(
    names: Sequence[str], decorations: Mapping[str, Sequence[str]] | None = None
) -> Prompt:
    """The official prompt of class names, some with a text before and after them.

    Args:
        names: As the data set writes them; they are cleaned (reference E.1).
        decorations: Name -> (before, after); blanks count. Only the name is the phrase.
    Raises:
        PromptError: No name, or one without visible characters.
    """
    plain = Prompt.from_classes(names)
    if not decorations or not any(name in decorations for name in names):
        return plain
    text = ""
    phrases: list[tuple[tuple[int, int]]] = []
    for name, (span,) in zip(names, plain.phrases, strict=True):
        before, after = decorations.get(name, ("", ""))
        text += (SEPARATOR if phrases else "") + before
        word = plain.text[slice(*span)]
        phrases.append(((len(text), len(text) + len(word)),))
        text += word + after
    return Prompt(text, tuple(phrases), tuple(names))
