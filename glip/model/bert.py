"""BERT (arXiv 1810.04805) without its pooler: embeddings, then post-norm layers.

Names and numbers of the weights are those of transformers' `BertModel`; written out here, as the
layer is the one that the head repeats, and importing transformers takes longer than a prediction.
Every other encoder, and a BERT with unusual options, is transformers' own
(`glip/model/text_encoder.py`).

Letters: B prompts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glip.errors import ConfigError
from glip.model.initial import normal_
from glip.model.ops.attention import attention, hide


@dataclass(frozen=True)
class BertOptions:
    """The sizes of a BERT, by their names in transformers; the defaults are bert-base-uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"text encoder 'bert': the hidden size {self.hidden_size} is not a multiple of the "
                f"number of attention heads {self.num_attention_heads}"
            )

    @classmethod
    def covers(cls, options: Mapping[str, Any]) -> bool:
        """Whether all options of a configuration are among these."""
        return {field.name for field in fields(cls)}.issuperset(options)


def post_norm_layer(
    x: Tensor,
    mask: Tensor,
    parts: Mapping[str, nn.Module],
    heads: int,
    *,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
) -> Tensor:
    """A layer in BERT's arrangement: attend, add, normalise; expand, shrink, add, normalise.

    Args:
        x: (B, T, D).
        mask: (B, T) bool; no token attends to where it is False.
        parts: Linear layers `query`, `key`, `value`, `out`, `expand` and `shrink`, and the norms
            `attention_norm` and `norm`.
        heads: Of the attention.
        dropout: On both branches, as rates of this call: zero outside training.
        attention_dropout: On attention weights.
    Returns:
        (B, T, D).
    """
    query, key, value = (
        parts[name](x).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
        for name in ("query", "key", "value")
    )
    mixed = attention(query, key, value, hide(mask, query.dtype), dropout=attention_dropout)
    mixed = parts["out"](mixed.transpose(1, 2).flatten(2))
    x = parts["attention_norm"](x + F.dropout(mixed, dropout))
    refined = parts["shrink"](F.gelu(parts["expand"](x)))
    result: Tensor = parts["norm"](x + F.dropout(refined, dropout))
    return result


class BertLayer(nn.Module):
    """A layer under transformers' names."""

    def __init__(self, options: BertOptions) -> None:
        super().__init__()
        width, hidden, eps = options.hidden_size, options.intermediate_size, options.layer_norm_eps
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict(
                    {name: nn.Linear(width, width) for name in ("query", "key", "value")}
                ),
                "output": _output(width, width, eps),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output = _output(hidden, width, eps)
        self.options = options

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) of the same; see `post_norm_layer`."""
        attend: Any = self.attention
        parts = {
            **attend["self"],
            "out": attend["output"]["dense"],
            "attention_norm": attend["output"]["LayerNorm"],
            "expand": self.intermediate["dense"],
            "shrink": self.output["dense"],
            "norm": self.output["LayerNorm"],
        }
        options, rate = self.options, float(self.training)
        return post_norm_layer(
            x,
            mask,
            parts,
            options.num_attention_heads,
            dropout=rate * options.hidden_dropout_prob,
            attention_dropout=rate * options.attention_probs_dropout_prob,
        )


def _output(into: int, out: int, eps: float) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(into, out), "LayerNorm": nn.LayerNorm(out, eps=eps)})


def _embedding(count: int, width: int, *, padding_idx: int | None = None) -> nn.Embedding:
    """Without first numbers, see `glip.model.initial`."""
    empty = torch.empty(count, width)
    return nn.Embedding.from_pretrained(empty, freeze=False, padding_idx=padding_idx)


class Bert(nn.Module):
    """Embeddings and layers.

    Args:
        options: Sizes.
    """

    def __init__(self, options: BertOptions) -> None:
        super().__init__()
        width, pad = options.hidden_size, options.pad_token_id
        words = _embedding(options.vocab_size, width, padding_idx=pad)
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": words,
                "position_embeddings": _embedding(options.max_position_embeddings, width),
                "token_type_embeddings": _embedding(options.type_vocab_size, width),
                "LayerNorm": nn.LayerNorm(width, eps=options.layer_norm_eps),
            }
        )
        layers = [BertLayer(options) for _ in range(options.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.options = options
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                normal_(module.weight, std=options.initializer_range)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            words.weight[pad].zero_()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states.

        Args:
            ids: (B, T) int64.
            mask: (B, T) bool, False on padding.
        Returns:
            (B, T, D); what stands at padding means nothing.
        """
        embed: Any = self.embeddings
        x = embed["word_embeddings"](ids) + embed["token_type_embeddings"].weight[0]
        x = x + embed["position_embeddings"].weight[: ids.shape[1]]
        x = F.dropout(embed["LayerNorm"](x), self.options.hidden_dropout_prob, self.training)
        layers: Any = self.encoder["layer"]
        for layer in layers:
            x = layer(x, mask)
        return x
