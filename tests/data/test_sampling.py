"""Prompts of training pictures."""

from collections import Counter
from random import Random

import pytest

from glip.data.sampling import PromptSampler, SamplingConfig, class_prompt
from glip.errors import ConfigError, PromptError
from glip.text.tokenizer import Tokenizer

NAMES = tuple(f"thing {n}" for n in range(100))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.bert_uncased()


def sampler(tokenizer, names=NAMES, max_tokens=256, **config):
    return PromptSampler(names, tokenizer, SamplingConfig(**config), max_tokens=max_tokens)


def test_all_positives_are_there_and_point_at_their_names(tokenizer):
    draw = sampler(tokenizer)
    for seed in range(20):
        prompt, rows = draw([3, 50], range(4, 50), Random(seed))
        assert set(rows) == {3, 50}
        assert [prompt.names[rows[c]] for c in (3, 50)] == ["thing 3", "thing 50"]
        assert prompt.text == ". ".join(prompt.names)


def test_negatives_come_from_absent_classes_only(tokenizer):
    draw = sampler(tokenizer)
    for seed in range(50):
        prompt, _ = draw([0], [7, 8, 9], Random(seed))
        assert set(prompt.names) <= {"thing 0", "thing 7", "thing 8", "thing 9"}


def test_number_of_negatives_follows_the_official_law(tokenizer):
    """Half of the time all that are wanted, else a uniform number; draws of positives are lost."""
    draw = sampler(tokenizer, max_negatives=10)
    counts = Counter(len(draw([0], range(1, 100), Random(seed)).prompt) - 1 for seed in range(4000))
    # The positive is among n drawn of 100 with probability n / 100.
    law = {n: 0.05 + (0.5 if n == 10 else 0) for n in range(1, 11)}
    for n in range(11):
        expected = law.get(n, 0) * (1 - n / 100) + law.get(n + 1, 0) * (n + 1) / 100
        assert counts[n] / 4000 == pytest.approx(expected, abs=0.03)


def test_some_prompts_ask_for_a_part_of_what_is_there(tokenizer):
    """None to all but one of what is there, each number as often, beside few that are not."""
    draw = sampler(tokenizer, partial_probability=1.0, max_negatives=40)
    asked, others = Counter(), []
    for seed in range(3000):
        prompt, rows = draw([0, 1, 2], range(3, 100), Random(seed))
        assert {row: prompt.names[place] for row, place in rows.items()} == {
            row: f"thing {row}" for row in rows
        }
        named = {int(name.split()[1]) for name in prompt.names}
        assert named & {0, 1, 2} == set(rows), "what is there and not asked for is no negative"
        asked[len(rows)] += 1
        others.append(len(named - set(rows)))
    assert all(count / 3000 == pytest.approx(1 / 3, abs=0.05) for count in asked.values())
    assert set(asked) == {0, 1, 2}
    assert min(others) == 1 and max(others) == 40
    assert sorted(others)[1500] == pytest.approx(40**0.5, abs=1.5)


def test_a_part_is_asked_for_as_often_as_told_and_only_where_something_is_absent(tokenizer):
    draw = sampler(tokenizer, partial_probability=0.25)
    partial = sum(len(draw([0], range(1, 9), Random(seed)).rows) == 0 for seed in range(2000))
    assert partial / 2000 == pytest.approx(0.25, abs=0.04)
    assert all(set(draw([0, 1], [], Random(seed)).rows) == {0, 1} for seed in range(50))
    assert all(draw([], [5], Random(seed)).rows == {} for seed in range(50))


def test_all_is_asked_for_where_a_part_would_leave_nothing(tokenizer):
    """What is absent goes by a word for what is there, so it is no negative."""
    wordings = {"plane": ["jet"], "jet": ["plane"]}
    draw = sampler(tokenizer, ("plane", "jet"), partial_probability=1.0, wordings=wordings)
    assert all(set(draw([0], [1], Random(seed)).rows) == {0} for seed in range(50))


def test_same_seed_same_prompt(tokenizer):
    draw = sampler(tokenizer)
    assert draw([1, 2], range(3, 90), Random(5)) == draw([1, 2], range(3, 90), Random(5))


def test_order_is_random_unless_told_otherwise(tokenizer):
    shuffled = sampler(tokenizer, negatives="all")
    orders = {shuffled([2], [0, 1, 3], Random(seed)).prompt.names for seed in range(200)}
    assert len(orders) == 24
    fixed = sampler(tokenizer, negatives="all", shuffle=False)
    prompt, rows = fixed([2], [3, 1, 0], Random(0))
    assert prompt.names == NAMES[:4] and rows == {2: 2}


def test_prompt_never_exceeds_the_text_encoder(tokenizer):
    draw = sampler(tokenizer, negatives="all", max_tokens=64)
    for seed in range(30):
        prompt, rows = draw(range(5), range(5, 100), Random(seed))
        assert len(tokenizer.encode(prompt.text)) <= 64
        assert set(rows) == set(range(5))


