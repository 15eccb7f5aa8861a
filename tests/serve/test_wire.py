"""What requests may hold, field by field."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from glip.serve.refusals import Refusal
from glip.serve.wire import DetectQuestion, GroundQuestion, answer, by_phrase, validated
from glip.structures import Detections
from glip.text.prompt import Prompt

pytestmark = pytest.mark.whole


def test_defaults_are_those_of_predict() -> None:
    question = validated(DetectQuestion, {})
    assert question.threshold is None
    assert (question.nms, question.max_detections) == (0.6, 100)
    assert (question.aggregate, question.exclusive) == (None, False)


def test_words_of_a_form_become_numbers_and_truths() -> None:
    fields = {"threshold": "0.25", "max_detections": "7", "exclusive": "true"}
    question = validated(DetectQuestion, fields)
    assert (question.threshold, question.max_detections, question.exclusive) == (0.25, 7, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": 2}, "threshold: input should be less than or equal to 1"),
        ({"threshold": float("nan")}, "threshold"),
        ({"max_detections": 1e9}, "max_detections"),
        ({"aggregate": "sum"}, "aggregate: input should be 'mean', 'max' or 'first'"),
        ({"x" * 500: 1}, "x" * 60 + ": no such field"),
        ({"classes": ["a", {"b": "c" * 5000}]}, "classes.1: input should be a valid string"),
    ],
)
def test_the_wrong_field_is_named_and_not_repeated(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refused:
        validated(DetectQuestion, fields)
    assert refused.value.message.startswith(message)
    assert len(refused.value.message) < 200


def test_a_caption_is_needed() -> None:
    with pytest.raises(Refusal, match="caption: is missing"):
        validated(GroundQuestion, {"phrases": ["a"]})


def test_an_answer_by_phrase() -> None:
    prompt = Prompt("a cat and a dog", ((((0, 5)),), (((10, 15)),)))
    found = Detections(
        torch.zeros(3, 4),
        torch.tensor([0.9, 0.8, 0.7]),
        torch.tensor([1, 0, 1]),
        prompt,
        (10, 20),
    )
    assert by_phrase(found) == [
        {"phrase": "a cat", "spans": [[0, 5]], "detections": [1]},
        {"phrase": "a dog", "spans": [[10, 15]], "detections": [0, 2]},
    ]
    assert list(answer("a.jpg", found)) == ["image", "width", "height", "prompt", "detections"]
