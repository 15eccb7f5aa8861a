"""CreateML, old and new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.data.formats.recognise import read_annotated
from glip.errors import DataError
from tests.data.formats.trees import boxes_of, grow

BOX = {"label": "cat", "coordinates": {"x": 16, "y": 12, "width": 30, "height": 20}}


@pytest.mark.parametrize(
    "entry",
    [{"image": "a.png", "annotations": [BOX]}, {"imagefilename": "a.png", "annotation": [BOX]}],
)
def test_boxes_are_about_their_middle(entry: dict[str, Any], tmp_path: Path) -> None:
    grow(tmp_path, {"train.json": [entry], "a.png": None})
    found = read_annotated(tmp_path / "train.json")
    assert boxes_of(found) == {"a.png": [("cat", (1, 2, 31, 22))]}


def test_faulty_pictures_are_counted(tmp_path: Path) -> None:
    good = {"image": "a.png", "annotations": [BOX]}
    grow(tmp_path, {"train.json": [good, {"image": "b.png", "annotations": [{}]}], "a.png": None})
    with pytest.raises(DataError, match=r"picture number 1: .* 1 of 2 images cannot be used"):
        read_annotated(tmp_path / "train.json")
