"""The built-in chunker, rule by rule and on 195 captions of our own with every phrase marked.

`marked_captions.txt` holds one caption a line, its base noun phrases in brackets. At first sight,
before any rule was changed for them, the chunker found 384 of the 398 phrases of the first 140
captions and 15 spans that are none (precision 0.962, recall 0.965). The other 55 were written
later, in the manner of people who caption photos and some of them after its mistakes on real
captions: 172 of 182 phrases and 17 spans that are none (0.910, 0.945). Now precision is 0.983 and
recall 0.990 over all.
"""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from glip.errors import ConfigError
from glip.text import nouns
from glip.text.nouns import Span, noun_phrases

MARKED = Path(__file__).with_name("marked_captions.txt")


def phrases(caption: str) -> list[str]:
    return [caption[a:b] for a, b in noun_phrases(caption, "builtin")]


def unmark(line: str) -> tuple[str, set[Span]]:
    """The caption of a line, and the spans of its brackets."""
    caption, spans, start = "", set(), 0
    for character in line:
        if character == "[":
            start = len(caption)
        elif character == "]":
            spans.add((start, len(caption)))
        else:
            caption += character
    return caption, spans


def test_marked_captions() -> None:
    right = found = marked = 0
    lines = MARKED.read_text(encoding="utf-8").splitlines()
    for line in lines:
        caption, spans = unmark(line)
        ours = set(noun_phrases(caption, "builtin"))
        right, found, marked = right + len(ours & spans), found + len(ours), marked + len(spans)
    assert len(lines) >= 195
    assert marked >= 580
    assert right / found >= 0.98
    assert right / marked >= 0.98


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        # determiners
        ("All the children and both my dogs", ["All the children", "both my dogs"]),
        ("Three of the cups", ["the cups"]),
        ("Each player has another ball", ["Each player", "another ball"]),
        ("She lost her keys near her", ["her keys"]),
        ("A man that sits in that chair", ["A man", "that chair"]),
        # conjunctions
        ("a red and white boat", ["a red and white boat"]),
        ("a cup and a plate", ["a cup", "a plate"]),
        ("cats, dogs & birds", ["cats", "dogs", "birds"]),
        ("A dog runs and jumps", ["A dog"]),
        # adjectives
        ("The house is big and old", ["The house"]),
        ("a big, old, brightly lit house", ["a big, old, brightly lit house"]),
        ("a two year old girl", ["a two year old girl"]),
        ("a navy blue coat", ["a navy blue coat"]),
        ("an orange on an orange plate", ["an orange", "an orange plate"]),
        ("a snow covered roof", ["a snow covered roof"]),
        # prepositions
        ("in front of the door", ["the door"]),
        ("a cat on top of the car", ["a cat", "the car"]),
        ("standing next to a bus", ["a bus"]),
        ("the front of the bus", ["the front", "the bus"]),
        ("two kids side by side", ["two kids"]),
        # verbs and nouns that look the same
        ("A man parks near a park", ["A man", "a park"]),
        ("A traffic light", ["A traffic light"]),
        ("The woman lights a candle", ["The woman", "a candle"]),
        ("People watch a watch", ["People", "a watch"]),
        ("a dining table in a building", ["a dining table", "a building"]),
        ("a man painting a painting", ["a man", "a painting"]),
        ("a smiling child riding bikes", ["a smiling child", "bikes"]),
        ("a parked car parked here", ["a parked car"]),
        ("ready to eat the cake", ["the cake"]),
        # possessives and clitics
        ("the dog's owner's hat", ["the dog's owner's hat"]),
        ("A man's riding a bike that isn't his", ["A man", "a bike"]),
        # pronouns alone
        ("it watches them and someone waves", []),
        ("they look at each other", []),
        # idioms, clothes and what nobody can box
        ("a dog in front and a front door", ["a dog", "a front door"]),
        ("a show takes place in its place", ["a show", "its place"]),
        ("dogs play tug of war", ["dogs"]),
        ("two men knee deep in knee deep snow", ["two men", "knee deep snow"]),
        ("a man in black climbs a red wall", ["a man", "black", "a red wall"]),
        ("a woman in a red coat wearing black", ["a woman", "a red coat", "black"]),
        ("a freshly cut lawn with an unmade bed", ["a freshly cut lawn", "an unmade bed"]),
        # unusual words and signs
        ("a t-shirt at 5 o'clock", ["a t-shirt", "5 o'clock"]),
        ("THE BIG DOG RUNS", ["THE BIG DOG"]),
        ("a café’s naïve waiter", ["a café’s naïve waiter"]),
        ("an a.c. unit", ["an a.c. unit"]),
        ("a zorblax near the frobnicator", ["a zorblax", "the frobnicator"]),
        ("🐶 a dog", ["a dog"]),
        ("", []),
        ("...", []),
    ],
)
def test_rules(caption: str, expected: list[str]) -> None:
    assert phrases(caption) == expected


def test_spans_lie_in_order_and_do_not_overlap() -> None:
    caption = "A man's dog and two cats sit in front of the big old house, all wet."
    spans = noun_phrases(caption, "builtin")
    flat = [position for span in spans for position in span]
    assert flat == sorted(flat)
    assert all(a < b for a, b in spans)


@pytest.mark.parametrize("word", ["running", "red", "dog", "walk", "very", "a dog, "])
def test_time_grows_with_the_text_and_no_faster(word: str) -> None:
    start = time.perf_counter()
    noun_phrases((word + " ") * 3000, "builtin")
    assert time.perf_counter() - start < 3  # some 0.1 s here; quadratic work would take minutes


class Chunk(list[SimpleNamespace]):
    """As much of a spaCy noun chunk as we read: characters, and tokens with a part of speech."""

    def __init__(self, start_char: int, end_char: int, pos: str) -> None:
        super().__init__([SimpleNamespace(pos_=pos)])
        self.start_char, self.end_char = start_char, end_char


def test_spacy_is_used_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    document = SimpleNamespace(noun_chunks=[Chunk(0, 2, "PRON"), Chunk(9, 14, "NOUN")])
    monkeypatch.setattr(nouns, "_spacy_pipeline", lambda: lambda caption: document)
    assert noun_phrases("It likes a dog", "auto") == [(9, 14)]
    assert noun_phrases("It likes a dog", "spacy") == [(9, 14)]
    assert noun_phrases("It has a big dog", "builtin") == [(7, 16)]


def test_without_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nouns, "_spacy_pipeline", lambda: None)
    assert noun_phrases("a dog", "auto") == [(0, 5)]
    with pytest.raises(ConfigError, match="needs spaCy and an English model"):
        noun_phrases("a dog", "spacy")


def test_unknown_chunker() -> None:
    with pytest.raises(ConfigError, match="unknown name 'nltk'"):
        noun_phrases("a dog", "nltk")  # type: ignore[arg-type]
