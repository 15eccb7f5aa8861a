"""CSV tables of boxes."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.formats.recognise import read_annotated
from glip.errors import DataError
from tests.data.formats.trees import boxes_of, grow

CAT = {"a.png": [("cat", (1.0, 2.0, 31.0, 22.0))]}


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,60,40,cat,1,2,31,22\n",
        "\ufeffimage;label;x1;y1;x2;y2\r\na.png;cat;1;2;31;22\r\n",
        "image_name,label_name,bbox_x,bbox_y,bbox_width,bbox_height\na.png,cat,1,2,30,20\n",
        "/far/a.png,1,2,31,22,cat\n",
    ],
)
def test_columns(text: str, tmp_path: Path) -> None:
    grow(tmp_path, {"boxes.csv": text, "a.png": None})
    assert boxes_of(read_annotated(tmp_path / "boxes.csv")) == CAT


def test_picture_alone_has_nothing_on_it(tmp_path: Path) -> None:
    grow(tmp_path, {"boxes.csv": "a.png,1,2,31,22,cat\nb.png,,,,,\n", "a.png": None, "b.png": None})
    assert boxes_of(read_annotated(tmp_path / "boxes.csv")) == {**CAT, "b.png": []}


def test_bad_lines_are_counted_and_a_quotation_mark_spoils_its_own(tmp_path: Path) -> None:
    lines = ["filename,class,xmin,ymin,xmax,ymax", *["a.png,cat,1,2,31,22"] * 30, 'a.png,"cat,1,2']
    grow(tmp_path, {"boxes.csv": "\n".join([*lines, *lines[1:20]]), "a.png": None})
    assert len(boxes_of(read_annotated(tmp_path / "boxes.csv"))["a.png"]) == 49
    grow(tmp_path, {"boxes.csv": f"{lines[0]}\na.png,cat,1,2,nan,22"})
    with pytest.raises(DataError, match=r"boxes.csv:2 has no picture, class or box"):
        read_annotated(tmp_path / "boxes.csv")


def test_table_of_something_else(tmp_path: Path) -> None:
    grow(tmp_path, {"boxes.csv": "filename,caption\na.png,a cat\n", "a.png": None})
    with pytest.raises(DataError, match=r"has the columns filename, caption; boxes need"):
        read_annotated(tmp_path / "boxes.csv")
