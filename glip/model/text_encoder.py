"""The text encoder, and the layer that the head repeats.

Sees token ids, not sentences: prompts and tokenizers live in `glip/text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glip.errors import ConfigError
from glip.model.bert import Bert, BertOptions, post_norm_layer
from glip.model.ops.transfer import uploaded


class Tokens(NamedTuple):
    """Prompts of a batch, padded to the longest one only.

    Padding changes no result: no real token and no region ever attends to it.
    """

    ids: Tensor
    """(B, T) int64."""
    mask: Tensor
    """(B, T) bool, True on real tokens, [CLS] and [SEP] included."""

    @classmethod
    def pad(
        cls,
        sequences: Sequence[tuple[int, ...]],
        pad_id: int = 0,
        device: torch.device | str | None = None,
    ) -> Tokens:
        """Token ids of B prompts as one batch: (B, T) ids and mask, T that of the longest."""
        longest = max(map(len, sequences))
        rows = [[*sequence, *[pad_id] * (longest - len(sequence))] for sequence in sequences]
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        mask = torch.arange(longest) < lengths[:, None]  # (B, T)
        tokens = cls(torch.tensor(rows), mask)
        return tokens if device is None else tokens.to(device)

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device; no GPU is waited for."""
        return Tokens(uploaded(self.ids, device), uploaded(self.mask, device))


class Words(NamedTuple):
    """Token states on their way through the head."""

    states: Tensor
    """(B, T, D)."""
    mask: Tensor
    """(B, T) bool, True on real tokens."""

    def to(self, device: torch.device | str) -> Words:
        """The same words, (B, T, D), on another device."""
        return Words(self.states.to(device), self.mask.to(device))

    def expand(self, pictures: int) -> Words:
        """(B, T, D) for B pictures, of as many prompts or of a single one."""
        if len(self.mask) == pictures:
            return self
        return Words(self.states.expand(pictures, -1, -1), self.mask.expand(pictures, -1))


class TextEncoder(nn.Module):
    """Last hidden states of a BERT-like encoder (arXiv 1810.04805) without its pooler.

    A plain BERT is ours (`glip/model/bert.py`), every other encoder that of transformers.

    Args:
        model_type: `model_type` of a transformers configuration, such as "bert".
        options: Overrides of that configuration's defaults.
    Attributes:
        width: D.
        positions: Most tokens of a prompt; None for an encoder without such a limit.
    Raises:
        ConfigError: transformers does not know the type or an option is wrong.
    """

    def __init__(self, model_type: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model: nn.Module
        self.width: int
        self.positions: int | None
        if model_type == "bert" and BertOptions.covers(options):
            sizes = BertOptions(**options)
            self.model = Bert(sizes)
            self.width, self.positions = sizes.hidden_size, sizes.max_position_embeddings
        else:  # imported here, as it takes longer than a prediction
            from glip.model.transformers_encoder import build_encoder

            self.model, self.width, self.positions = build_encoder(model_type, options)

    def forward(self, tokens: Tokens) -> Words:
        """States of each token, zero on padding.

        Returns:
            (B, T, D) and the mask of the tokens. The official code keeps what it computes at padded
            positions; nothing reads it, so here it is zero in every variant.
        """
        if isinstance(self.model, Bert):
            states = self.model(tokens.ids, tokens.mask)
        else:
            states = self.model(input_ids=tokens.ids, attention_mask=tokens.mask.long())[0]
        return Words(states * tokens.mask[..., None], tokens.mask)


class TextLayer(nn.Module):
    """One post-norm transformer layer with BERT's arrangement, as the head has before each block.

    Its weights keep torch's default initialisation, unlike BERT's own (official).

    Args:
        width: D, channels of a token.
        heads: Attention heads.
        hidden: Channels inside the feed-forward part.
        dropout: On attention weights and on both residual branches, while training.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ConfigError(f"text layer: width {width} is not divisible by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.expand = nn.Linear(width, hidden)
        self.shrink = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Words) -> Words:
        """New states of the same shape, (B, T, D); no token attends to padding."""
        rate = self.dropout.p if self.training else 0.0
        states = post_norm_layer(
            *words, dict(self.named_children()), self.heads, dropout=rate, attention_dropout=rate
        )
        return Words(states, words.mask)
