"""Words that the rules of the tagger look up: written as they are looked up, and in one class."""

import itertools

from glip.text import lexicon

LISTS = {
    name: words for name, words in vars(lexicon).items() if isinstance(words, (frozenset, set))
}


def test_words_are_written_as_they_are_looked_up() -> None:
    assert len(LISTS) > 20
    for name, words in LISTS.items():
        assert words, name
        assert all(word == word.strip().lower() and " " not in word for word in words), name


def test_closed_classes_share_no_word() -> None:
    closed = ("QUANTIFIERS", "MODALS", "CONJUNCTIONS")
    for one, other in itertools.combinations(closed, 2):
        assert not LISTS[one] & LISTS[other], (one, other)
