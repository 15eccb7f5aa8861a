"""Weights between a base model and what was tuned from it."""

from dataclasses import replace

import pytest
import torch

from glip.checkpoint import read
from glip.errors import (
    CheckpointError,
    ConfigError,
)
from glip.tuning.interpolate import interpolate


def test_weights_of_another_make_are_not_interpolated(calm_file):
    base = read(calm_file)
    other = replace(base, state={**base.state, "extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="cannot be interpolated: extra differs"):
        interpolate(base, other, 0.5)
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\], got 2"):
        interpolate(base, base, 2)
