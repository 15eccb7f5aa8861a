"""The text encoder, through transformers' public classes only, and the layer that the head repeats.

Sees token ids, not sentences: prompts and tokenizers live in `glip/text`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from glip.errors import ConfigError
from glip.model.ops.attention import attention, hide


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
        return cls(torch.tensor(rows, device=device), mask.to(device))

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device))


class Words(NamedTuple):
    """Token states on their way through the head."""

    states: Tensor
    """(B, T, D)."""
    mask: Tensor
    """(B, T) bool, True on real tokens."""

    def to(self, device: torch.device | str) -> Words:
        """The same words on another device."""
        return Words(self.states.to(device), self.mask.to(device))

    def expand(self, pictures: int) -> Words:
        """(B, T, D) for B pictures, of as many prompts or of a single one."""
        if len(self.mask) == pictures:
            return self
        return Words(self.states.expand(pictures, -1, -1), self.mask.expand(pictures, -1))


class TextEncoder(nn.Module):
    """Last hidden states of a BERT-like encoder (arXiv 1810.04805) without its pooler.

    Args:
        model_type: `model_type` of a transformers configuration, such as "bert".
        options: Overrides of that configuration's defaults.
    Raises:
        ConfigError: transformers does not know the type or an option is wrong.
    """

    def __init__(self, model_type: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        if model_type not in CONFIG_MAPPING:
            near = difflib.get_close_matches(model_type, CONFIG_MAPPING.keys(), n=3)
            raise ConfigError(
                f"text encoder '{model_type}' is not a model type of transformers"
                + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
        defaults = AutoConfig.for_model(model_type)
        for key in options:  # transformers would keep an unknown one and use it nowhere
            if not hasattr(defaults, key):
                near = difflib.get_close_matches(key, defaults.to_dict(), n=1)
                raise ConfigError(
                    f"text encoder '{model_type}' has no option '{key}'"
                    + (f"; did you mean '{near[0]}'?" if near else "")
                )
        try:
            config = AutoConfig.for_model(model_type, **options)
            self.width = int(config.hidden_size)
            try:
                self.model = AutoModel.from_config(config, add_pooling_layer=False)
            except TypeError:  # types without a pooler do not know the option
                self.model = AutoModel.from_config(config)
        except Exception as error:  # of many kinds, which differ between versions
            raise ConfigError(f"text encoder '{model_type}': {error}") from error

    def forward(self, tokens: Tokens) -> Words:
        """States of each token, zero on padding.

        Returns:
            (B, T, D) and the mask of the tokens. The official code keeps what it computes at padded
            positions; nothing reads it, so here it is zero in every variant.
        """
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
        """New states of the same shape; no token attends to padding."""
        x, mask = words

        def split(projected: Tensor) -> Tensor:
            return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query = split(self.query(x))
        mixed = attention(
            query,
            split(self.key(x)),
            split(self.value(x)),
            hide(mask, query.dtype),
            dropout=self.dropout.p if self.training else 0.0,
        )
        x = self.attention_norm(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        x = self.norm(x + self.dropout(self.shrink(F.gelu(self.expand(x)))))
        return Words(x, mask)
