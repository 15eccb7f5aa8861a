"""Which GPUs can what."""

from __future__ import annotations

import pytest
import torch

from glip.model.ops import gpu
from glip.model.ops.gpu import AMPERE, VOLTA, is_at_least


def test_capability_is_that_of_the_numbered_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = {40: (7, 5), 41: (8, 0), 42: (6, 1)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    found = [
        (
            is_at_least(torch.device("cuda", index), VOLTA),
            is_at_least(torch.device("cuda", index), AMPERE),
        )
        for index in capabilities
    ]
    assert found == [(True, False), (True, True), (False, False)]


def test_gpu_that_is_not_there_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "_capability", gpu._capability.__wrapped__)
    assert is_at_least(torch.device("cuda", 43), AMPERE)
