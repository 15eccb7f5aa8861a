"""What classes are called: templates, several wordings of a class, descriptions, negative phrases.

The paper finds that a few words of description help a frozen model ("stingray, which is flat and
round"; section 5.2). A wording becomes a table of words (`TaskPrompt`), the same thing that prompt
tuning learns, so that a good one is a small file as well. Two ways to put several wordings of a
class together:

* "scores": all in one sentence, a class's score is the mean over the tokens of all its wordings;
* "features": each in a text of its own, the class is one row, the mean of its tokens' states, as
  CLIP does with templates (arXiv 2103.00020) and the knowledge-augmented GLIP with descriptions
  (reference G.6).

Knows nothing about pictures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from glip.choices import Ensemble
from glip.detector import Detector
from glip.errors import ConfigError, PromptError
from glip.model.text_encoder import Tokens
from glip.settings import from_dict, one_of, read_yaml
from glip.task_prompt import TaskPrompt
from glip.text.characters import composed_keys
from glip.text.pack import SEPARATOR
from glip.text.prompt import Prompt, clean_name, reads_as
from glip.training.words import as_table

PLAIN = "{}"


@dataclass(frozen=True)
class Wordings:
    """What a user offers for a set of classes, as a YAML file holds it."""

    templates: tuple[str, ...] = ()
    """Such as "a photo of a {}"."""
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class name -> other wordings. Square brackets mark the words that name the thing, the rest
    describes it: "[raccoon], grey with a black mask"."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Class name -> what it looks like; said as "name, what it looks like"."""
    knowledge: Mapping[str, str] = field(default_factory=dict)
    """Class name -> what it is, in a few words; said as "name: what it is"."""
    negatives: tuple[str, ...] = ()
    """What is easily taken for a class and is none."""

    def __post_init__(self) -> None:
        for template in self.templates:
            if template.count(PLAIN) != 1:
                raise ConfigError(f"template {template!r} must hold {PLAIN} once, for the name")
        for key in ("classes", "attributes", "knowledge"):
            for name in getattr(self, key):
                if not isinstance(name, str):
                    raise ConfigError(f"{key}: the name {name!r} is no text; put quotes around it")
        for name, texts in self.classes.items():
            if isinstance(texts, str) or not isinstance(texts, Sequence):
                raise ConfigError(
                    f"classes.{name} must be a list of wordings, such as [one, another], got "
                    f"{texts!r}"
                )
            for text in texts:
                _check_text(f"classes.{name}", text)
                marked(text)
        for key in ("attributes", "knowledge"):
            for name, text in getattr(self, key).items():
                _check_text(f"{key}.{name}", text)
        for negative in self.negatives:
            _check_text("negatives", negative)
        for key in ("classes", "attributes", "knowledge"):
            object.__setattr__(self, key, composed_keys(getattr(self, key)))

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that something is said of."""
        return tuple(dict.fromkeys([*self.classes, *self.attributes, *self.knowledge]))

    def of(self, name: str) -> tuple[str, ...]:
        """All wordings of a class, its own name first."""
        others = [*self.classes.get(name, ())]
        if name in self.attributes:
            others.append(f"[{clean_name(name)}], {self.attributes[name]}")
        if name in self.knowledge:
            others.append(f"[{clean_name(name)}]: {self.knowledge[name]}")
        return tuple(dict.fromkeys([name, *others]))

    def check(self, names: Sequence[str]) -> None:
        """Refuse wordings of classes that are not there.

        Raises:
            ConfigError: One of them.
        """
        known = {reads_as(name): name for name in names}
        for owner in self.names:
            if owner not in names:
                near = known.get(reads_as(owner))
                hint = f"; did you mean {near!r}?" if near else f" ({', '.join(names[:10])})"
                raise ConfigError(f"wordings of {owner!r}, which is no class of the data{hint}")
        for negative in self.negatives:
            if reads_as(negative) in known:
                raise ConfigError(f"{negative!r} is a class and a negative; leave one of them out")


def read_wordings(path: str | os.PathLike[str]) -> Wordings:
    """Read a YAML file of wordings.

    Raises:
        ConfigError: It cannot be read, or has a key that is not known.
    """
    content = read_yaml(path)
    if isinstance(content, dict):  # a key with nothing behind it is as good as none
        content = {key: value for key, value in content.items() if value is not None}
    try:
        return from_dict(Wordings, content or {}, where=os.fspath(path))
    except ConfigError as error:
        if str(error).startswith(os.fspath(path)):
            raise
        raise ConfigError(f"{path}: {error}") from error


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str):
        raise ConfigError(f"{where}: {text!r} is no text; put quotes around it")
    if not text.strip():
        raise ConfigError(f"{where}: {text!r} has no words")


@dataclass(frozen=True)
class Said:
    """One choice of words for all classes."""

    texts: Mapping[str, tuple[str, ...]]
    """Class name -> its wordings, one or more."""
    template: str = PLAIN
    negatives: tuple[str, ...] = ()
    ensemble: Ensemble = "scores"

    def __post_init__(self) -> None:
        one_of("ensemble", self.ensemble, Ensemble)
        if not self.texts or not all(self.texts.values()):
            raise PromptError("each class needs a wording")

    def groups(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each class with its wordings, then each negative with itself."""
        return [*self.texts.items(), *((negative, (negative,)) for negative in self.negatives)]


