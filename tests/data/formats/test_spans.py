"""Spans of phrases in captions."""

import numpy as np
import pytest

from glip.data.formats.spans import checked_phrase, grounding_record

CAPTION = "a red box left of a blue box"


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[0, 3]], ((0, 3),)),
        ([[4, 9], [0, 3]], ((0, 3), (4, 9))),
        ([[0, 5], [3, 9]], ((0, 9),)),
        ([[0, 3], [3, 9]], ((0, 9),)),
        ([[0, 29]], None),
        ([[3, 3]], None),
        ([[-1, 3]], None),
        ([[1, 2]], None),  # a blank
        ([0, 3], None),
        ("ab", None),
    ],
)
def test_spans_of_a_phrase(spans, expected):
    assert checked_phrase(spans, CAPTION) == expected


def test_boxes_of_equal_spans_share_a_phrase():
    phrases = [((0, 9),), ((18, 28),), ((0, 9),)]
    record = grounding_record(1, "a.png", (40, 60), CAPTION, phrases, np.zeros((3, 4)))
    assert record.phrases == (((0, 9),), ((18, 28),)) and record.owners.tolist() == [0, 1, 0]
