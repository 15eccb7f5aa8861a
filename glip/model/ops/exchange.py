"""Both directions of the attention between regions and words, with nothing as large as all scores.

Letters: B images, A regions, T tokens, H heads, C width of a region. Knows nothing about
projections: it is handed what they fold into.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glip.model.ops.linear import linear_each
from glip.model.ops.tiles import tiles


def exchange(
    regions: Tensor,
    keys: Tensor,
    key_bias: Tensor,
    values: Tensor,
    bias: Tensor,
    hidden: Tensor,
    *,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """New regions, and what words gather from the old ones; one key for each (head, token) pair.

    Args:
        regions: (B, A, C), normalised; in another dtype than the rest under autocast.
        keys: (B, H·T, C), scaled.
        key_bias: (B, H·T), scaled.
        values: (B, C, H·T).
        bias: (B, C), added to each region with its values.
        hidden: (B, 1, 1, T), minus infinity on padding, else zero.
        dropout: On the weights of both directions.
    Returns:
        (B, A, C); (B, H·T, C) weighted means of regions; (B, H·T) sums of their weights, one but
        for dropout. The last two are float32 (float64 if the regions are).
    """
    result: tuple[Tensor, Tensor, Tensor] = _Exchange.apply(
        regions, keys, key_bias, values, bias, hidden, dropout
    )
    return result


class _Exchange(torch.autograd.Function):
    """`exchange`, a tile of regions at once.

    The words' softmax runs over all regions: the greatest score so far is kept, and what was summed
    is rescaled whenever it grows (arXiv 1805.02867). Nothing as large as the scores outlives its
    tile, as the backward pass makes each tile again (arXiv 2205.14135), dropout included.
    """

    @staticmethod
    def forward(
        ctx: Any,
        regions: Tensor,
        keys: Tensor,
        key_bias: Tensor,
        values: Tensor,
        bias: Tensor,
        hidden: Tensor,
        dropout: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `exchange`."""
        wide = _wide(regions)
        product = partial(linear_each, training=any(ctx.needs_input_grad))
        chance = _Chance(dropout, regions.device)
        ctx.seed, ctx.dropout = chance.seed, dropout
        shape = keys.shape[:2]
        greatest = torch.full(shape, -math.inf, dtype=wide, device=regions.device)
        total = torch.zeros_like(greatest)  # Σ exp
        kept = torch.zeros_like(greatest)  # the same after dropout
        pooled = torch.zeros_like(keys, dtype=wide)  # Σ exp · v
        updated = torch.empty_like(regions)
        with torch.autocast(regions.device.type, enabled=False):
            for place in _tiles(regions, keys):
                tile = regions[:, place]
                narrow = tile.to(keys.dtype)
                scores = product(narrow, keys, key_bias).to(wide)  # (B, a, H·T)
                attention = _over_words(scores, hidden).flatten(2)
                attention = _times(attention, chance.factor(attention)).to(keys.dtype)
                updated[:, place] = tile + product(attention, values, bias)

                peak = torch.maximum(greatest, scores.amax(1))
                rescale = (greatest - peak).exp()
                weights = scores.sub_(peak[:, None]).exp_()
                total = total * rescale + weights.sum(1)
                if dropout:
                    weights = _times(weights, chance.factor(weights))
                    kept = kept * rescale + weights.sum(1)
                gathered = product(weights.to(keys.dtype).mT, narrow.mT)  # (B, H·T, C)
                pooled = pooled * rescale[..., None] + gathered
                greatest = peak
        pooled = pooled / total[..., None]
        share = kept / total if dropout else torch.ones_like(total)
        level = greatest + total.log()
        ctx.save_for_backward(regions, keys, key_bias, values, hidden, pooled, share, level)
        return updated, pooled, share

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_updated: Tensor, d_pooled: Tensor, d_share: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the first five inputs; d_x is that of x."""
        regions, keys, key_bias, values, hidden, pooled, share, level = ctx.saved_tensors
        wide, dtype = pooled.dtype, keys.dtype
        product = partial(linear_each, training=True)
        chance = _Chance(ctx.dropout, regions.device, ctx.seed)
        # What the words' softmax takes from each of its weights' gradients: their weighted mean.
        mean = (pooled * d_pooled).sum(-1)
        if ctx.dropout:  # else the share is one, whatever the scores
            mean = mean + share * d_share
        d_regions = torch.empty_like(regions)
        d_keys, d_values = torch.zeros_like(keys, dtype=wide), torch.zeros_like(values, dtype=wide)
        d_key_bias = torch.zeros_like(key_bias, dtype=wide)
        gathering = d_pooled.to(dtype)
        with torch.autocast(regions.device.type, enabled=False):
            for place in _tiles(regions, keys):
                narrow, d_tile = regions[:, place].to(dtype), d_updated[:, place]
                d_narrow = d_tile.to(dtype)
                scores = product(narrow, keys, key_bias).to(wide)
                attention = _over_words(scores, hidden)  # (B, a, H, T)
                factor = chance.factor(scores)
                dropped = _times(attention.flatten(2), factor).to(dtype)
                d_values += product(d_narrow.mT, dropped.mT)
                d_attention = _times(product(d_narrow, values.mT).to(wide), factor)
                d_attention = d_attention.view_as(attention)
                inner = (attention * d_attention).sum(-1, keepdim=True)
                d_scores = d_attention.sub_(inner).mul_(attention).flatten(2)

                weights = scores.sub_(level[:, None]).exp_()
                factor = chance.factor(weights)
                d_weights = product(narrow, gathering).to(wide)
                if ctx.dropout:
                    d_weights = _times(d_weights + d_share[:, None], factor)
                d_scores.addcmul_(weights, d_weights.sub_(mean[:, None]))
                dropped = _times(weights, factor).to(dtype)

                d_key_bias += d_scores.sum(1)
                d_narrow = d_scores.to(dtype)
                d_keys += product(d_narrow.mT, narrow.mT)
                both = product(d_narrow, keys.mT).add_(product(dropped, gathering.mT))
                d_regions[:, place] = d_tile + both
        return (
            d_regions,
            d_keys.to(dtype),
            d_key_bias.to(dtype),
            d_values.to(dtype),
            d_updated.sum(1).to(dtype),
            None,
            None,
        )


class _Chance:
    """Dropout that can be drawn again.

    Args:
        dropout: Probability that a weight is dropped.
        device: Of the weights.
        seed: Of an earlier one; by default drawn.
    """

    def __init__(self, dropout: float, device: torch.device, seed: int | None = None) -> None:
        self.seed, self._keep = seed, 1 - dropout
        if dropout:
            if self.seed is None:
                self.seed = int(torch.randint(2**62, ()))
            self._generator = torch.Generator(device).manual_seed(self.seed)

    def factor(self, weights: Tensor) -> Tensor | None:
        """What each weight is multiplied by, as large as they are; None without dropout."""
        if self._keep == 1:
            return None
        drawn = torch.empty_like(weights).bernoulli_(self._keep, generator=self._generator)
        return drawn / self._keep


def _times(weights: Tensor, factor: Tensor | None) -> Tensor:
    return weights if factor is None else weights * factor


def _wide(regions: Tensor) -> torch.dtype:
    """In which softmaxes and sums are computed."""
    return torch.float64 if regions.dtype == torch.float64 else torch.float32


def _tiles(regions: Tensor, keys: Tensor) -> Iterator[slice]:
    """Slices of the regions whose scores may exist at a time."""
    row_bytes = keys.shape[1] * torch.finfo(_wide(regions)).bits // 8
    return tiles(regions.shape[1], row_bytes, regions.device)


def _over_words(scores: Tensor, hidden: Tensor) -> Tensor:
    """(B, a, H, T) softmax over the tokens of each head, of (B, a, H·T) scores."""
    return (scores.unflatten(-1, (-1, hidden.shape[-1])) + hidden).softmax(-1)
