"""Captions as lines: CSV and TSV tables, JSON lines, token files.

A line is a picture and a caption. Without a line of names they are the first two cells; `a.jpg#0`,
as Flickr's token files number their sentences, is `a.jpg`. What is wrong with a line is said in the
line; a file that is wrong from its first line on is refused.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from glip.data.pictures import PICTURE_SUFFIXES
from glip.errors import DataError
from glip.files import check_regular, parsed_json

SUFFIXES = (".jsonl", ".tsv", ".csv", ".txt", ".token")
"""Of files that are read here."""

PICTURE_FIELDS = (
    "path", "file_path", "filepath", "file_name", "filename", "image", "image_path", "image_name",
    "img", "picture",
)  # fmt: skip
"""Names of the column with the picture, the first one that is there counts."""
CAPTION_FIELDS = (
    "caption", "captions", "text", "sentence", "sentences", "comment", "alt_text", "alt", "raw",
)  # fmt: skip
"""Names of the column with the caption, or with a list of them."""
MOST_CAPTIONS = 1000
"""Captions of one entry; a picture with more comes in several, to keep memory in bounds."""

_LONGEST_FIELD = 1 << 24  # characters of a cell; the csv module stops at 2 ** 17 by itself
_LONGEST_CELL = 50  # lines that a quoted cell may go over; a quotation mark that nobody closed
_NUMBERED = re.compile(r"#\d{1,3}$")


TRIED = 20
"""Faulty lines at the head of a file after which it is taken for another kind of file."""


class Row(NamedTuple):
    """A line of a table."""

    number: int
    picture: str
    captions: tuple[str, ...] = ()
    fault: str | None = None


def rows_of(path: Path) -> Iterator[Row]:
    """The lines of a file, in constant memory.

    Raises:
        DataError: it cannot be opened, or its first lines are no pictures and captions.
    """
    try:
        check_regular(path)
        # Bytes that are no UTF-8 become U+FFFD and a fault of their line alone.
        with path.open(encoding=_encoding(path), errors="replace", newline="") as file:
            yield from _json_rows(path, file) if path.suffix == ".jsonl" else _cells(path, file)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def clean(texts: Iterable[object]) -> tuple[str, ...]:
    """Captions without blanks around them; blank ones, and what is no text, are left out."""
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def captions_in(content: Any) -> tuple[str, ...]:
    """The captions of a JSON object, none if it has none."""
    if not isinstance(content, Mapping):
        return ()
    found = next((content[key] for key in CAPTION_FIELDS if content.get(key)), None)
    if found is None:
        return clean(_answers(content.get("conversations")))
    sentences = found if isinstance(found, list) else [found]
    return clean(s.get("raw") if isinstance(s, Mapping) else s for s in sentences)


def picture_in(content: Any) -> str:
    """The picture of a JSON object, blank if it has none."""
    if not isinstance(content, Mapping):
        return ""
    return next((str(content[key]) for key in PICTURE_FIELDS if content.get(key)), "")


def _answers(conversation: Any) -> Iterator[str]:
    """What a model says of a picture, in files as LLaVA has them."""
    for turn in conversation if isinstance(conversation, list) else ():
        if isinstance(turn, Mapping) and turn.get("from") in ("gpt", "assistant"):
            yield str(turn.get("value", "")).replace("<image>", " ")


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _json_rows(path: Path, file: IO[str]) -> Iterator[Row]:
    waiting: list[Row] = []  # faulty lines, until one shows that the others are of this kind
    is_known = False
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        name, captions = "", tuple[str, ...]()
        try:
            content = parsed_json(line)
            if isinstance(content, Mapping):
                own = content.get("grounding")
                captions = captions_in(own if isinstance(own, Mapping) else content)
                name = picture_in(content)
            fault = None if name and captions else "has no picture or no caption"
        except json.JSONDecodeError as error:
            fault = f"is no JSON: {error.msg}"
        except ValueError as error:  # thousands of digits, or of brackets
            fault = f"is no JSON: {error}"
        row = _checked(path, number, name, captions, fault)
        if fault is not None and not is_known:
            waiting.append(row)
            if len(waiting) == TRIED:
                break
            continue
        is_known = True
        yield from (*waiting, row)
        waiting = []
    if waiting:
        raise DataError(
            f"{waiting[0].fault}; each line is an object with a picture (one of "
            f"{', '.join(PICTURE_FIELDS)}) and a caption (one of {', '.join(CAPTION_FIELDS)})"
        )


def _cells(path: Path, file: IO[str]) -> Iterator[Row]:
    """The rows of a table; without a line of names, picture and caption are the first two cells."""
    csv.field_size_limit(_LONGEST_FIELD)
    columns: tuple[int, int] | None = None
    mark = ""
    for number, text in _records(path, file):
        mark = mark or _separator(path, text)
        try:
            # In a CSV a quotation mark keeps commas together; elsewhere it is one.
            if mark in ",;":
                cells = next(csv.reader([text], delimiter=mark))
            else:
                cells = next(csv.reader([text], delimiter=mark, quoting=csv.QUOTE_NONE))
        except (csv.Error, StopIteration) as error:
            yield Row(number, "", (), f"{path}:{number}: {error}")
            continue
        if columns is None:
            columns, named = _columns(path, number, cells, mark)
            if named:
                continue
        yield _row(path, number, cells, columns)


def _row(path: Path, number: int, cells: Sequence[str], columns: tuple[int, int]) -> Row:
    if len(cells) <= max(columns):
        fault: str | None = f"has {len(cells)} cells, needs {max(columns) + 1}"
        return _checked(path, number, "", (), fault)
    name, captions = cells[columns[0]].strip(), clean([cells[columns[1]]])
    fault = None if name and captions else "has no picture or no caption"
    return _checked(path, number, _NUMBERED.sub("", name), captions, fault)


def _records(path: Path, file: IO[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, those that a quoted cell goes over as one; blank ones go.

    A quotation mark that is not closed soon spoils its own line only.
    """
    if path.suffix != ".csv":
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
        return
    waiting: deque[tuple[int, str]] = deque()
    lines = enumerate(file, start=1)
    while True:
        if not waiting:
            following = next(lines, None)
            if following is None:
                return
            waiting.append(following)
        number, text = waiting.popleft()
        taken: list[tuple[int, str]] = []
        while _is_open(text) and len(taken) < _LONGEST_CELL:
            following = waiting.popleft() if waiting else next(lines, None)
            if following is None:
                break
            taken.append(following)
            text += following[1]
        if _is_open(text) and taken:
            waiting.extendleft(reversed(taken))
            text = text[: len(text) - sum(len(line) for _, line in taken)]
        if text.strip():
            yield number, text


