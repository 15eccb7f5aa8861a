"""Attention with a bias, by the fastest route there is.

Knows nothing about layers: it is `torch.nn.functional.scaled_dot_product_attention`, with a fused
kernel chosen on a GPU whatever the sizes, so that a step is one launch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from glip.model.ops.gpu import AMPERE, is_at_least

# The fused kernel wants rows of its bias, and channels of a head, in multiples of so many numbers.
# No kernel has room for more items than this: the windows of some fifty large pictures.
ALIGNMENT = 8
MOST_ITEMS = 65535


def padded(length: int) -> int:
    """Columns of a bias for so many keys: rows then lie as a fused kernel wants them."""
    return length + -length % ALIGNMENT


def hide(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, 1, padded(T)) added to scores: zero where (B, T) is True, else minus infinity."""
    filling = padded(mask.shape[1]) - mask.shape[1]
    if filling:
        mask = F.pad(mask, (0, filling))
    return mask.to(dtype).log()[:, None, None]


def attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, *, dropout: float = 0.0
) -> Tensor:
    """Weighted sums of the values of each item.

    Args:
        query: (N, heads, Q, d).
        key: (N, heads, K, d).
        value: (N, heads, K, d).
        bias: Added to the scores, broadcast to (N, heads, Q, K) but for its columns: it has
            `padded(K)` of them, and those beyond K are filling.
        dropout: On the weights.
    Returns:
        (N, heads, Q, d).
    """
    if query.device.type == "cuda" and len(query) > MOST_ITEMS:
        return _in_parts(query, key, value, bias, dropout)
    keys = key.shape[2]
    # Its rows must stay where they are, so another number format comes before the cut.
    bias = bias.to(query.dtype)[..., :keys] if query.is_cuda else bias[..., :keys]
    steps = [step for step, size in zip(bias.stride(), bias.shape, strict=True) if size > 1]
    fused = (
        query.device.type == "cuda"
        and torch.version.hip is None
        and _has_kernel(query)
        and all(number % ALIGNMENT == 0 for number in (query.shape[-1], *steps[:-1]))
    )
    if not fused:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    result: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query,
        key,
        value,
        bias.expand(*query.shape[:3], keys),
        torch.is_grad_enabled(),
        dropout,
    )[0]
    return result


def _in_parts(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
    """`attention` of more items than a kernel takes: (N, heads, Q, d)."""
    parts = []
    for start in range(0, len(query), MOST_ITEMS):
        some = slice(start, start + MOST_ITEMS)
        own = bias if len(bias) == 1 else bias[some]
        parts.append(attention(query[some], key[some], value[some], own, dropout=dropout))
    return torch.cat(parts)


def _has_kernel(query: Tensor) -> bool:
    """Whether the fused kernel exists for these numbers: older GPUs have none for bfloat16."""
    if query.dtype == torch.bfloat16:
        return is_at_least(query.device, AMPERE)
    return query.dtype in (torch.float16, torch.float32)
