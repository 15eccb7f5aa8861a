"""Long prompts in pieces, as plain texts and spans."""

import pytest

from glip.errors import PromptError
from glip.text.pack import join, split_caption, split_names
from glip.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.bert_uncased()


def test_joined_names_and_their_places() -> None:
    text, phrases = join(["red cat", "dog"], ". ")
    assert text == "red cat. dog"
    assert phrases == (((0, 7),), ((9, 12),))


def test_names_are_packed_in_as_few_parts_as_we_can() -> None:
    names = ["a b c", "d", "e f", "g"]  # with [CLS] and [SEP], 3 + 1 + 1 tokens fit
    parts = next(split_names(names, TOKENIZER, 7, None))
    assert [list(part.rows) for part in parts] == [[0, 1], [2, 3]]
    assert [part.text for part in parts] == ["a b c. d", "e f. g"]
    apart = next(split_names(names, TOKENIZER, 7, 1))
    assert [part.text for part in apart] == names


def test_captions_are_cut_between_phrases() -> None:
    text = "a cat on a mat, a dog on a rug"
    phrases = [[(0, 5)], [(16, 21)]]
    encoding = TOKENIZER.encode(text)
    parts = next(split_caption(text, phrases, encoding, 8))
    assert [part.text for part in parts] == ["a cat on a mat,", "a dog on a rug"]
    for part, phrase in zip(parts, ("a cat", "a dog"), strict=True):
        [[(start, end)]] = part.phrases
        assert part.text[start:end] == phrase


def test_a_phrase_that_fits_nowhere_is_named() -> None:
    with pytest.raises(PromptError, match=r"phrase 1 \('a b c d'\) needs 4 tokens"):
        next(split_names(["x", "a b c d"], TOKENIZER, 5, None))
    text = "x a b c d"
    with pytest.raises(PromptError, match=r"phrase 0 \('a b c d'\) needs 4 tokens"):
        next(split_caption(text, [[(2, 9)]], TOKENIZER.encode(text), 5))
