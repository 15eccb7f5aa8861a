"""Attention in both directions between regions and words (arXiv 2112.03857, Eq. 4).

Per head h the paper projects regions v to queries and values, and words l to keys and values.
Regions outnumber words by hundreds to one, so here every projection of regions is moved to the
words' side of the product it takes part in. The results are the same, the large intermediate
tensors are gone:

    scores         (W_q v + b_q) · k     =  v · (W_qᵀ k) + b_q · k
    region update  W_o Σ_h P_h val_h     =  Σ_h P_h (W_o,h val_h)
    word update    Σ P (W_val v + b)     =  W_val (Σ P v) + b Σ P

Letters: B images, A regions of all levels, T tokens, H heads, C and D widths of regions and words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glip.model.ops.linear import linear_each
from glip.model.text_encoder import Words

# Scores of a tile of regions, H · T of them each, stay in a CPU's cache; a GPU prefers few large
# tiles.
CPU_TILE = 2**20
GPU_TILE = 2**27


class _FoldedWords(NamedTuple):
    """What the words contribute to the attention with regions, one row per (head, token) pair."""

    keys: Tensor  # (B, H·T, C): W_qᵀ k, scaled
    key_bias: Tensor  # (B, H·T): b_q · k, scaled
    values: Tensor  # (B, C, H·T): W_o,h val_h


class _Exchange(torch.autograd.Function):
    """Both directions of the attention between regions and folded words, a tile of regions at once.

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
        """New regions, and what words gather from the old ones.

        Args:
            ctx: For the backward pass.
            regions: (B, A, C), normalised; in another dtype than the rest under autocast.
            keys: (B, H·T, C), see `_FoldedWords`.
            key_bias: (B, H·T).
            values: (B, C, H·T).
            bias: (B, C), added to each region with its values.
            hidden: (B, 1, 1, T), minus infinity on padding, else zero.
            dropout: On the weights of both directions.
        Returns:
            (B, A, C); (B, H·T, C) weighted means of regions; (B, H·T) sums of their weights, one
            but for dropout. The last two are float32 (float64 if the regions are).
        """
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
    budget = CPU_TILE if regions.device.type == "cpu" else GPU_TILE
    length = max(64, budget // keys.shape[1])
    return (slice(start, start + length) for start in range(0, regions.shape[1], length))


def _over_words(scores: Tensor, hidden: Tensor) -> Tensor:
    """(B, a, H, T) softmax over the tokens of each head, of (B, a, H·T) scores."""
    return (scores.unflatten(-1, (-1, hidden.shape[-1])) + hidden).softmax(-1)


class BiAttention(nn.Module):
    """Fuses regions and words: each side attends to the other.

    Args:
        visual_dim: C, width of a region.
        text_dim: D, width of a token.
        attention_dim: Width over all heads.
        heads: H.
        dropout: On attention weights, while training.
        gamma: Initial value of the per-channel weights of both updates.
    """

    def __init__(
        self,
        visual_dim: int,
        text_dim: int,
        attention_dim: int,
        heads: int,
        *,
        dropout: float = 0.1,
        gamma: float = 1.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (attention_dim // heads) ** -0.5
        self.visual_norm = nn.LayerNorm(visual_dim)
        self.text_norm = nn.LayerNorm(text_dim)
        self.visual_query = nn.Linear(visual_dim, attention_dim)
        self.text_key = nn.Linear(text_dim, attention_dim)
        self.visual_value = nn.Linear(visual_dim, attention_dim)
        self.text_value = nn.Linear(text_dim, attention_dim)
        self.visual_out = nn.Linear(attention_dim, visual_dim)
        self.text_out = nn.Linear(attention_dim, text_dim)
        self.visual_gamma = nn.Parameter(torch.full((visual_dim,), gamma))
        self.text_gamma = nn.Parameter(torch.full((text_dim,), gamma))
        self.dropout = dropout
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def _split_heads(self, projected: Tensor) -> Tensor:
        """(B, T, attention_dim) -> (B, H, T, d)."""
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _fold(self, words: Tensor) -> _FoldedWords:
        key = self._split_heads(self.text_key(words)) * self.scale  # (B, H, T, d)
        query_weight = self.visual_query.weight.unflatten(0, (self.heads, -1))  # (H, d, C)
        query_bias = self.visual_query.bias.unflatten(0, (self.heads, -1))  # (H, d)
        out_weight = self.visual_out.weight.unflatten(1, (self.heads, -1))  # (C, H, d)
        value = self._split_heads(self.text_value(words))  # (B, H, T, d)
        return _FoldedWords(
            keys=(key @ query_weight).flatten(1, 2),
            key_bias=(key @ query_bias[:, :, None]).flatten(1),
            values=(value @ out_weight.permute(1, 2, 0)).flatten(1, 2).mT,
        )

    def forward(self, regions: Tensor, words: Words) -> tuple[Tensor, Words]:
        """Both sides after the exchange.

        official: both updates are added to the *normalised* inputs, not to the raw ones; words
        attend to every region of all levels, padding of the picture included. The official clamps
        of the scores at ±50000 never bind and are left out.

        Args:
            regions: (B, A, C), all levels in one row.
            words: States (B, T, D) and their mask.
        Returns:
            New regions (B, A, C) and new words.
        """
        states = self.text_norm(words.states)
        batch, tokens = words.mask.shape
        folded = self._fold(states)
        hidden = torch.zeros(batch, 1, 1, tokens, device=regions.device)
        hidden = hidden.masked_fill(~words.mask[:, None, None], -math.inf)
        dtype = folded.keys.dtype  # of the large products
        updated, pooled, share = _Exchange.apply(
            self.visual_norm(regions),
            folded.keys,
            folded.key_bias,
            (folded.values * self.visual_gamma[:, None]).to(dtype),
            (self.visual_out.bias * self.visual_gamma).expand(batch, -1).to(dtype),
            hidden,
            self.dropout if self.training else 0.0,
        )
        pooled, share = pooled.to(updated.dtype), share.to(updated.dtype)
        pooled, share = (x.unflatten(1, (self.heads, -1)) for x in (pooled, share[..., None]))
        value_weight = self.visual_value.weight.unflatten(0, (self.heads, -1))  # (H, d, C)
        value_bias = self.visual_value.bias.unflatten(0, (self.heads, 1, -1))  # (H, 1, d)
        mixed = pooled @ value_weight.mT + value_bias * share  # (B, H, T, d)
        delta = self.text_out(mixed.transpose(1, 2).flatten(2))
        return updated, Words(states + self.text_gamma * delta, words.mask)
