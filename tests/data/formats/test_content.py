"""Text files: marks, encodings, and what is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glip.data.faults import Faults
from glip.data.formats.content import (
    check_file,
    is_coordinate,
    json_lines,
    read_json,
    read_text,
    read_yaml,
)
from glip.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"ä": "猫"}', encoding=encoding)
    assert read_json(tmp_path / "x.json") == {"ä": "猫"}
    faults = Faults(tmp_path)
    assert list(json_lines(tmp_path / "x.json", faults)) == [(1, {"ä": "猫"})]
    assert not faults.counts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"name": "caf\xe9"}', r"is not UTF-8 text: byte 0xe9 at 13; save it as UTF-8"),
        (b"\x1f\x8b\x08", r"is packed \(gzip\); unpack it"),
        (b"PK\x03\x04", r"is packed \(zip\); unpack it"),
        (b"", "it is empty"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "is not valid JSON"),
        (b'{"a": 1,}', "is not valid JSON: .* line 1"),
    ],
)
def test_what_is_no_json(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "x.json")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path, "is a folder, expected a file"),
        (tmp_path / "link", "is a link to nothing"),
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "pipe", "is no regular file"),
        (Path("/dev/null"), "is no regular file"),
        (tmp_path / ("n" * 5_000), "cannot be opened"),
    ]:
        with pytest.raises(DataError, match=message):
            read_text(path)
        with pytest.raises(DataError, match=message):
            check_file(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "a: b: c", "- x", "7", "a: !!python/name:os"])
def test_what_is_no_yaml_mapping(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    if "python" in text:
        assert read_yaml(tmp_path / "x.yaml") == {"a": ""}  # a word, whatever it claims to be
        return
    with pytest.raises(DataError, match=r"x.yaml"):
        read_yaml(tmp_path / "x.yaml")


def test_lines_that_are_wrong_are_counted(tmp_path: Path) -> None:
    lines = [b'{"a": 1}', b"", b"{", b"[1]", b'{"a": "\xff"}', b'{"a": 2}']
    (tmp_path / "x.jsonl").write_bytes(b"\r\n".join(lines))
    faults = Faults(tmp_path)
    assert list(json_lines(tmp_path / "x.jsonl", faults)) == [(1, {"a": 1}), (6, {"a": 2})]
    assert faults.counts == {"lines": 3} and faults.total("lines") == 5


@pytest.mark.parametrize("number", [0, -1.5, 10**9, 2.0**31 - 1])
def test_numbers_of_points(number: float) -> None:
    assert is_coordinate(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e39, -1e308, 10**400, 2.0**31])
def test_numbers_of_no_point(number: float) -> None:
    assert not is_coordinate(number)
