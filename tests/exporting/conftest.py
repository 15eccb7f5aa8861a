"""A detector that is exported in seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from glip.detector import Detector
from glip.engine import Engine
from glip.text.tokenizer import Tokenizer
from tests.toy import CONFIG, toy_model


@pytest.fixture
def make_small() -> Callable[[], Detector]:
    """Untrained, but loud enough to find something."""

    def make() -> Detector:
        model = toy_model()
        with torch.no_grad():
            model.head.outputs.bias.fill_(-0.5)
            model.head.outputs.log_scale.fill_(-2.0)
        return Detector(Engine(model, CONFIG, Tokenizer.bert_uncased()))

    return make
