"""The thresholds of following become those of boxes and of tracks."""

from __future__ import annotations

from typing import Any

import pytest

from glip.association.options import FollowOptions
from glip.errors import ConfigError


def test_boxes_that_carry_tracks_on_are_kept() -> None:
    usual = FollowOptions(nms=0.5, exclusive=True)
    assert usual.association(0.4).threshold == 0.4
    assert (usual.of_detections(0.4).score, usual.of_detections(0.4).nms) == (0.1, 0.5)
    own = FollowOptions(threshold=0.7, low=0.3)
    assert own.association(0.4).threshold == 0.7 and own.of_detections(0.4).score == 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be a whole number from 1, got 0"),
        ({"every": 1.5}, "every must be a whole number from 1, got 1.5"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FollowOptions(**options)
