"""LoRA (arXiv 2106.09685): small learned products on top of linear layers that stay as they are.

As parametrisations of torch rather than layers of another library: the fusion layers fold their
projections into one another and read `layer.weight`, which such a layer would not change.
Knows nothing about training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from glip.errors import ConfigError
from glip.settings import within

_ORIGINAL = ".parametrizations.weight.original"
_DOWN, _UP = ".parametrizations.weight.0.down", ".parametrizations.weight.0.up"


@dataclass(frozen=True)
class LoraConfig:
    """Which layers get a product, and of what rank."""

    rank: int = 8
    alpha: float = 16.0
    """The product counts `alpha / rank` times."""
    targets: tuple[str, ...] = ("fusion", "text_layer", "attention")
    """Linear layers with one of these in their dotted name: by default the fusion and the text
    layers of the head, and the attention of a BERT-like text encoder."""

    def __post_init__(self) -> None:
        within("lora: rank", self.rank, least=1)
        within("lora: alpha", self.alpha, above=0)
        if not self.targets:
            raise ConfigError("lora: targets is empty; name parts of layers, such as 'fusion'")


class LowRank(nn.Module):
    """Adds `scale * up @ down` to a weight; nothing at first, as `up` starts at zero.

    Args:
        weight: (O, I), which it is for.
        rank: R, columns of `up` and rows of `down`.
        scale: Factor of the product.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """(O, I) weight that the layer works with, of its own (O, I)."""
        return weight + self.scale * (self.up @ self.down)


def add_lora(model: nn.Module, config: LoraConfig) -> tuple[str, ...]:
    """Put low-rank products on the linear layers of a model; it gives what it gave before.

    Returns:
        Names of the layers.
    Raises:
        ConfigError: No layer has such a name, or they have them already.
    """
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and set(config.targets) & set(name.split("."))
    }
    if not layers:
        raise ConfigError(
            f"lora: no linear layer of the model has one of {', '.join(config.targets)} in its name"
        )
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer):
            raise ConfigError(f"lora: {name} has a product already; merge it first")
        product = LowRank(layer.weight, config.rank, config.alpha / config.rank)
        parametrize.register_parametrization(layer, "weight", product)
    return tuple(layers)


def is_product(name: str) -> bool:
    """Whether a parameter's name is that of a factor of a product."""
    return name.endswith((_DOWN, _UP))


@torch.no_grad()
def merged(state: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The state of a model with products as that of a plain one, products added to the weights.

    Weights are (O, I), and products of (O, R) and (R, I).
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if is_product(name):
            continue
        if name.endswith(_ORIGINAL):
            layer = name.removesuffix(_ORIGINAL)
            down, up = state[layer + _DOWN], state[layer + _UP]
            tensor = tensor + config.alpha / config.rank * (up @ down)
            name = f"{layer}.weight"
        plain[name] = tensor
    return plain
