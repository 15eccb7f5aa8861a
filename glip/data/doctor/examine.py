"""Looks at a data set before anybody trains on it: what is broken, what is doubtful, what is in it.

What training could not survive, or would silently learn nonsense from, is an error; what it copes
with is a warning, until there is too much of it. The checks themselves are a table in `checks.py`.

`examine` never raises for what is wrong with the data; it reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from glip.choices import Split
from glip.data.doctor.checks_file import CHECKS, Check, Kind, Level, Subject
from glip.data.formats.coco import file_name_of, to_coco
from glip.data.formats.recognise import annotations_in, read_annotated, recognise
from glip.data.pictures import Pictures, pictures_for
from glip.data.records import DetectionData, GroundingData
from glip.errors import DataError, GlipError
from glip.progress import Counter, Progress
from glip.text.tokenizer import Tokenizer

EXAMPLES = 3
"""Cases shown of each finding; a page has to be enough."""

CLASSES_SHOWN = 8
"""Most and least frequent classes in the balance, half of them each."""


class Finding(NamedTuple):
    """A check that found something."""

    check: str
    level: Level
    cases: int
    message: str
    way_out: str
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = "; ".join(self.examples) + ("; …" if self.cases > len(self.examples) else "")
        return f"{self.message}: {self.cases:,} ({shown}). {self.way_out}".strip()


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
        tokenizer: Of the text encoder; by default that of the released models.
        max_tokens: What the text encoder takes.
        progress: Is told of each picture that is decoded.
    """
    path = Path(path)
    try:
        subject = _subject(path, images, quick, split, tokenizer, max_tokens, progress)
    except GlipError as error:
        stop = Finding("file", "error", 1, "reason to stop here", "", (str(error),))
        return Report(path, "cannot be examined", (stop,), quick=quick)
    findings = [
        finding
        for check in CHECKS
        if subject.kind in check.kinds and (check.quick or not quick)
        if (finding := _run(check, subject)) is not None
    ]
    return Report(
        path=path,
        summary=_summary(subject),
        findings=tuple(findings),
        classes=tuple(subject.counts.most_common()) if subject.kind == "detection" else (),
        quick=quick,
    )


def _run(check: Check, subject: Subject) -> Finding | None:
    cases = iter(check.find(subject))
    examples = tuple(islice(cases, EXAMPLES))
    if not examples:
        return None
    count = len(examples) + sum(1 for _ in cases)
    level = check.level
    if level == "error" and count <= check.tolerated * subject.population(check.of):
        level = "warning"
    return Finding(check.name, level, count, check.message, check.way_out, examples)


def _subject(
    path: Path,
    images: str | Path | None,
    quick: bool,
    split: Split | None,
    tokenizer: Tokenizer | None,
    max_tokens: int,
    progress: Progress | None,
) -> Subject:
    """A data set as raw content; formats other than COCO and MDETR are read first.

    Raises:
        GlipError: It cannot be read at all.
    """
    path = annotations_in(path)
    format_, content = recognise(path)
    kind: Kind = "grounding" if format_ in ("mdetr", "odvg", "flickr") else "detection"
    pictures: Pictures | None = None
    if content is None:
        annotated = read_annotated(path, images, split=split)
        pictures, data = annotated.pictures, annotated.data
        content = to_coco(data) if isinstance(data, DetectionData) else _mdetr(data)
    if not isinstance(content, Mapping):
        raise DataError(f"{path} is one JSON {type(content).__name__}, expected an object")
    for key in ("images", "annotations", *(("categories",) if kind == "detection" else ())):
        if not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list '{key}'")
    if pictures is None:
        entries = (entry for entry in content["images"] if isinstance(entry, Mapping))
        names = list(islice(filter(None, map(file_name_of, entries)), 10))
        pictures = pictures_for(path, images, names) if names else None
    return Subject(
        path=path,
        kind=kind,
        content=content,
        pictures=pictures,
        tokenizer=tokenizer or Tokenizer.bert_uncased(),
        max_tokens=max_tokens,
        quick=quick,
        progress=Counter(progress, "pictures").add,
    )


def _mdetr(data: GroundingData) -> dict[str, Any]:
    """Records as the content of an MDETR file, which the checks read."""
    images, annotations = [], []
    for record in data.records:
        height, width = record.image_hw
        images.append(
            {
                "id": record.image_id,
                "file_name": record.file_name,
                "height": height,
                "width": width,
                "caption": record.caption,
            }
        )
        for (x1, y1, x2, y2), owner in zip(
            record.boxes.tolist(), record.owners.tolist(), strict=True
        ):
            annotations.append(
                {
                    "image_id": record.image_id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "tokens_positive": record.phrases[owner],
                }
            )
    return {"images": images, "annotations": annotations}


def _summary(subject: Subject) -> str:
    counts = f"{len(subject.images):,} images, {len(subject.annotations):,} boxes"
    if subject.kind == "detection":
        counts += f", {len(subject.names):,} classes"
    where = f"; pictures in {subject.pictures.root}" if subject.pictures is not None else ""
    return f"{subject.kind} data: {counts}{where}"


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
