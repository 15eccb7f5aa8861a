"""LabelMe, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.data.formats.labelme import write_labelme
from glip.data.formats.layout import DataSet
from glip.data.formats.recognise import read_annotated
from glip.data.labels import Label, Labelled
from tests.data.formats.trees import boxes_of, grow

CAT = [("cat", (1.0, 2.0, 31.0, 22.0))]


def content(points: Any, kind: str = "rectangle", path: str = "a.png") -> dict[str, Any]:
    shape = {"label": "cat", "points": points, "shape_type": kind}
    size = {"imageHeight": 40, "imageWidth": 60, "imageData": None}
    return {"version": "5", "shapes": [shape], "imagePath": path, **size}


@pytest.mark.parametrize(
    "value",
    [
        content([[1, 2], [31, 22]]),
        content([[31, 22], [1, 2]], path="..\\photos\\a.png"),
        content([[1, 2], [31, 2], [16, 22]], "polygon", "IMG_1.png"),
        content([[16, 12], [16, 22]], "circle") | {"imageHeight": None},
    ],
)
def test_shapes_and_names(value: dict[str, Any], tmp_path: Path) -> None:
    grow(tmp_path, {"a.json": value, "a.png": None})
    expected = [("cat", (6, 2, 26, 22))] if value["shapes"][0]["shape_type"] == "circle" else CAT
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": expected}
    assert boxes_of(read_annotated(tmp_path / "a.json")) == {"a.png": expected}


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    grow(tmp_path, {"photos/sub/a.png": None, "photos/a.jpg": None})
    pictures = [
        Labelled("sub/a.png", (40, 60), (Label("cat", (1, 2, 31, 22), 0.5),)),
        Labelled("a.jpg", (40, 60), ()),
    ]
    data = DataSet(pictures, ("cat",), tmp_path / "photos", place="copy")
    (tmp_path / "out").mkdir()
    write_labelme(data, tmp_path / "out")
    found = boxes_of(read_annotated(tmp_path / "out"))
    assert found == {"sub__a.png": CAT, "a.jpg": []}
