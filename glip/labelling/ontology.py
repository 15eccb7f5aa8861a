"""What to look for and what to call it: classes, their wordings, and what they are mistaken for.

An ontology is a YAML file, or simply a list of names. It knows the prompt that a detector is asked,
and how the answer becomes labels; it knows nothing about pictures or files of labels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from torchvision.ops import box_iou

from glip.boxes import nms_per_label, to_last_pixels
from glip.data.labels import Label
from glip.errors import ConfigError
from glip.files import read_text
from glip.settings import MOST_LETTERS, PlainLoader, nearest, within
from glip.structures import Detections
from glip.text.characters import composed

THRESHOLD = 0.3
NUMBERS = ("threshold", "min_side_px", "max_side_px", "min_area_share", "max_area_share")
WORDS = ("nms_group", "parent")
LISTS = ("phrases", "not")
AMBIGUOUS = 0.5
"""A box goes where something it is not was found with a higher score and an IoU above this."""


@dataclass(frozen=True)
class Class:
    """One class of an ontology."""

    name: str
    """What the labels are called."""
    phrases: tuple[str, ...]
    """Wordings to look for; what any of them finds is of this class."""
    negatives: tuple[str, ...] = ()
    """Wordings of what is mistaken for it, such as "mannequin" for a person: where one of these is
    found with a higher score, there is no box of the class."""
    threshold: float = THRESHOLD
    """Labels score above this, in [0, 1]."""
    min_side_px: float = 0.0
    """The shorter side of a box has at least this many pixels."""
    max_side_px: float | None = None
    """The longer side of a box has at most this many pixels."""
    min_area_share: float = 0.0
    """A box covers at least this share of the picture, in [0, 1]."""
    max_area_share: float = 1.0
    """A box covers at most this share of the picture, in [0, 1]."""
    nms_group: str | None = None
    """Of overlapping boxes of one group only the best stays; by default a class is its own group.
    """
    parent: str | None = None
    """What it is a kind of; written as the supercategory where a format has one."""

    def __post_init__(self) -> None:
        if isinstance(self.name, str):  # or `Ontology` says what it is
            object.__setattr__(self, "name", composed(self.name))


@dataclass(frozen=True)
class Ontology:
    """Classes, checked as a whole.

    Raises:
        ConfigError: no class, two of one name, a wording that belongs to two classes or is its own
            negative, a number out of range. A file's errors name the line.
    """

    classes: tuple[Class, ...]

    def __post_init__(self) -> None:
        _check(self.classes, _nowhere)

    @classmethod
    def of_names(cls, names: Sequence[str], *, threshold: float = THRESHOLD) -> Ontology:
        """Classes that are looked for by their own names."""
        return cls(tuple(Class(name, (name,), threshold=threshold) for name in names))

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, threshold: float = THRESHOLD) -> Ontology:
        """Read a YAML file.

        ```yaml
        defaults:                 # for classes that say nothing else
          threshold: 0.35
        classes:
          raccoon:                # looked for by its name
          person:
            phrases: [person, pedestrian]
            not: [mannequin, statue]
            threshold: 0.4
            min_side_px: 12
            max_area_share: 0.9
            nms_group: living
            parent: mammal
          bin: [trash can, dustbin]    # short for phrases
        ```

        Args:
            path: of the file.
            threshold: where neither a class nor `defaults` says one.
        Raises:
            ConfigError: the file cannot be read or says something unknown, twice or out of range;
                the message names the line.
        """
        return _Reader(Path(path), threshold).read()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, in order."""
        return tuple(c.name for c in self.classes)

    @property
    def phrases(self) -> tuple[str, ...]:
        """What the detector is asked for: all wordings, then all negatives, each once."""
        seen: dict[str, str] = {}
        for wordings in ("phrases", "negatives"):
            for c in self.classes:
                for phrase in getattr(c, wordings):
                    seen.setdefault(_same(phrase), phrase)
        return tuple(seen.values())

    @property
    def lowest_threshold(self) -> float:
        """A detection that scores no more than this changes no label."""
        return min(c.threshold for c in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """By class, ready for JSON."""
        return {c.name: {k: v for k, v in asdict(c).items() if k != "name"} for c in self.classes}

    def labels(self, found: Detections, *, nms: float) -> tuple[Label, ...]:
        """Labels from detections, best first.

        In this order: wordings become classes; thresholds and sizes; negatives; suppression inside
        each group.

        Args:
            found: for `phrases`, in one prompt, on the CPU.
            nms: IoU above which the lower-scored of two boxes of one group goes.
        """
        owners = {_same(phrase): c for c in self.classes for phrase in c.phrases}
        wording = [_same(phrase) for phrase in found.phrases]
        height, width = found.image_hw
        kept: list[int] = []
        labels: list[Label] = []
        corners, scores = torch.from_numpy(found.boxes), torch.from_numpy(found.scores)
        overlaps = box_iou(corners, corners)
        boxes = found.boxes.tolist()
        for row, (box, score, phrase) in enumerate(
            zip(boxes, found.scores.tolist(), found.phrases, strict=True)
        ):
            owner = owners.get(wording[row])
            if owner is None or score <= owner.threshold:
                continue
            # Hundredths of a pixel: what is beyond depends on the machine.
            x1, y1, x2, y2 = (round(value, 2) for value in box)
            label = Label(owner.name, (x1, y1, x2, y2), round(score, 4), phrase)
            if not _fits(owner, label.sides, (width, height)):
                continue
            negatives = {_same(negative) for negative in owner.negatives}
            better = (overlaps[row] > AMBIGUOUS) & (scores > scores[row])
            if negatives.isdisjoint(wording[other] for other in better.nonzero()[:, 0].tolist()):
                kept.append(row)
                labels.append(label)
        group_numbers = torch.tensor(self._group_numbers([label.name for label in labels]))
        rows = torch.tensor(kept, dtype=torch.int64)
        pixels = to_last_pixels(corners[rows])
        chosen = nms_per_label(pixels, scores[rows], group_numbers, nms)
        return tuple(labels[row] for row in chosen.tolist())

    def _group_numbers(self, names: Sequence[str]) -> list[int]:
        """Of classes, the group whose boxes suppress theirs."""
        groups = {c.name: _group(c) for c in self.classes}
        number_of = {group: row for row, group in enumerate(dict.fromkeys(groups.values()))}
        return [number_of[groups[name]] for name in names]


def _group(c: Class) -> tuple[str, str]:
    """A group that is named, or that of the class alone; a name cannot be taken for the other."""
    return ("group", c.nms_group) if c.nms_group is not None else ("class", c.name)


def _fits(c: Class, sides: tuple[float, float], picture: tuple[float, float]) -> bool:
    """Whether a box has an extent, and one that the class may have."""
    area = sides[0] * sides[1]
    share = area / (picture[0] * picture[1])
    return (
        area > 0
        and min(sides) >= c.min_side_px
        and (c.max_side_px is None or max(sides) <= c.max_side_px)
        and c.min_area_share <= share <= c.max_area_share
    )


def _same(phrase: str) -> str:
    """Wordings that differ in case, spaces and Unicode form only are one."""
    return composed(" ".join(phrase.split())).casefold()


Where = Callable[[str | None, str | None], str]
"""The start of a message about the whole, a class, or a key of it."""


def _nowhere(name: str | None = None, key: str | None = None) -> str:
    """Where a fault of an ontology lies that is no file."""
    return "ontology: " if name is None else f"ontology: class {name!r}: "


def _check(classes: Sequence[Class], where: Where) -> None:
    """Raise `ConfigError` at the first fault."""
    if not classes:
        raise ConfigError(f"{where(None, None)}no classes; name at least one thing to look for")
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for c in classes:
        if not c.name.strip():
            raise ConfigError(f"{where(c.name, None)}the name is empty")
        if (first := names.get(_same(c.name))) is not None:
            raise ConfigError(f"{where(c.name, None)}is already there, as {first!r}")
        names[_same(c.name)] = c.name
        _check_numbers(c, where)
        if not c.phrases:
            raise ConfigError(
                f"{where(c.name, 'phrases')}no phrases; leave the key out to look for the class "
                "by its name"
            )
        for phrase in (*c.phrases, *c.negatives):
            if not phrase.strip():
                raise ConfigError(f"{where(c.name, None)}a phrase is empty")
        for phrase in c.phrases:
            owner = owners.setdefault(_same(phrase), c.name)
            if owner != c.name:
                raise ConfigError(
                    f"{where(c.name, None)}phrase {phrase!r} already belongs to {owner!r}; a box "
                    "can have one class only"
                )
        if both := {*map(_same, c.phrases)} & {*map(_same, c.negatives)}:
            raise ConfigError(
                f"{where(c.name, 'not')}{min(both)!r} is both a phrase and a negative of it; if "
                "the class is not to be looked for by its name, give its 'phrases'"
            )
    _check_parents(classes, where)


def _check_numbers(c: Class, where: Where) -> None:
    for key in ("threshold", "min_area_share", "max_area_share"):
        within(f"{where(c.name, key)}{key}", getattr(c, key), least=0, most=1)
    within(f"{where(c.name, 'min_side_px')}min_side_px", c.min_side_px, least=0)
    for low, high in (("min_side_px", "max_side_px"), ("min_area_share", "max_area_share")):
        least, most = getattr(c, low), getattr(c, high)
        if most is not None and not least <= most:
            raise ConfigError(f"{where(c.name, high)}no box has {low} {least} and {high} {most}")


def _check_parents(classes: Sequence[Class], where: Where) -> None:
    parents = {c.name: c.parent for c in classes}
    for c in classes:
        line = [c.name]
        while (above := parents.get(line[-1])) is not None:
            if above in line:
                ring = " -> ".join([*line, above])
                raise ConfigError(f"{where(c.name, 'parent')}parents in a ring: {ring}")
            line.append(above)


class _Reader:
    """YAML nodes, which know their lines, into an ontology."""

    def __init__(self, path: Path, threshold: float) -> None:
        self._path = path
        self._threshold = threshold
        self._lines: dict[tuple[str | None, str | None], int] = {}

    def _where(self, name: str | None = None, key: str | None = None) -> str:
        line = self._lines.get((name, key), self._lines.get((name, None)))
        place = f"{self._path}:{line}" if line else str(self._path)
        return f"{place}: " if name is None else f"{place}: class {name!r}: "

    def read(self) -> Ontology:
        """The ontology of the file."""
        try:
            root = yaml.compose(read_text(self._path, MOST_LETTERS), Loader=PlainLoader)
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be opened: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self._path} is not UTF-8 text: {error}") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(f"{self._path}{line}: is no YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{self._path}: is no YAML: {error}") from error
        except RecursionError as error:
            raise ConfigError(f"{self._path}: is no YAML: too many levels") from error
        if root is None:
            raise ConfigError(f"{self._path} is empty; it needs 'classes'")
        top = dict(self._entries(root, ("classes", "defaults"), "the file"))
        if "classes" not in top:
            raise ConfigError(f"{self._path}: has no 'classes'")
        defaults: dict[str, Any] = {"threshold": self._threshold}
        if "defaults" in top:
            for key, node in self._entries(top["defaults"], NUMBERS, "defaults"):
                defaults[key] = self._number(node, key)
        self._lines[None, None] = top["classes"].start_mark.line + 1
        classes = tuple(self._classes(top["classes"], defaults))
        _check(classes, self._where)  # once more with lines, before the ontology does it without
        return Ontology(classes)

    def _classes(self, node: yaml.Node, defaults: dict[str, Any]) -> Iterator[Class]:
        if isinstance(node, yaml.SequenceNode):
            for entry in node.value:
                name = self._word(entry, "the name of a class")
                self._note(name, None, entry)
                yield Class(name, (name,), **defaults)
            return
        for name, entry in self._entries(node, None, "classes"):
            yield Class(name, **(defaults | {"phrases": (name,)} | self._given(name, entry)))

    def _given(self, name: str, entry: yaml.Node) -> dict[str, Any]:
        """What an entry says of its class."""
        if isinstance(entry, yaml.SequenceNode):
            return {"phrases": self._words(entry, name)}
        if _is_null(entry):
            return {}
        given: dict[str, Any] = {}
        for key, value in self._entries(entry, (*LISTS, *NUMBERS, *WORDS), f"class {name!r}"):
            self._note(name, key, value)
            if key in NUMBERS:
                given[key] = self._number(value, key)
            elif key in WORDS:
                given[key] = self._word(value, f"'{key}'")
            else:
                given["negatives" if key == "not" else key] = self._words(value, key)
        return given

    def _note(self, name: str, key: str | None, node: yaml.Node) -> None:
        self._lines[name, key] = node.start_mark.line + 1

    def _entries(
        self, node: yaml.Node, known: Sequence[str] | None, what: str
    ) -> Iterator[tuple[str, yaml.Node]]:
        """The keys of a mapping, as they are written, and the nodes of their values."""
        if not isinstance(node, yaml.MappingNode):
            keys = f" of {', '.join(known)}" if known else " of names"
            self._refuse(node, f"{what} must be a mapping{keys}")
        first: dict[str, int] = {}
        for key_node, value in node.value:
            key = self._word(key_node, "a key")
            line = key_node.start_mark.line + 1
            if key in first:
                self._refuse(key_node, f"{key!r} is already there, in line {first[key]}")
            if known is not None and key not in known:
                self._refuse(key_node, f"{what}: unknown key {key!r}; {nearest(key, known)}")
            first[key] = line
            if known is None:
                self._note(key, None, key_node)
            yield key, value

    def _word(self, node: yaml.Node, what: str) -> str:
        """Text as it is written: to YAML a bare no or on is a truth value, to us a word."""
        if not isinstance(node, yaml.ScalarNode) or _is_null(node):
            self._refuse(node, f"{what} must be a word or phrase")
        return " ".join(str(node.value).split())

    def _words(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._word(entry, f"an entry of '{what}'") for entry in node.value)
        return (self._word(node, f"'{what}'"),)

    def _number(self, node: yaml.Node, key: str) -> float:
        try:
            value = float(node.value) if isinstance(node, yaml.ScalarNode) else None
        except ValueError:
            value = None
        if value is None or value != value or value in (float("inf"), float("-inf")):
            shown = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            self._refuse(node, f"{key} must be a number, got {shown!r}")
        return value

    def _refuse(self, node: yaml.Node, what: str) -> NoReturn:
        raise ConfigError(f"{self._path}:{node.start_mark.line + 1}: {what}")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
