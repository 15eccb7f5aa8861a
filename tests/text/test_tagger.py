"""Tags of single words in their sentences; phrases are tested in test_nouns.py."""

import pytest

from glip.text.tagger import Tag, tag_words


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("the two dogs", [Tag.ARTICLE, Tag.QUANTIFIER, Tag.NOUN]),
        ("a man is riding", [Tag.ARTICLE, Tag.NOUN, Tag.BE, Tag.VERB]),
        ("running water", [Tag.ADJECTIVE, Tag.NOUN]),
        ("the man's hat", [Tag.ARTICLE, Tag.NOUN, Tag.POSSESSIVE, Tag.NOUN]),
        ("he sits, they run", [Tag.PRONOUN, Tag.VERB, Tag.PUNCTUATION, Tag.PRONOUN, Tag.VERB]),
    ],
)
def test_tags_follow_neighbours(caption: str, tags: list[Tag]) -> None:
    assert [word.tag for word in tag_words(caption)] == tags


def test_spans_are_those_of_the_caption() -> None:
    caption = "A man\u2019s T-shirt, 3.5 m"
    words = tag_words(caption)
    assert [caption[a:b] for a, b in (word.span for word in words)] == [
        "A", "man", "\u2019s", "T-shirt", ",", "3.5", "m",
    ]  # fmt: skip
    assert [word.text for word in words][:3] == ["a", "man", "'s"]
