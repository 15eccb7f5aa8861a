"""Pascal VOC: sizes, names and folders that tools leave out or write their own way."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.formats.recognise import read_annotated
from glip.errors import DataError
from tests.data.formats.trees import boxes_of, grow

SIZE = "<size><width>60</width><height>40</height></size>"
CORNERS = "<xmin>2</xmin><ymin>3</ymin><xmax>31</xmax><ymax>22</ymax>"
CAT = [("cat", (1.0, 2.0, 31.0, 22.0))]


def xml(name: str = "a.png", size: str = SIZE, box: str = f"<bndbox>{CORNERS}</bndbox>") -> str:
    file = f"<filename>{name}</filename>" if name else ""
    return f"<annotation>{file}{size}<object><name>cat</name>{box}</object></annotation>"


@pytest.mark.parametrize(
    "text",
    [
        xml(),
        xml(size=""),
        xml(size="<size><width>0</width><height>0</height></size>"),
        xml(name="a"),
        xml(name=""),
        xml(name="IMG_0001.png"),
        xml(name="C:\\photos\\a.png"),
        xml(box="<bndbox><ymax>22</ymax><xmax>31</xmax><ymin>3</ymin><xmin>2</xmin></bndbox>"),
        xml(box="<bndbox><xmin>31</xmin><ymin>22</ymin><xmax>2</xmax><ymax>3</ymax></bndbox>"),
        xml(box=f"<part><bndbox>{CORNERS}</bndbox></part><bndbox>{CORNERS}</bndbox>"),
    ],
)
def test_ways_to_say_it(text: str, tmp_path: Path) -> None:
    grow(tmp_path, {"Annotations/a.xml": text, "JPEGImages/a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": CAT}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(encoding: str, tmp_path: Path) -> None:
    grow(tmp_path, {"a.xml": xml().encode(encoding), "a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": CAT}
    assert boxes_of(read_annotated(tmp_path / "a.xml")) == {"a.png": CAT}


@pytest.mark.parametrize("folder", ["annotations", "Annotations", "."])
def test_pictures_may_be_said_or_lie_beside(folder: str, tmp_path: Path) -> None:
    grow(tmp_path, {f"{folder}/a.xml": xml(), "images/a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": CAT}
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    found = read_annotated(tmp_path, tmp_path / "elsewhere")
    assert boxes_of(found) == {"a.png": CAT} and found.pictures.root == tmp_path / "elsewhere"


def test_classes_of_labelimg_make_no_other_format(tmp_path: Path) -> None:
    grow(tmp_path, {"a.xml": xml(), "a.png": None, "classes.txt": "cat\n"})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": CAT}


def test_sub_folders(tmp_path: Path) -> None:
    for day in ("one", "two"):
        grow(tmp_path, {f"Annotations/{day}/a.xml": xml(), f"JPEGImages/{day}/a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"one/a.png": CAT, "two/a.png": CAT}


def test_turned_box_of_rolabelimg(tmp_path: Path) -> None:
    box = "<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>1.5707963</angle></robndbox>"
    grow(tmp_path, {"a.xml": xml(box=box), "a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": [("cat", (25.0, 10.0, 35.0, 30.0))]}


def test_polygons_of_labelme(tmp_path: Path) -> None:
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 2), (31, 2), (9, 22)))
    box = f"<polygon><username/>{points}</polygon>"
    grow(tmp_path, {"a.xml": xml(box=box), "a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": CAT}
    grow(tmp_path, {"a.xml": xml(box=f"<deleted>1</deleted>{box}")})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": []}


def test_label_map_gives_the_order(tmp_path: Path) -> None:
    labels = "# label:color\nbackground:0,0,0::\ndog:::\ncat:::\n"
    grow(tmp_path, {"a.xml": xml(), "a.png": None, "labelmap.txt": labels})
    assert read_annotated(tmp_path).data.names == ("dog", "cat")
    assert read_annotated(tmp_path, classes=["cat", "bird"]).data.names == ("cat", "bird")


def test_names_of_a_label_map_may_have_colons(tmp_path: Path) -> None:
    labels = "16:9:255,0,0::\ncat:::\n"
    grow(tmp_path, {"a.xml": xml(), "a.png": None, "labelmap.txt": labels})
    assert read_annotated(tmp_path).data.names == ("16:9", "cat")


def test_names_of_pictures_may_end_like_a_flag(tmp_path: Path) -> None:
    files = {f"Annotations/{name}.xml": xml(f"{name}.png") for name in ("a 1", "b", "c")}
    pictures = {f"JPEGImages/{name}.png": None for name in ("a 1", "b", "c")}
    lists = {"ImageSets/Main/train.txt": "a 1\nb  1\n", "ImageSets/Main/val.txt": "c\n"}
    grow(tmp_path, {**files, **pictures, **lists})
    assert sorted(boxes_of(read_annotated(tmp_path, split="train"))) == ["a 1.png", "b.png"]


def test_bad_files_and_objects_are_counted(tmp_path: Path) -> None:
    nan = xml(box="<bndbox>" + CORNERS.replace("31", "nan") + "</bndbox>")
    grow(tmp_path, {"a.xml": nan, "a.png": None})
    with pytest.raises(DataError, match=r"a.xml: an object 'cat' has no <bndbox> of four numbers"):
        read_annotated(tmp_path)
    assert boxes_of(read_annotated(tmp_path, max_bad=1)) == {"a.png": []}
    grow(tmp_path, {"b.xml": "<annotation>", "a.xml": xml()})
    with pytest.raises(DataError, match=r"b.xml is not valid XML.* 1 of 2 files"):
        read_annotated(tmp_path)
    entities = '<!DOCTYPE a [<!ENTITY b "c">]>' + xml("&b;")
    grow(tmp_path, {"b.xml": entities})
    with pytest.raises(DataError, match="declares entities"):
        read_annotated(tmp_path)
