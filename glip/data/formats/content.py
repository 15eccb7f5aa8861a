"""The content of annotation files, or one sentence that says why there is none.

Text with any byte order mark is read; of other encodings than Unicode the message says so. What is
no regular file (a folder, a device, a link that leads nowhere) is never opened. Knows no format.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import msgspec
import yaml

from glip import files
from glip.data.faults import Faults
from glip.errors import DataError
from glip.files import check_regular, why_missing
from glip.settings import Shallow

T = TypeVar("T")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}

FURTHEST = 2.0**31
"""Pixels, or shares of a picture, that no coordinate reaches: sums and differences of two of them
stay finite in single precision, as does what is computed from them."""


def is_coordinate(number: float) -> bool:
    """Whether a number can be one of a point on or beside a picture: no NaN, nothing endless."""
    return abs(number) < FURTHEST


def check_file(path: Path) -> None:
    """Whether a path is a file that may be opened.

    Raises:
        DataError: it is missing, a folder, a device, or a link that leads nowhere.
    """
    try:
        check_regular(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} {why_missing(path)}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder, expected a file") from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in what its byte order mark says.

    Raises:
        DataError: it cannot be opened, is packed, or in another encoding.
    """
    check_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
    for magic, name in _PACKED.items():
        if data.startswith(magic):
            raise DataError(f"{path} is packed ({name}); unpack it")
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {data[error.start]:#04x} at {error.start:,}; save it "
            "as UTF-8"
        ) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: as `read_text`, or it is no JSON; the message names the place.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path} is not valid JSON: it is empty")
    return parsed_json(text, str(path))


def parsed_json(text: str | bytes, where: str) -> Any:
    """JSON that is in memory.

    Raises:
        DataError: it is none; `where` names it.
    """
    try:
        return files.parsed_json(text)
    except ValueError as error:  # also of integers with thousands of digits
        raise DataError(f"{where} is not valid JSON: {error}") from error


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping that a YAML file holds, all values as words: a class may be called "no" or "10".

    What its aliases repeat is not written out.

    Raises:
        DataError: as `read_text`, or it is no YAML or no mapping.
    """
    try:
        content = yaml.load(read_text(path), Loader=_Words)
    except RecursionError as error:
        raise DataError(f"{path} is not valid YAML here: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        problem = " ".join(str(error).split())
        raise DataError(f"{path} is not valid YAML: {problem}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds no names with values")
    return content


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; entities of its own are refused, as they can blow up.

    Raises:
        DataError: it cannot be opened or is no XML.
    """
    check_file(path)
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:
            raise DataError(f"{path} declares entities; remove them")
        return ElementTree.fromstring(data)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not valid XML: {error}") from error


def text_lines(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, one at a time; blank ones go.

    Lines that are not UTF-8 are faults.

    Raises:
        DataError: it cannot be opened.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            encoding = _encoding(file.read(4))
        if encoding != "utf-8":
            lines: Iterator[str | None] = iter(read_text(path).splitlines())
        else:
            lines = _decoded(path)
        for number, line in enumerate(lines, start=1):
            if line is None or line.strip():
                faults.count("lines")
                if line is None:
                    faults.add("lines", f"{path}:{number} is not UTF-8")
                else:
                    yield number, line
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error


def json_lines(path: Path, faults: Faults) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The JSON objects of a file of JSON lines; lines that hold none are faults.

    Raises:
        DataError: it cannot be opened.
    """
    for number, line in text_lines(path, faults):
        try:
            content = parsed_json(line, f"{path}:{number}")
        except DataError as error:
            faults.add("lines", str(error))
            continue
        if isinstance(content, Mapping):
            yield number, content
        else:
            faults.add("lines", f"{path}:{number} is not a JSON object")


def checked(content: Any, schema: type[T]) -> T:
    """Content as one of the declared records; numbers and truth values may stand in quotes.

    Raises:
        ValueError: a field is missing or of another type; the message names it.
    """
    try:
        return msgspec.convert(content, schema, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`$.", "'").replace("`", "'")) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class _Words(Shallow, yaml.BaseLoader):
    """Everything is a word."""


def _encoding(data: bytes) -> str:
    return next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")


def _decoded(path: Path) -> Iterator[str | None]:
    with path.open("rb") as file:
        for line in file:
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                yield None
