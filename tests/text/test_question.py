"""Questions: wordings, templates and negatives around a prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from glip.errors import PromptError
from glip.text.prompt import Prompt
from glip.text.question import question


@pytest.mark.parametrize(
    ("options", "text", "words", "labels"),
    [
        ({}, "sofa. cat", ["sofa", "cat"], [0, 1]),
        ({"negatives": ["dog"]}, "sofa. cat. dog", ["sofa", "cat", "dog"], [0, 1, 2]),
        (
            {"wordings": {"Sofa": ["couch", "settee"]}},
            "sofa. cat. couch. settee",
            ["sofa", "cat", "couch", "settee"],
            [0, 1, 0, 0],
        ),
        (
            {"template": "a {} here", "wordings": {"cat": ["kitten"]}, "negatives": ["dog"]},
            "a sofa here. a cat here. a kitten here. a dog here",
            ["sofa", "cat", "kitten", "dog"],
            [0, 1, 1, 2],
        ),
    ],
)
def test_all_wordings_are_asked(
    options: dict[str, Any], text: str, words: Sequence[str], labels: Sequence[int]
) -> None:
    prompt = Prompt.from_classes(["sofa", "cat"])
    asked = question(prompt, **options)
    assert asked.prompt is prompt and asked.asked.text == text
    assert [asked.asked.text[a:b] for ((a, b),) in asked.asked.phrases] == words
    assert list(asked.labels) == labels


def test_names_keep_their_last_period_where_nothing_follows() -> None:
    asked = question(Prompt.from_classes(["cat", "a.c."]), wordings={"cat": []}).asked
    assert asked.text == "cat. a.c." and asked.names == ("cat", "a.c.")


def test_a_caption_keeps_its_phrases() -> None:
    prompt = Prompt.from_caption("A man in a red hat.", ["a red hat", "man"])
    asked = question(prompt, negatives=["cap"])
    assert asked.asked.text == "A man in a red hat. cap"
    assert asked.asked.phrases == (*prompt.phrases, ((20, 23),))
    assert asked.asked.names == ("a red hat", "man", "cap")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "dog"}, "not_ must be a list of strings, got 'dog'"),
        ({"negatives": [3]}, "not_ must be a list of strings"),
        ({"negatives": [" "]}, "not_ holds an empty string"),
        ({"wordings": {"dog": ["hound"]}}, "wordings of 'dog', but names are sofa, cat"),
        ({"wordings": {"cat": "kitten"}}, "wordings of 'cat' must be a list"),
        ({"wordings": ["kitten"]}, r"wordings must be like {'sofa': \['couch'\]}, got \['kitten'"),
        ({"wordings": {3: ["kitten"]}}, "wordings must be like"),
        ({"negatives": ["dog", "Cat"]}, "not_ holds 'Cat', which is looked for"),
        ({"template": "a photo"}, "needs a single {}"),
    ],
)
def test_what_cannot_be_asked_says_why(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        question(Prompt.from_classes(["sofa", "cat"]), **options)


def test_a_template_is_for_class_names() -> None:
    with pytest.raises(PromptError, match="class names to fill it"):
        question(Prompt.from_caption("a man in a hat", ["hat"]), template="a {}")
