"""Captions of other pictures beside the true one."""

from collections import Counter
from random import Random

import pytest

from glip.data.caption_packing import CaptionPacker, PackingConfig
from glip.errors import ConfigError
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer

TRUE = Prompt("a red box beside a disc", (((0, 9),), ((17, 23),)), ("box", "disc"))
OTHERS = [f"number {word}" for word in ("one", "two", "three", "four", "five")]
ALWAYS = PackingConfig(captions=3, none_probability=0, full_probability=1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.bert_uncased()


def packed(tokenizer, config=ALWAYS, seed=0, others=OTHERS, **options):
    rng = Random(seed)
    packer = CaptionPacker(tokenizer, config, **options)
    return packer(TRUE, lambda: rng.choice(others), rng)


def test_phrases_move_with_their_caption(tokenizer):
    places = Counter()
    for seed in range(60):
        prompt = packed(tokenizer, seed=seed, others=["a b.", "c d"])
        pieces = prompt.text.replace(". ", ".|").split("|")
        assert sorted(pieces) == ["a b.", "a red box beside a disc.", "c d."] or len(pieces) == 2
        words = [[prompt.text[a:b] for a, b in spans] for spans in prompt.phrases]
        assert words == [["a red box"], ["a disc"]]
        assert prompt.names == ("box", "disc")
        places[len(pieces), pieces.index("a red box beside a disc.")] += 1
    assert {place for pieces, place in places if pieces == 3} == {0, 1, 2}


def test_other_captions_join_as_long_as_there_is_room(tokenizer):
    # With [CLS], [SEP] and a period the caption takes 9 tokens, each other one 3.
    for room, joined in ((12, 1), (11, 0), (7, 0), (15, 2), (250, 3)):
        texts = [packed(tokenizer, seed=s, max_tokens=room).text for s in range(20)]
        assert max(text.count("number") for text in texts) == joined
        assert all(len(tokenizer.encode(text)) <= room for text in texts if "number" in text)


def test_caption_that_is_drawn_again_is_no_negative(tokenizer):
    assert packed(tokenizer, others=[TRUE.text, f"{TRUE.text}. "]) is TRUE
    assert packed(tokenizer, others=["a cup"]).text.count("a cup.") == 1


def test_how_many_join_is_drawn(tokenizer):
    config = PackingConfig(captions=4, none_probability=0.4, full_probability=0.5)
    others = [f"number {n} and {m}" for n in range(50) for m in range(50)]
    counts = Counter(
        packed(tokenizer, config, seed, others).text.count("number") for seed in range(1000)
    )
    # Alone 0.4 + 0.6 * 0.5 / 4; one to three 0.6 * 0.5 / 4 each; all four 0.6 * 0.5.
    for joined, share in enumerate([0.475, 0.075, 0.075, 0.075, 0.3]):
        assert counts[joined] / 1000 == pytest.approx(share, abs=0.045)
    assert packed(tokenizer, PackingConfig()) is TRUE


@pytest.mark.parametrize("options", [{"captions": -1}, {"none_probability": 2}])
def test_options_out_of_range(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        PackingConfig(**options)
