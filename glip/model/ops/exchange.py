"""Both directions of the attention between regions and words, with nothing as large as all scores.

Letters: B images, A regions, T tokens, H heads, C width of a region. Knows nothing about
projections: it is handed what they fold into.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

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
) -> tuple[Tensor, Tensor, Tensor | None]:
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
        (B, A, C); (B, H·T, C) weighted means of regions; and with dropout (B, H·T) sums of their
        weights, which are one without. The last two are float32 (float64 if the regions are).
    """
    result: tuple[Tensor, Tensor, Tensor | None] = _Exchange.apply(
        regions, keys, key_bias, values, bias, hidden, dropout
    )
    return result


class _Inputs(NamedTuple):
    """Arguments of `exchange` that are tensors."""

    regions: Tensor
    keys: Tensor
    key_bias: Tensor
    values: Tensor
    bias: Tensor
    hidden: Tensor


class _Outputs(NamedTuple):
    """Results of `exchange`, and what the backward pass needs to make the words' weights again."""

    updated: Tensor
    pooled: Tensor
    share: Tensor | None
    level: Tensor | None  # (B, H·T) logarithm of the sum of the exponentials of all scores


class _Exchange(torch.autograd.Function):
    """`exchange`, a tile at a time.

    Nothing as large as the scores outlives its tile, as the backward pass makes each tile again
    (arXiv 2205.14135), dropout included.
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
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `exchange`: (B, A, C) regions, (B, H·T, C) pooled, (B, H·T) share or None."""
        inputs = _Inputs(regions, keys, key_bias, values, bias, hidden)
        chance = _Chance(dropout, regions.device)
        training = any(ctx.needs_input_grad)
        with torch.autocast(regions.device.type, enabled=False):
            if regions.device.type == "cpu":
                done = _by_rows(inputs, chance, training)
            else:
                done = _by_images(inputs, chance, training)
        ctx.seed, ctx.dropout = chance.seed, dropout
        ctx.save_for_backward(
            regions, keys, key_bias, values, hidden, done.pooled, done.share, done.level
        )
        return done.updated, done.pooled, done.share

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_updated: Tensor, d_pooled: Tensor, d_share: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the first five inputs, as large as they; d_x is that of x.

        Args:
            d_updated: (B, A, C).
            d_pooled: (B, H·T, C).
            d_share: (B, H·T), if there is a share.
        """
        regions, keys, key_bias, values, hidden, pooled, share, level = ctx.saved_tensors
        wide, dtype = _wide(regions), keys.dtype
        product = partial(linear_each, training=True)
        chance = _Chance(ctx.dropout, regions.device, ctx.seed)
        # What the words' softmax takes from each of its weights' gradients: their weighted mean.
        mean = (pooled * d_pooled).sum(-1)
        if d_share is not None:  # else the share is one, whatever the scores
            mean = mean + share * d_share
        d_regions = torch.empty_like(regions)
        d_keys, d_values = torch.zeros_like(keys, dtype=wide), torch.zeros_like(values, dtype=wide)
        d_key_bias = torch.zeros_like(key_bias, dtype=wide)
        gathering = d_pooled.to(dtype)
        with torch.autocast(regions.device.type, enabled=False):
            for images, place in _tiles(regions, keys):
                narrow, d_tile = regions[images, place].to(dtype), d_updated[images, place]
                d_narrow = d_tile.to(dtype)
                scores = product(narrow, keys[images], key_bias[images]).to(wide)
                attention = _over_words(scores, hidden[images])  # (B, a, H, T)
                factor = chance.factor(scores)
                dropped = _times(attention.flatten(2), factor).to(dtype)
                d_values[images] += product(d_narrow.mT, dropped.mT)
                d_attention = _times(product(d_narrow, values[images].mT).to(wide), factor)
                d_attention = d_attention.view_as(attention)
                inner = (attention * d_attention).sum(-1, keepdim=True)
                d_scores = d_attention.sub_(inner).mul_(attention).flatten(2)

                weights = scores.sub_(level[images, None]).exp_()
                factor = chance.factor(weights)
                d_weights = product(narrow, gathering[images]).to(wide)
                if d_share is not None:
                    d_weights = _times(d_weights + d_share[images, None], factor)
                d_scores.addcmul_(weights, d_weights.sub_(mean[images, None]))
                dropped = _times(weights, factor).to(dtype)

                d_key_bias[images] += d_scores.sum(1)
                d_narrow = d_scores.to(dtype)
                d_keys[images] += product(d_narrow.mT, narrow.mT)
                both = product(d_narrow, keys[images].mT)
                both.add_(product(dropped, gathering[images].mT))
                d_regions[images, place] = d_tile + both
        return (
            d_regions,
            d_keys.to(dtype),
            d_key_bias.to(dtype),
            d_values.to(dtype),
            d_updated.sum(1).to(dtype),
            None,
            None,
        )


def _by_rows(inputs: _Inputs, chance: _Chance, training: bool) -> _Outputs:
    """For a CPU: some regions of all images at a time.

    The words' softmax runs over all regions: the greatest score so far is kept, and what was summed
    is rescaled whenever it grows (arXiv 1805.02867).
    """
    regions, keys, key_bias, values, bias, hidden = inputs
    wide = _wide(regions)
    product = partial(linear_each, training=training)
    greatest = torch.full(keys.shape[:2], -math.inf, dtype=wide, device=regions.device)
    total = torch.zeros_like(greatest)  # Σ exp
    kept = torch.zeros_like(greatest)  # the same after dropout
    pooled = torch.zeros_like(keys, dtype=wide)  # Σ exp · v
    updated = torch.empty_like(regions)
    for _, place in _tiles(regions, keys):
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
        if chance.seed is not None:
            weights = _times(weights, chance.factor(weights))
            kept = kept * rescale + weights.sum(1)
        gathered = product(weights.to(keys.dtype).mT, narrow.mT)  # (B, H·T, C)
        pooled = pooled * rescale[..., None] + gathered
        greatest = peak
    pooled = pooled / total[..., None]
    share = kept / total if chance.seed is not None else None
    return _Outputs(updated, pooled, share, greatest + total.log())


def _by_images(inputs: _Inputs, chance: _Chance, training: bool) -> _Outputs:
    """For a GPU: all regions of some images at a time, in few steps."""
    parts = []
    for images, _ in _tiles(inputs.regions, inputs.keys):
        parts.append(_of_images(_Inputs(*(part[images] for part in inputs)), chance, training))
    if len(parts) == 1:
        return parts[0]
    updated, pooled, *rest = (
        None if own[0] is None else torch.cat(own) for own in zip(*parts, strict=True)
    )
    assert updated is not None and pooled is not None
    return _Outputs(updated, pooled, *rest)


def _of_images(inputs: _Inputs, chance: _Chance, training: bool) -> _Outputs:
    """`exchange` of (B, A, C) regions with (B, H·T, C) keys, all at once."""
    regions, keys, key_bias, values, bias, hidden = inputs
    wide, dtype = _wide(regions), keys.dtype
    narrow = regions.to(dtype)
    scores = linear_each(narrow, keys, key_bias)  # (B, A, H·T)
    # A softmax is computed in float32 whatever its ends are, so scores stay as they are.
    attention = _over_words(scores, hidden).flatten(2)
    attention = _times(attention, chance.factor(attention)).to(dtype)
    updated = regions + linear_each(attention, values, bias)
    # Shares of so many regions are too small for float16.
    weights = scores.softmax(1, dtype=wide if dtype == torch.float16 else None)
    share = None
    if chance.seed is not None:
        weights = _times(weights, chance.factor(weights))
        share = weights.sum(1, dtype=wide)
    pooled = (weights.mT @ narrow.to(weights.dtype)).to(wide)
    return _Outputs(updated, pooled, share, scores.to(wide).logsumexp(1) if training else None)


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


def _tiles(regions: Tensor, keys: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and regions whose scores, (B, A, H·T), may exist at a time: on a GPU whole images."""
    row_bytes = keys.shape[1] * torch.finfo(_wide(regions)).bits // 8
    batch, rows = regions.shape[:2]
    if regions.device.type == "cpu":
        return ((slice(None), place) for place in tiles(rows, batch * row_bytes, regions.device))
    return ((images, slice(None)) for images in tiles(batch, rows * row_bytes, regions.device))


def _over_words(scores: Tensor, hidden: Tensor) -> Tensor:
    """(B, a, H, T) softmax over the tokens of each head, of (B, a, H·T) scores."""
    return (scores.unflatten(-1, (-1, hidden.shape[-1])) + hidden).softmax(-1)
