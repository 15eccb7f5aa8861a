"""What a detection data set knows of its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glip.data.packed import Packed
from glip.data.records import DetectionData, DetectionRecord
from glip.errors import DataError


def data(**known: object) -> DetectionData:
    record = DetectionRecord(
        image_id=1,
        file_name="a.png",
        image_hw=(40, 60),
        boxes=np.ones((1, 4)),
        labels=np.array([1]),
        crowd=np.zeros(1, dtype=np.bool_),
        **known,  # type: ignore[arg-type]
    )
    names = ("cat", "dog", "cup", "car")
    return DetectionData(
        Path("x.json"), names, (1, 2, 3, 4), Packed([record]), {"pets": (0, 1), "things": (2, 3)}
    )


@pytest.mark.parametrize(
    ("known", "absent"),
    [
        ({}, (0, 2, 3)),
        ({"absent": (0, 1)}, (0,)),
        ({"absent": (0, 3), "not_exhaustive": (3,)}, (0,)),
        ({"vocabulary": "pets"}, (0,)),
        ({"vocabulary": "none"}, (0, 2, 3)),
    ],
)
def test_unknown_is_not_absent(known: dict[str, object], absent: tuple[int, ...]) -> None:
    found = data(**known)
    assert found.absent(found.records[0]) == absent


def test_one_vocabulary_of_several() -> None:
    assert len(data(vocabulary="pets").only("pets")) == 1
    with pytest.raises(DataError, match="no picture of the vocabulary 'things'; it has pets"):
        data(vocabulary="pets").only("things")
