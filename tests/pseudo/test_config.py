"""Settings of a grounding job."""

from __future__ import annotations

import pytest

from glip.errors import ConfigError
from glip.pseudo.config import GroundingConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch_size must be at least 1"), ({"workers": 0}, "workers must be")],
)
def test_options_that_cannot_work(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        GroundingConfig(**options)
