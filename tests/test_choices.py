"""Words of options: each set once, in the same words wherever it is used."""

from typing import get_args

import pytest

from glip import choices
from glip.evaluation.average_precision import MODULES
from glip.evaluation.config import METRICS
from glip.tuning.options import RATES

SETS = {name: get_args(value) for name, value in vars(choices).items() if get_args(value)}


def test_words_of_a_set_differ_and_can_be_typed() -> None:
    assert {"Aggregate", "Backend", "DType", "LabelFormat", "Task", "TuneMode"} <= set(SETS)
    for name, words in SETS.items():
        assert len(words) == len(set(words)) > 1, name
        assert all(word == word.lower() and word.split() == [word] for word in words), name


@pytest.mark.parametrize(
    ("words", "used"), [("TuneMode", RATES), ("Backend", MODULES), ("Task", {*METRICS, "odinw"})]
)
def test_tables_by_a_word_have_all_of_them(words: str, used: object) -> None:
    assert set(used) == set(SETS[words])  # type: ignore[call-overload]
