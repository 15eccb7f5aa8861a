"""What may be wrong with the classes of a data set, and with what is known of each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from glip.data.doctor.subject import Check, Subject
from glip.errors import PromptError
from glip.text.prompt import Prompt, clean_name, reads_as

FEW_BOXES = 5
"""A class with fewer is called rare."""

_PLACEHOLDERS = frozenset(["class", "category", "label", "object", "cls", "cat", "id", "obj"])


def _blank_names(subject: Subject) -> Iterator[str]:
    data = subject.detection
    for number, name in zip(data.category_ids, data.names, strict=True):
        if not name.strip():
            yield f"category {number} has the name {name!r}"


def _names_twice(subject: Subject) -> Iterator[str]:
    names = Counter(subject.detection.names)
    yield from (f"{name!r}, {count} times" for name, count in names.items() if count > 1)


def _colliding_names(subject: Subject) -> Iterator[str]:
    """Different names that the text encoder reads as the same words."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(subject.detection.names):
        groups.setdefault(reads_as(name), []).append(name)
    yield from (" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1)


def _names_without_words(subject: Subject) -> Iterator[str]:
    """Single letters and numbers, or "class" and the like with a number."""
    for name in subject.detection.names:
        words = "".join(c if c.isalpha() else " " for c in name).casefold().split()
        numbered = any(c.isdigit() for c in name)
        single = all(len(word) == 1 and word.isascii() for word in words)
        if name.strip() and (single or (numbered and set(words) <= _PLACEHOLDERS)):
            yield repr(name)


def _classes_without_boxes(subject: Subject) -> Iterator[str]:
    yield from (repr(name) for name, count in subject.counts.items() if count == 0)


def _rare_classes(subject: Subject) -> Iterator[str]:
    for name, count in subject.counts.items():
        if 0 < count < FEW_BOXES:
            yield f"{name!r} ({count})"


def _long_names(subject: Subject) -> Iterator[str]:
    room = subject.max_tokens - 2
    for name in subject.detection.names:
        if name.strip() and (count := len(subject.tokenizer.encode(clean_name(name))) - 2) > room:
            yield f"{name[:40]!r} needs {count} tokens, there is room for {room}"


def _long_prompt(subject: Subject) -> Iterator[str]:
    names = [name for name in subject.detection.names if name.strip()]
    try:
        passes = Prompt.from_classes(names).passes(subject.tokenizer, subject.max_tokens)
    except PromptError:  # other checks name the reason
        return
    if len(passes) > 1:
        yield f"{len(names)} names need {len(passes)} passes"


def _absent_with_box(subject: Subject) -> Iterator[str]:
    names = subject.detection.names
    for record in subject.detection.records:
        for row in sorted(set(record.absent or ()) & set(record.labels.tolist())):
            yield f"{record.file_name}: {names[row]!r}"


def _outside_vocabulary(subject: Subject) -> Iterator[str]:
    data = subject.detection
    for record in data.records if data.vocabularies else ():
        for row in sorted(set(record.labels.tolist()).difference(data.vocabulary(record))):
            yield f"{record.file_name}: {data.names[row]!r} is not in {record.vocabulary!r}"


CHECKS: tuple[Check, ...] = (
    Check(
        "category names",
        "classes without a name",
        "A name is what the model looks for, so it has to be there.",
        _blank_names,
        kinds=("detection",),
        of="classes",
    ),
    Check(
        "names twice",
        "class names that occur more than once",
        "Give them one category, or words that tell them apart.",
        _names_twice,
        kinds=("detection",),
        of="classes",
    ),
    Check(
        "names alike",
        "class names that are the same words to the model",
        "They are trained as one class and measured as two: make them one category, or use words "
        "that tell them apart.",
        _colliding_names,
        kinds=("detection",),
        of="classes",
        tolerated=1,
    ),
    Check(
        "names without words",
        "class names that are codes rather than words",
        "The model knows words: call things what they are.",
        _names_without_words,
        kinds=("detection",),
        of="classes",
        tolerated=1,
    ),
    Check(
        "long names",
        "class names longer than the text encoder takes",
        "Shorten them.",
        _long_names,
        kinds=("detection",),
        of="classes",
    ),
    Check(
        "long prompt",
        "prompt longer than the text encoder takes",
        "Training samples names and prediction takes several passes, so this only costs time.",
        _long_prompt,
        kinds=("detection",),
        level="note",
    ),
    Check(
        "classes without boxes",
        "classes without a box",
        "Nothing but their absence is learned or measured; leave them out unless that is meant.",
        _classes_without_boxes,
        kinds=("detection",),
        of="classes",
        tolerated=1,
    ),
    Check(
        "rare classes",
        f"classes with fewer than {FEW_BOXES} boxes",
        "Expect little of them.",
        _rare_classes,
        kinds=("detection",),
        level="note",
    ),
    Check(
        "contradictions",
        "classes listed as absent where they have a box",
        "The box is believed; correct neg_category_ids.",
        _absent_with_box,
        kinds=("detection",),
        tolerated=0.01,
    ),
    Check(
        "vocabularies",
        "images or boxes that do not fit their vocabulary",
        "Each image names one of the vocabularies, and its boxes are of that one.",
        _outside_vocabulary,
        kinds=("detection",),
    ),
)
