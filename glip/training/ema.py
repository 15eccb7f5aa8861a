"""A running average of the weights, usually a little better than the last ones.

Knows nothing about the model: it sees named tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glip.training.parallel import is_sharded


class Ema:
    """Exponential moving average of all weights and buffers of a model.

    Args:
        model: Its present state is the first average. Sharded weights are averaged shard by shard.
        decay: What stays of the average at each step. official: 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        assert 0 <= decay < 1, decay
        self.decay = decay
        self.average = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights; tensors of integers are copied."""
        means, weights = [], []
        for name, tensor in model.state_dict().items():
            mean = self.average[name]
            if not mean.is_floating_point():
                mean.copy_(tensor)
            elif is_sharded(tensor):
                mean.lerp_(tensor.detach(), 1 - self.decay)
            else:
                means.append(mean)
                weights.append(tensor.detach())
        if means:
            torch._foreach_lerp_(means, weights, 1 - self.decay)  # on a GPU, few launches for all

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model has the average for its weights; afterwards its own again."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        _copy(self.average, model)
        try:
            yield
        finally:
            _copy(own, model)


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(tensors[name])
