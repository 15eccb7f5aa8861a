"""Tags of words."""

from glip.text.nouns import Tag, tag_words


def test_tags_tell_a_sentence_from_a_name() -> None:
    tags = [word.tag for word in tag_words("The dog is red.")]
    assert tags == [Tag.ARTICLE, Tag.NOUN, Tag.BE, Tag.ADJECTIVE, Tag.PUNCTUATION]
