"""Names, sentences and requests."""

import pytest

from glip.text.sentences import are_names, pieces_of, without_request
from glip.text.tagger import Tag, tag_words


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("cat. dog.", ["cat", "dog"]),
        ("st. bernard. a.c. unit.", ["st. bernard", "a.c. unit"]),
        ("cat\n* dog; bus", ["cat", "dog", "bus"]),
        (" . ", []),
    ],
)
def test_pieces_lie_between_periods_line_ends_and_semicolons(text: str, pieces: list[str]) -> None:
    assert [text[a:b] for a, b in pieces_of(text)] == pieces


@pytest.mark.parametrize(
    ("pieces", "names"),
    [
        (["cat", "dog"], True),
        (["traffic light"], True),
        (["a cat sits on a mat"], False),
        (["he walks", "the dog is brown"], False),
    ],
)
def test_names_hold_no_sentence(pieces: list[str], names: bool) -> None:
    assert are_names(pieces) == names


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("find me all of the raccoons please", "raccoons"),
        ("Please show me every red car in this picture.", "red car"),
        ("where are the two dogs?", "two dogs"),
        ("can you find the cat and the dog, please?", "cat and the dog"),
        ("detect cats. dogs.", "cats. dogs."),
        ("find", "find"),
        ("box jelly fish", "box jelly fish"),
        ("show jumping horse", "show jumping horse"),
        ("get well soon card", "get well soon card"),
        ("a man looking for a dog", "a man looking for a dog"),
    ],
)
def test_of_a_request_what_is_asked_for_is_left(text: str, asked: str) -> None:
    assert without_request(text) == asked


def test_a_word_of_any_length_has_a_tag() -> None:
    assert [word.tag for word in tag_words("x" * 50_000 + "ing")] == [Tag.NOUN]
