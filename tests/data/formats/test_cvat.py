"""CVAT: shapes other than boxes, and tracks."""

from __future__ import annotations

from pathlib import Path

import pytest

from glip.data.faults import Faults
from glip.data.formats.recognise import read_annotated, read_with_faults
from glip.errors import DataError
from tests.data.formats.trees import CAT, boxes_of, grow


def image(*shapes: str, name: str = "a.png") -> str:
    size = 'width="60" height="40"'
    return (
        f'<annotations><image id="0" name="{name}" {size}>{"".join(shapes)}</image></annotations>'
    )


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<box label="cat" xtl="1" ytl="2" xbr="3" ybr="4"/>', (1, 2, 3, 4)),
        ('<box label="cat" xtl="3" ytl="4" xbr="1" ybr="2"/>', (1, 2, 3, 4)),
        ('<box label="cat" xtl="-5" ytl="2" xbr="99" ybr="4"/>', (0, 2, 60, 4)),
        ('<polygon label="cat" points="10,10;50,10;50,30"/>', (10, 10, 50, 30)),
        ('<polyline label="cat" points="10,10;50,30"/>', (10, 10, 50, 30)),
        ('<mask label="cat" rle="1,2" left="1" top="2" width="9" height="8"/>', (1, 2, 10, 10)),
        ('<ellipse label="cat" cx="20" cy="20" rx="5" ry="4"/>', (15, 16, 25, 24)),
    ],
)
def test_shapes_are_the_boxes_around_them(
    shape: str, box: tuple[float, ...], tmp_path: Path
) -> None:
    grow(tmp_path, {"annotations.xml": image(shape), "a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": [("cat", box)]}
    assert boxes_of(read_annotated(tmp_path / "annotations.xml")) == {"a.png": [("cat", box)]}


def test_tracks_give_their_key_frames(tmp_path: Path) -> None:
    def box(frame: int, key: int, x: int, outside: int = 0) -> str:
        corners = f'xtl="{x}" ytl="2" xbr="{x + 9}" ybr="9"'
        return f'<box frame="{frame}" keyframe="{key}" outside="{outside}" {corners}/>'

    one = f'<track id="0" label="cat">{box(0, 1, 1)}{box(1, 0, 2)}{box(2, 1, 3, 1)}</track>'
    two = f'<track id="1" label="dog">{box(2, 1, 5)}</track>'
    pictures = {f"images/frame_00000{n}.png": None for n in range(3)}
    grow(tmp_path, {"annotations.xml": f"<annotations>{one}{two}</annotations>", **pictures})
    found = boxes_of(read_annotated(tmp_path))
    assert {Path(name).name: boxes for name, boxes in found.items()} == {
        "frame_000000.png": [("cat", (1, 2, 10, 9))],
        "frame_000002.png": [("dog", (5, 2, 14, 9))],
    }


def test_tracks_over_pictures_that_have_no_numbers_say_so(tmp_path: Path) -> None:
    xml = """<annotations><track label="cat">
      <box frame="0" keyframe="1" xtl="1" ytl="2" xbr="31" ybr="22"/>
      <box frame="inf" keyframe="1" xtl="1" ytl="2" xbr="31" ybr="22"/>
      <box frame="1" keyframe="1" xtl="1" ytl="2" xbr="31" ybr="22"/></track></annotations>"""
    grow(tmp_path, {"annotations.xml": xml, "b.png": None, "a.png": None})
    faults = Faults(tmp_path / "annotations.xml", 0.5)
    assert boxes_of(read_with_faults(tmp_path / "annotations.xml", None, faults)) == {
        "a.png": CAT,
        "b.png": CAT,
    }
    assert list(faults.examples["no boxes"]) == ["a <box> of a track is in frame 'inf'"]
    assert any("in the order of their names: frame 0 is a.png" in note for note in faults.notes)


def test_wrong_corners_are_counted(tmp_path: Path) -> None:
    shape = '<box label="cat" xtl="nan" ytl="2" xbr="3" ybr="4"/>'
    grow(tmp_path, {"annotations.xml": image(shape), "a.png": None})
    with pytest.raises(DataError, match="1 of 1 boxes cannot be used"):
        read_annotated(tmp_path)
