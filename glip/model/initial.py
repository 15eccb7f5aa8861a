"""First numbers of weights.

Knows nothing about which layers get them.
"""

from __future__ import annotations

from torch import Tensor, nn


def normal_(weight: Tensor, std: float) -> None:
    """Normal random numbers of mean 0; nothing for a tensor that has no memory yet.

    A model that is built to have weights loaded has parameters without memory, for which torch
    would import its compiler only to do nothing.
    """
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)
