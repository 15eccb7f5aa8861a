"""Recall of phrases, by hand."""

from pathlib import Path

import numpy as np
import pytest

from glip.data.formats.flickr import FlickrData, FlickrPhrase, FlickrSentence
from glip.data.packed import Packed
from glip.errors import DataError
from glip.evaluation.flickr import FlickrEvaluator, first_hit
from glip.evaluation.predictions import prediction


def phrase(kinds, *boxes):
    return FlickrPhrase((0, 1), 1, kinds, np.array(boxes, dtype=float).reshape(-1, 4))


@pytest.fixture
def data():
    """A sentence of two boxed phrases, the first with two boxes side by side."""
    phrases = (
        phrase(("people",), [0, 0, 10, 10], [10, 0, 20, 10]),
        phrase(("scene",)),
        phrase(("clothing", "other"), [50, 50, 60, 60]),
    )
    sentence = FlickrSentence("12", 0, "12.jpg", (100, 100), "two men in a shirt", phrases)
    return FlickrData(Path("flickr"), Packed([sentence]))


@pytest.mark.parametrize(
    ("boxes", "truth", "expected"),
    [
        ([[0, 0, 10, 10]], [[0, 0, 10, 10]], 0),
        ([[0, 0, 10, 5]], [[0, 0, 10, 10]], 0),  # exactly one half
        ([[0, 0, 10, 4.9]], [[0, 0, 10, 10]], np.inf),
        ([[90, 90, 99, 99], [1, 0, 10, 10]], [[50, 50, 60, 60], [0, 0, 10, 10]], 1),
        ([[0, 0, 0, 0]], [[0, 0, 0, 0]], np.inf),
        (np.zeros((0, 4)), [[0, 0, 10, 10]], np.inf),
    ],
)
def test_first_hit(boxes, truth, expected):
    assert first_hit(np.array(boxes, dtype=float), np.array(truth, dtype=float)) == expected


def test_any_box_and_merged_box_differ(data):
    evaluator = FlickrEvaluator(data)
    # Phrase 0: first its left box, then the one around both. Phrase 1: right only at rank 2.
    evaluator.update(
        prediction(
            "12#0",
            [[0, 0, 11, 11], [0, 0, 21, 11], [0, 0, 6, 6], [50, 50, 61, 61]],
            [0.9, 0.8, 0.7, 0.6],
            [0, 0, 1, 1],
        )
    )
    result = evaluator.compute()
    assert result["R@1"] == 0.5 and result["R@5"] == 1 and result["R@all"] == 1
    assert result["merged/R@1"] == 0.5  # the left box is exactly half of both together
    kinds = evaluator.per_class()
    assert kinds["people/R@1"] == 1 and kinds["clothing/R@1"] == 0 and kinds["other/R@5"] == 1
    assert not any(name.startswith("scene") for name in kinds)


def test_sentence_without_prediction_is_missed(data):
    assert FlickrEvaluator(data).compute()["R@all"] == 0


def test_data_without_boxes_is_refused(data):
    sentence = data.sentences[0]
    bare = FlickrSentence("1", 0, "1.jpg", (9, 9), "x", (sentence.phrases[1],))
    with pytest.raises(DataError, match="no phrase with a box"):
        FlickrEvaluator(FlickrData(Path("flickr"), Packed([bare])))
