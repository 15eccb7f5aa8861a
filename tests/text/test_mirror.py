"""Left and right in words."""

import pytest

from glip.text.mirror import mirror, mirror_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two dogs", "two dogs"),
        ("the man on the left", "the man on the right"),
        ("Right hand of the LEFT player", "Left hand of the RIGHT player"),
        ("a cup to the left of the plate", "a cup to the right of the plate"),
        ("the leftmost and the rightmost car", "the rightmost and the leftmost car"),
        ("his left and right hands", "his right and left hands"),
        ("the boy's right shoe", "the boy's left shoe"),
        ("a left-handed pitcher", "a right-handed pitcher"),
        ("a woman facing left, smiling", "a woman facing right, smiling"),
        ("a dog left of a cat", "a dog right of a cat"),
        ("bright lights, an upright piano and a copyright", None),
        ("the right angle of the roof", None),
        ("a man standing right next to a car", None),
        ("a girl looking right at the camera", None),
        ("the man has left the building", None),
        ("what is left of the cake", None),
        ("luggage left behind", None),
    ],
)
def test_directions_are_exchanged_only_where_they_are_sure(text, expected):
    mirrored = mirror(text)
    if "bright" in text:  # inside other words there is nothing to exchange
        assert mirrored is not None and mirrored.text == text
    else:
        assert (mirrored and mirrored.text) == expected


def test_mirroring_twice_gives_the_caption_back():
    text = "the left hand on the right side of the leftmost man"
    once = mirror(text)
    assert once is not None
    twice = mirror(once.text)
    assert twice is not None and twice.text == text


def test_spans_move_with_the_words():
    text = "the left cup, the right plate and the left spoon"
    mirrored = mirror(text)
    assert mirrored is not None
    for words, expected in (
        ("the left cup", "the right cup"),
        ("cup", "cup"),
        ("right plate", "left plate"),
        ("plate", "plate"),
        ("spoon", "spoon"),
    ):
        start = text.index(words)
        a, b = mirrored.span((start, start + len(words)))
        assert mirrored.text[a:b] == expected


def test_span_that_cuts_an_exchanged_word_takes_all_of_it():
    mirrored = mirror("the left cup")
    assert mirrored is not None
    a, b = mirrored.span((0, 6))  # "the le"
    assert mirrored.text[a:b] == "the right"
    a, b = mirrored.span((6, 12))  # "ft cup"
    assert mirrored.text[a:b] == "right cup"


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("left hand", (), "right hand"),
        ("myleft", ("myleft", "myright"), "myright"),
        ("bright lamp", ("bright lamp",), "bright lamp"),
        ("cat", ("cat",), "cat"),
    ],
)
def test_class_names(name, names, expected):
    assert mirror_name(name, names) == expected