def test_positives_that_do_not_fit_are_left_out_at_random(tokenizer):
    draw = sampler(tokenizer, max_tokens=32)
    kept = Counter()
    for seed in range(300):
        prompt, rows = draw(range(20), [], Random(seed))
        assert len(tokenizer.encode(prompt.text)) <= 32
        kept.update(rows)
    assert set(kept) == set(range(20))


def test_official_background_may_be_drawn(tokenizer):
    draw = sampler(tokenizer, background=True)
    texts = [draw([0], range(1, 40), Random(seed)).prompt.text for seed in range(50)]
    assert any(" background " in text for text in texts)


def test_wordings_take_turns_and_count_as_the_class(tokenizer):
    draw = sampler(tokenizer, ("car", "dog"), wordings={"car": ["automobile", "motorcar"]})
    seen = Counter()
    for seed in range(300):
        prompt, rows = draw([0], [1], Random(seed))
        seen[prompt.names[rows[0]]] += 1
    assert set(seen) == {"car", "automobile", "motorcar"}
    assert min(seen.values()) > 60


def test_wording_of_a_positive_is_never_a_negative(tokenizer):
    draw = sampler(
        tokenizer, ("car", "automobile", "Car_"), negatives="all", wordings={"car": ["automobile"]}
    )
    for seed in range(20):
        assert len(draw([0], [1, 2], Random(seed)).prompt) == 1


def test_two_classes_of_one_wording_share_a_phrase(tokenizer):
    prompt, rows = sampler(tokenizer, ("car", "Car_(vehicle)", "dog"))([0, 1], [], Random(0))
    assert len(prompt) == 1 and rows == {0: 0, 1: 0}


def test_mirrored_picture_has_mirrored_names(tokenizer):
    draw = sampler(tokenizer, ("left hand", "right hand"), negatives="all", shuffle=False)
    prompt, rows = draw([0], [1], Random(0), mirrored=True)
    assert prompt.names == ("right hand", "left hand") and rows == {0: 0}


def test_nothing_to_ask_for_is_no_prompt(tokenizer):
    assert sampler(tokenizer)([], [], Random(0)) is None
    assert len(sampler(tokenizer)([], [4], Random(0)).prompt) == 1


def test_decorated_names_are_the_only_phrases():
    prompt = class_prompt(["fish", "stingray"], {"stingray": ("", " which is flat and round")})
    assert prompt.text == "fish. stingray which is flat and round"
    assert [prompt.text[a:b] for ((a, b),) in prompt.phrases] == ["fish", "stingray"]


def test_name_longer_than_the_encoder_is_refused_at_once(tokenizer):
    with pytest.raises(
        PromptError, match=r"class 'thing 0' needs 3 tokens.*room for 2; shorten it"
    ):
        sampler(tokenizer, max_tokens=4)
    with pytest.raises(PromptError, match="class name 0 is empty"):
        sampler(tokenizer, (" ",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "some"}, "negatives must be one of"),
        ({"max_negatives": 0}, "max_negatives must be at least 1"),
        ({"full_probability": 2}, "full_probability must lie in"),
        ({"decorations": {"a": ["b"]}}, "must be .before, after."),
        ({"decorations": {"a": "bc"}}, "must be .before, after., got 'bc'"),
        ({"wordings": {"dog": "puppy"}}, "'dog' must be a list of texts, .* got 'puppy'"),
        ({"wordings": {"dog": [3]}}, "'dog' must be a list of texts"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        SamplingConfig(**options)


@pytest.mark.parametrize(("mirrored", "negatives"), [(False, {"leftie", "door"}), (True, {"door"})])
def test_names_that_a_mirrored_picture_makes_one_are_no_negatives(tokenizer, mirrored, negatives):
    """A person called "rightie" reads as the class "leftie", which has no mirror of its own."""
    draw = sampler(
        tokenizer, ("person", "leftie", "door"), negatives="all", wordings={"person": ["rightie"]}
    )
    found = set()
    for seed in range(40):
        prompt, rows = draw([0], [1, 2], Random(seed), mirrored=mirrored)
        found |= set(prompt.names) - {prompt.names[rows[0]]}
    assert found == negatives


def test_a_class_called_background_that_is_there_is_no_negative(tokenizer):
    draw = sampler(
        tokenizer, ("background", "cat"), background=True, wordings={"background": ["scenery"]}
    )
    for seed in range(40):
        prompt, rows = draw([0], [1], Random(seed))
        assert set(prompt.names) <= {prompt.names[rows[0]], "cat"}


def test_what_is_said_of_a_name_holds_in_both_unicode_forms(tokenizer):
    words = {"cafe\u0301": ["bistro\u0301"]}
    draw = sampler(
        tokenizer, ("caf\u00e9",), wordings=words, decorations={"bistro\u0301": ["the ", ""]}
    )
    texts = {draw([0], [], Random(seed)).prompt.text for seed in range(20)}
    assert texts == {"caf\u00e9", "the bistr\u00f3"}
