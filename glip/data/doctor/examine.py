"""Looks at a data set before anybody trains on it: what is broken, what is doubtful, what is in it.

What training could not survive, or would silently learn nonsense from, is an error; what it copes
with is a warning, until there is too much of it. What a reader left out comes first, then
the checks, a table in each `checks_….py`.

`examine` never raises for what is wrong with the data; it reports it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from glip.choices import Split
from glip.data.doctor import (
    checks_boxes,
    checks_captions,
    checks_classes,
    checks_file,
    checks_pictures,
)
from glip.data.doctor.subject import Check, Level, Subject
from glip.data.faults import EXAMPLES, MAX_BAD, MEANINGS, Faults
from glip.data.formats.recognise import read_with_faults
from glip.data.records import Annotated
from glip.errors import DataError, GlipError
from glip.progress import Counter, Progress
from glip.text.tokenizer import Tokenizer

CHECKS: tuple[Check, ...] = (
    *checks_file.CHECKS,
    *checks_classes.CHECKS,
    *checks_boxes.CHECKS,
    *checks_captions.CHECKS,
    *checks_pictures.CHECKS,
)

CLASSES_SHOWN = 8
"""Most and least frequent classes in the balance, half of them each."""
LETTERS = 300
"""Of an example that is shown."""


class Finding(NamedTuple):
    """A check that found something."""

    check: str
    level: Level
    cases: int
    message: str
    way_out: str
    examples: tuple[str, ...]
    by_reader: bool = False
    """Whether all who read the data hear of it anyway."""

    def __str__(self) -> str:
        shown = "; ".join(self.examples) + ("; …" if self.cases > len(self.examples) else "")
        examples = f" ({shown})" if self.examples else ""
        return f"{self.message}: {self.cases:,}{examples}. {self.way_out}".strip()


@dataclass(frozen=True)
class Report:
    """What a look at a data set found."""

    path: Path
    summary: str
    """What is in it, in a line."""
    findings: tuple[Finding, ...]
    classes: tuple[tuple[str, int], ...] = ()
    """Name and number of boxes of each class, most first."""
    quick: bool = False

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes the data unfit."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def exit_code(self) -> int:
        """0 if the data can be used, 1 if not."""
        return 1 if self.errors else 0

    def refuse_if_broken(self) -> None:
        """Stop whoever wants to train on broken data, with the messages of the report.

        Raises:
            DataError: There are errors.
        """
        if self.errors:
            listed = "\n".join(f"- {finding}" for finding in self.errors)
            raise DataError(f"{self.path} cannot be trained on:\n{listed}")

    def text(self) -> str:
        """One page."""
        lines = [f"{self.path}", f"{self.summary}"]
        for level, title in (("error", "ERRORS"), ("warning", "Warnings"), ("note", "Notes")):
            own = [finding for finding in self.findings if finding.level == level]
            if own:
                lines += ["", title, *(f"- {finding}" for finding in own)]
        if self.classes:
            lines += ["", "Boxes of each class", *_balance(self.classes)]
        part = "The quick part, annotations only: " if self.quick else ""
        verdict = "broken, training refuses it" if self.errors else "can be trained on"
        return "\n".join([*lines, "", f"{part}{verdict}."])


def examine(
    path: str | Path,
    images: str | Path | None = None,
    *,
    quick: bool = False,
    split: Split | None = None,
    label_map: str | Path | None = None,
    max_bad: float = MAX_BAD,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = 256,
    progress: Progress | None = None,
) -> Report:
    """Look for everything that makes a data set unfit, or less fit than it seems.

    Args:
        path: Annotations in any format of `glip.data.formats.recognise`.
        images: Folder or tar of the pictures; by default beside the annotations.
        quick: Annotations and whether pictures are there, but no decoding: seconds for most data.
        split: Of a folder with several.
        label_map: Names of the labels of an ODVG file.
        max_bad: Share of the entries that may be left out.
        tokenizer: Of the text encoder; by default that of the released models.
        max_tokens: What the text encoder takes.
        progress: Is told of each picture that is decoded.
    """
    return read_and_examine(
        path,
        images,
        quick=quick,
        split=split,
        label_map=label_map,
        max_bad=max_bad,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        progress=progress,
    )[1]


def read_and_examine(
    path: str | Path,
    images: str | Path | None = None,
    *,
    quick: bool = False,
    split: Split | None = None,
    label_map: str | Path | None = None,
    max_bad: float = MAX_BAD,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = 256,
    progress: Progress | None = None,
) -> tuple[Annotated | None, Report]:
    """The report of `examine`, and the data for whoever goes on with it.

    Its faults are not yet closed; None is in its place where the report says why it cannot be read.
    """
    path = Path(path)
    faults = Faults(path, max_bad)
    try:
        annotated = read_with_faults(path, images, faults, split=split, label_map=label_map)
    except GlipError as error:
        stop = Finding("file", "error", 1, "reason to stop here", "", (str(error),))
        return None, Report(path, "cannot be examined", (*_faults(faults), stop), quick=quick)
    subject = Subject(
        path=path,
        annotated=annotated,
        tokenizer=tokenizer or Tokenizer.bert_uncased(),
        max_tokens=max_tokens,
        quick=quick,
        progress=Counter(progress, "pictures").add,
    )
    findings = [
        finding
        for check in CHECKS
        if subject.kind in check.kinds and (check.quick or not quick)
        if (finding := _run(check, subject)) is not None
    ]
    return annotated, Report(
        path=path,
        summary=_summary(subject),
        findings=(*_faults(annotated.faults), *findings),
        classes=tuple(subject.counts.most_common()) if subject.kind == "detection" else (),
        quick=quick,
    )


def _faults(faults: Faults) -> Iterator[Finding]:
    """What the reader left out, and what it read in another way than it is written."""
    for kind, count in faults.counts.items():
        meaning = MEANINGS[kind]
        level: Level = "error" if faults.is_too_much(kind) else "warning"
        examples = tuple(map(_short, faults.examples[kind]))
        yield Finding(
            kind, level, count, meaning.message, meaning.way_out, examples, by_reader=True
        )
    for message, count in faults.notes.items():
        yield Finding("reading", "warning", count, message, "", (), by_reader=True)


def _run(check: Check, subject: Subject) -> Finding | None:
    try:
        cases = iter(check.find(subject))
        examples = tuple(_short(case) for case in islice(cases, EXAMPLES))
        count = len(examples) + sum(1 for _ in cases)
    except GlipError as error:  # such as of names that are no text
        examples, count = (_short(str(error)),), 1
    if not examples:
        return None
    level = check.level
    tolerated = subject.annotated.faults.max_bad if check.tolerated is None else check.tolerated
    if level == "error" and count <= tolerated * subject.population(check.of):
        level = "warning"
    return Finding(check.name, level, count, check.message, check.way_out, examples)


def _short(example: str) -> str:
    """An example that a terminal can hold, however long a name in it is."""
    return example if len(example) <= LETTERS else f"{example[: LETTERS - 3]}..."


def _summary(subject: Subject) -> str:
    counts = f"{len(subject.records):,} images, {len(subject.boxes):,} boxes"
    if subject.kind == "detection":
        counts += f", {len(subject.detection.names):,} classes"
    return f"{subject.kind} data: {counts}; pictures in {subject.annotated.pictures.root}"


def _balance(classes: tuple[tuple[str, int], ...]) -> list[str]:
    """The most and the least frequent classes with their share, and how uneven they are."""
    total = max(1, sum(count for _, count in classes))
    half = CLASSES_SHOWN // 2
    shown = list(classes)
    if len(shown) > CLASSES_SHOWN:
        shown = [*classes[:half], ("…", -1), *classes[-half:]]
    width = min(40, max(len(name) for name, _ in shown))
    lines = [
        f"  {name[:width]:<{width}} {count:>9,} {count / total:>6.1%}" if count >= 0 else "  …"
        for name, count in shown
    ]
    there = [count for _, count in classes if count]
    if len(there) > 1:
        lines.append(f"  the most frequent class has {there[0] / there[-1]:.0f} times the rarest")
    return lines
