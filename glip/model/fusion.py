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

from typing import NamedTuple

import torch
from torch import Tensor, nn

from glip.model.ops.attention import hide
from glip.model.ops.exchange import exchange
from glip.model.text_encoder import Words


class _FoldedWords(NamedTuple):
    """What the words contribute to the attention with regions, one row per (head, token) pair."""

    keys: Tensor  # (B, H·T, C): W_qᵀ k, scaled
    key_bias: Tensor  # (B, H·T): b_q · k, scaled
    values: Tensor  # (B, C, H·T): W_o,h val_h


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
        """What (B, T, D) words are to regions: projections of both sides as products of one."""
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
        batch = len(words.mask)
        folded = self._fold(states)
        dtype = folded.keys.dtype  # of the large products
        updated, pooled, share = exchange(
            self.visual_norm(regions),
            folded.keys,
            folded.key_bias,
            (folded.values * self.visual_gamma[:, None]).to(dtype),
            (self.visual_out.bias * self.visual_gamma).expand(batch, -1).to(dtype),
            hide(words.mask, dtype)[..., : words.mask.shape[1]],
            dropout=self.dropout if self.training else 0.0,
        )
        pooled = pooled.to(updated.dtype).unflatten(1, (self.heads, -1))  # (B, H, T, C)
        value_weight = self.visual_value.weight.unflatten(0, (self.heads, -1))  # (H, d, C)
        value_bias = self.visual_value.bias.unflatten(0, (self.heads, 1, -1))  # (H, 1, d)
        if share is not None:
            value_bias = value_bias * share.to(updated.dtype).view(batch, self.heads, -1, 1)
        mixed = pooled @ value_weight.mT + value_bias  # (B, H, T, d)
        delta = self.text_out(mixed.transpose(1, 2).flatten(2))
        return updated, Words(torch.addcmul(states, self.text_gamma, delta), words.mask)