class _Piece(NamedTuple):
    """A wording as it stands in a text, and which of its characters name the thing."""

    text: str
    start: int
    end: int


def marked(wording: str) -> tuple[str, int, int]:
    """A wording without its brackets, and the [start, end) of what they enclosed; or all of it.

    Raises:
        ConfigError: Brackets that do not pair, or with nothing between them.
    """
    opened, closed = wording.count("["), wording.count("]")
    if opened == closed == 0:
        text = clean_name(wording).strip()
        if not text:
            raise ConfigError(f"the wording {wording!r} has no words")
        return text, 0, len(text)
    start, end = wording.find("["), wording.find("]") - 1
    if opened != 1 or closed != 1 or end <= start or not wording[start + 1 : end + 1].strip():
        raise ConfigError(
            f"the wording {wording!r} must have its name between one pair of brackets: "
            "'[raccoon], grey with a black mask'"
        )
    return wording.replace("[", "").replace("]", ""), start, end


def worded(detector: Detector, said: Said) -> TaskPrompt:
    """A choice of words as a table for a model.

    Raises:
        PromptError: It does not fit the text encoder.
    """
    if said.ensemble == "features":
        return _one_row_each(detector, said)
    try:
        return _one_sentence(detector, said)
    except PromptError as error:
        raise PromptError(
            f"{error}, or average features instead of scores, where each wording is a text of its "
            "own (--ensemble features)"
        ) from error


def in_templates(wordings: Wordings, name: str) -> tuple[str, ...]:
    """Every wording of a class in every template, each a wording itself.

    Without templates, the wordings.
    """
    if not wordings.templates:
        return wordings.of(name)
    said = []
    for wording in wordings.of(name):
        if wording == name:
            wording = f"[{_spoken(name)}]"
        elif "[" not in wording:
            wording = f"[{marked(wording)[0]}]"
        said += [template.replace(PLAIN, wording) for template in wordings.templates]
    return tuple(dict.fromkeys(said))


def _spoken(name: str) -> str:
    """The name of a class in a text; one that is all brackets stays as it is."""
    return clean_name(name).strip() or name


def _piece(wording: str, template: str, name: str) -> _Piece:
    """A wording of a class in a template; its own name has no marks, whatever is in it."""
    if wording == name:
        text = _spoken(name)
        start, end = 0, len(text)
    else:
        text, start, end = marked(wording)
    before, after = template.split(PLAIN)
    return _Piece(before + text + after, start + len(before), end + len(before))


def _one_sentence(detector: Detector, said: Said) -> TaskPrompt:
    """All wordings in a row, as the official prompt has its names."""
    text = ""
    phrases: list[list[tuple[int, int]]] = []
    for name, wordings in said.groups():
        spans = []
        for piece in (_piece(wording, said.template, name) for wording in wordings):
            text += SEPARATOR if text else ""
            spans.append((len(text) + piece.start, len(text) + piece.end))
            text += piece.text
        phrases.append(spans)
    prompt = Prompt(
        text, tuple(map(tuple, phrases)), (*said.texts, *said.negatives)
    )  # negatives stand behind the classes
    table = as_table(detector, prompt)
    classes = len(said.texts)
    return TaskPrompt(
        Prompt(text, prompt.phrases[:classes], tuple(said.texts)),
        table.token_ids,
        table.token_map[:classes],
        table.states,
        table.offsets,
        table.base,
        table.fingerprint,
        negatives=table.token_map[classes:],
        notes=_notes(said),
    )


@torch.no_grad()
def _one_row_each(detector: Detector, said: Said) -> TaskPrompt:
    """Each wording read alone; a class is the mean of its wordings, each the mean of its tokens."""
    rows = []
    for name, wordings in said.groups():
        states = []
        for piece in (_piece(wording, said.template, name) for wording in wordings):
            prompt = Prompt(piece.text, (((piece.start, piece.end),),))
            passes = prompt.passes(detector.tokenizer, detector.config.text.max_tokens)
            tokens = Tokens.pad([passes[0].token_ids], detector.tokenizer.pad_id)
            words = detector.model.encode_text(tokens.to(detector.device)).states[0].float().cpu()
            states.append(words[torch.from_numpy(passes[0].token_map[0])].mean(0))
        rows.append(torch.stack(states).mean(0))
    table = torch.stack(rows).numpy()  # (P + M, D)
    own = np.eye(len(rows), dtype=np.bool_)
    classes = len(said.texts)
    names = tuple(said.texts)
    return TaskPrompt(
        Prompt.from_classes(names),
        tuple(range(len(rows))),  # rows are classes; there is no text to have tokens
        own[:classes],
        table,
        np.zeros_like(table),
        detector.config.name,
        detector.fingerprint,
        negatives=own[classes:],
        notes=_notes(said),
    )


def _notes(said: Said) -> dict[str, object]:
    return {
        "wordings": {name: list(texts) for name, texts in said.texts.items()},
        "template": said.template,
        "negatives": list(said.negatives),
        "ensemble": said.ensemble,
    }
