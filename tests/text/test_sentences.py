"""Typed texts fall into names or sentences."""

import pytest

from glip.text.sentences import are_names, pieces_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("person. bicycle. ", ["person", "bicycle"]),
        ("person; bicycle\ncar", ["person", "bicycle", "car"]),
        ("猫。犬", ["猫", "犬"]),
        ("a.c. unit. fan", ["a.c. unit", "fan"]),
        ("Mr. Smith. a dog", ["Mr. Smith", "a dog"]),
        ("version 1.5 of it", ["version 1.5 of it"]),
        ("...", []),
    ],
)
def test_pieces_end_at_periods_that_end_something(text: str, expected: list[str]) -> None:
    assert [text[a:b] for a, b in pieces_of(text)] == expected


@pytest.mark.parametrize(
    ("pieces", "names"),
    [
        (["traffic light"], True),
        (["person", "red car", "hot dog"], True),
        (["a man holds an umbrella"], False),
        (["The dog is red", "It sits on a bench"], False),
        (["it"], False),
    ],
)
def test_names_are_told_from_sentences(pieces: list[str], names: bool) -> None:
    assert are_names(pieces) is names
