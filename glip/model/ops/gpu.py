"""What a GPU can do."""

from __future__ import annotations

import torch

from glip.model.ops.kept import kept

VOLTA, AMPERE = (7, 0), (8, 0)
"""Compute capabilities: of the first that Triton knows, and that multiplies bfloat16."""


def is_at_least(device: torch.device, capability: tuple[int, int]) -> bool:
    """Whether a GPU has a compute capability; one that is not there, of fake tensors, has all."""
    return _capability(device.index) >= capability


@kept(16)
def _capability(index: int | None) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index) if torch.cuda.is_available() else (99, 0)
