"""Options of tuning."""

import pytest

from glip.errors import (
    GlipError,
)
from glip.tuning.options import GRID, RATES, TuneOptions


def test_search_has_three_rates_around_the_usual():
    rates = TuneOptions("x", "lora", search_lr=True).rates
    assert rates == tuple(RATES["lora"].lr * factor for factor in GRID)
    assert len(rates) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "magic"}, "mode must be one of"),
        ({"lr": (0.1,), "search_lr": True}, "not both"),
        ({"lr": (0.0,)}, "must be above 0"),
        ({"lr": (float("inf"),)}, "learning rates must be less than"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"epochs": -1.0}, "epochs must be above 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"seed": -1}, r"seed must lie in \[0, 4294901760\)"),
        ({"seed": 2**32}, r"seed must lie in \[0, 4294901760\)"),
        ({"mode": "full", "prompt": "a"}, "is for the mode prompt, not full"),
        ({"shots": 0}, "shots must be at least 1"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"replay": "a.json"}, "nothing to replay for"),
        ({"replay_share": 1.0}, r"replay_share must lie in \(0, 1\), got 1.0"),
        ({"interpolate": (1.5,)}, r"shares must lie in \[0, 1\]"),
    ],
)
def test_options_that_do_not_fit_are_refused(values, message):
    with pytest.raises(GlipError, match=message):
        TuneOptions("data", **values)