def _is_open(text: str) -> bool:
    """Whether a quoted cell goes on behind a text."""
    return text.count('"') % 2 == 1


def _separator(path: Path, line: str) -> str:
    """What stands between the cells, by the first line."""
    if path.suffix == ".tsv":
        return "\t"
    for mark in ",;\t|":
        names = {cell.strip().lower() for cell in line.split(mark)}
        if names & set(PICTURE_FIELDS) and names & set(CAPTION_FIELDS):
            return mark
    return next((mark for mark in "\t|," if mark in line), ";" if ";" in line else ",")


def _columns(
    path: Path, line: int, cells: Sequence[str], mark: str
) -> tuple[tuple[int, int], bool]:
    """Where picture and caption stand, by the first line; and whether that holds names."""
    if len(cells) < 2:
        between = {"\t": "a tab", ",": "a comma"}.get(mark, repr(mark))
        raise DataError(
            f"{path}:{line} has one cell, {cells[0][:60]!r}; a line is a picture, {between} and a "
            "caption"
        )
    names = [cell.strip().lower() for cell in cells]
    found = [
        next((names.index(field) for field in fields if field in names), None)
        for fields in (PICTURE_FIELDS, CAPTION_FIELDS)
    ]
    if found[0] is not None and found[1] is not None:
        return (found[0], found[1]), True
    if _is_picture(cells[1]) and not _is_picture(cells[0]):  # as tables of addresses have them
        return (1, 0), False
    return (0, 1), False


def _is_picture(cell: str) -> bool:
    return Path(_NUMBERED.sub("", cell.strip())).suffix.lower() in PICTURE_SUFFIXES


def _checked(
    path: Path, number: int, name: str, captions: tuple[str, ...], fault: str | None
) -> Row:
    if fault is None and "\ufffd" in name + "".join(captions):
        fault = "is not UTF-8"
    if fault is not None:
        return Row(number, name, (), f"{path}:{number} {fault}")
    return Row(number, name, captions)
