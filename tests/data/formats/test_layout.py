"""What all writers have in common."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest
from PIL import ExifTags, Image

from glip.data.formats.layout import (
    DataSet,
    XmlFile,
    flat_name,
    place_picture,
    text_file,
    unused_name,
    write_list,
)
from glip.errors import ConfigError, DataError
from tests.data.formats.trees import grow


def test_xml_is_indented_and_escaped(tmp_path: Path) -> None:
    with text_file(tmp_path / "x.xml") as file:
        xml = XmlFile(file)
        with xml.element("a", name='"<&'):
            xml.text("b", "1 < 2 & 猫")
            xml.text("c", size=3)
    text = (tmp_path / "x.xml").read_text(encoding="utf-8")
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n<a name=')
    assert '\n  <b>1 &lt; 2 &amp; 猫</b>\n  <c size="3"/>\n</a>\n' in text
    root = ElementTree.fromstring(text)
    assert root.get("name") == '"<&' and root.findtext("b") == "1 < 2 & 猫"


def test_xml_without_a_declaration() -> None:
    file = io.StringIO()
    with XmlFile(file, declaration=False).element("View"):
        pass
    assert file.getvalue().startswith("<View>")


def test_lists_are_json() -> None:
    file = io.StringIO()
    write_list(file, "x", iter([{"a": "ä"}, {}]), last=True)
    assert file.getvalue() == '"x": [\n{"a": "ä"},\n{}\n]\n'


def test_flat_names_and_names_that_are_free(tmp_path: Path) -> None:
    assert flat_name("one/two/a b.png") == PurePosixPath("one__two__a b.png")
    long = flat_name("n" * 200 + "/" + "m" * 200 + ".jpg").name
    assert len(long) == 240 and long.startswith("n" * 200 + "__mm") and long.endswith(".jpg")
    grow(tmp_path, {"a.txt": "", "a_2.txt": ""})
    free = unused_name(PurePosixPath("a.png"), lambda name: tmp_path / f"{name.stem}.txt")
    assert free == PurePosixPath("a_3.png")


@pytest.mark.parametrize("picture", ["../a.png", "/a.png", "x/../../a.png", "C:\\a.png"])
def test_no_picture_is_placed_outside(picture: str, tmp_path: Path) -> None:
    data = DataSet([], (), tmp_path, place="copy")
    with pytest.raises(DataError, match="leads out of its folder"):
        place_picture(data, picture, tmp_path / "out" / "images" / picture)
    assert not (tmp_path / "out").exists()


def test_share_for_validation_is_no_whole() -> None:
    with pytest.raises(ConfigError, match=r"0.2 is a fifth"):
        DataSet([], (), Path(), val_share=1)


def test_pictures_that_cannot_be_read_are_copied_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (60, 40)).save(turned, "JPEG", exif=exif)
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    wide = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))
    # The third is larger than Pillow opens.
    broken = {
        "a.png": b"no picture",
        "b.png": b"\xff",
        "c.jpg": turned.getvalue()[:-100],
        "d.png": wide,
    }
    grow(tmp_path / "in", {**broken, "e.jpg": turned.getvalue()})
    data = DataSet([], (), tmp_path / "in", place="copy")
    for name in (*broken, "e.jpg"):
        place_picture(data, name, tmp_path / "out" / name)
        assert (name in caplog.text) == (name != "e.jpg")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in broken} == broken
    with Image.open(tmp_path / "out" / "e.jpg") as upright:
        assert upright.size == (40, 60)
