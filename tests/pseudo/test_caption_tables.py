"""Lines of pictures and captions, as tools and habits write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.errors import DataError
from glip.pseudo.caption_tables import captions_in, rows_of

TWO = [("a.jpg", ("a cat",)), ("a.jpg", ("a dog",))]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "\ufeffimage,caption\r\na.jpg,a cat\r\na.jpg,a dog\r\n"),
        ("x.csv", "image;caption\na.jpg;a cat\na.jpg;a dog\n"),
        ("x.csv", "a.jpg#0\ta cat\na.jpg#1\ta dog\n"),
        ("x.token", "a.jpg#0\ta cat\na.jpg#1\ta dog\n"),
        ("x.csv", "image_name| comment_number| comment\na.jpg| 0| a cat\na.jpg| 1| a dog\n"),
        ("x.tsv", "a cat\ta.jpg\na dog\ta.jpg\n"),
        (
            "x.jsonl",
            '{"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>?"},'
            ' {"from": "gpt", "value": "a cat"}]}\n{"image": "a.jpg", "text": "a dog"}\n',
        ),
    ],
)
def test_ways_to_write_a_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    rows = list(rows_of(tmp_path / name))
    assert [(row.picture, row.captions) for row in rows] == TWO
    (tmp_path / name).write_text(text.lstrip("\ufeff"), encoding="utf-16")
    assert [(row.picture, row.captions) for row in rows_of(tmp_path / name)] == TWO


def test_cell_may_go_over_lines(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('a.jpg,"a cat, on a ""rug""\nlooking up"\nb.jpg,a dog\n')
    assert [row.captions for row in rows_of(tmp_path / "x.csv")] == [
        ('a cat, on a "rug"\nlooking up',),
        ("a dog",),
    ]


def test_quotation_mark_that_nobody_closes_spoils_its_line_only(tmp_path: Path) -> None:
    lines = ["a.jpg,a cat", 'a.jpg,"open', *(f"a.jpg,number {n}" for n in range(2000))]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    rows = list(rows_of(tmp_path / "x.csv"))
    assert [row.number for row in rows] == list(range(1, 2003))
    assert rows[-1].captions == ("number 1999",) and rows[2].captions == ("number 0",)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"image": ' + "1" * 5_000 + "}", "[1]", "null"])
def test_lines_that_no_parser_takes_are_faults(tmp_path: Path, line: str) -> None:
    good = '{"image": "a.jpg", "text": "a cat"}'
    (tmp_path / "x.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    rows = list(rows_of(tmp_path / "x.jsonl"))
    assert [row.fault is None for row in rows] == [True, False, True]


def test_null_is_no_caption() -> None:
    assert captions_in({"caption": None}) == ()
    assert captions_in({"captions": ["a", None, 3, " "]}) == ("a",)
    assert captions_in({"sentences": [{"raw": "a cat", "tokens": []}]}) == ("a cat",)


def test_first_line_decides_whether_it_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("one cell\n")
    with pytest.raises(DataError, match="a picture, a comma and a caption"):
        list(rows_of(tmp_path / "x.csv"))


def test_a_faulty_first_line_does_not_refuse_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = '{"image": "a.png", "caption": "a cat"}\n'
    path.write_text('{"image": "a.png", "caption": null}\n{bad\n' + good * 3)
    faults = [row.fault for row in rows_of(path)]
    assert [bool(fault) for fault in faults] == [True, True, False, False, False]
    assert faults[0] == f"{path}:1 has no picture or no caption"
    path.write_text('{"x": 1}\n' * 30 + good)
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no picture .*; each line is an object"):
        list(rows_of(path))
