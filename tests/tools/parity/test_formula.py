"""Sentences of recorded cases, and what is no such sentence."""

import numpy as np
import pytest
from parity import recipe
from parity.formula import evaluate, margins

from glip.errors import ConfigError


def test_tensor_has_name_shape_and_law_of_the_sentence():
    names = {"name": "post3", "n": 2, "h": 4, "w": 5, "L": 6}
    made = evaluate("tensor(name + '/logits.pL', (n, h*w, 8), -4.5, 1.2)", names)
    np.testing.assert_array_equal(
        made, recipe.tensor("post3/logits.p6", (2, 20, 8), mean=-4.5, std=1.2)
    )


def test_comparison_gives_a_mask():
    made = evaluate("tensor('other.targets', (3, 4)) > 0.5", {})
    np.testing.assert_array_equal(made, recipe.tensor("other.targets", (3, 4)) > 0.5)


def test_words_behind_the_expression_are_for_people():
    made = evaluate("clip(floor(image(name, h, w) * 50 + 128), 0, 255), channels first, R, G, B",
                    {"name": "photo", "h": 9, "w": 7})  # fmt: skip
    picture = recipe.image("photo", 9, 7)
    wanted = np.clip(np.floor(picture * np.float32(50) + np.float32(128)), 0, 255)
    np.testing.assert_array_equal(made, wanted)
    assert made.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("as stored; of the other one", "holds no expression"),
        ("tensor(name, (2, 3))", "'name' is not known"),
        ("open('/etc/passwd')", "is not known"),
        ("().__class__", "is not known"),
        ("tensor('a', 3)", "cannot make an array"),
        ("tensor()", "cannot make an array"),
    ],
)
def test_other_sentences_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(text, {})


def test_margins_are_read_with_their_signs():
    said = "boxes that enclose the anchors: x1-7.3, y1 - 3, x2+2.2, y2+9.9"
    assert margins(said) == (-7.3, -3.0, 2.2, 9.9)
    with pytest.raises(ConfigError, match="does not say how far"):
        margins("x1-7.3, y1-3")
