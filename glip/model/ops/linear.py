"""Matrix products of many rows, by the fastest route there is.

Knows nothing about layers: it is `torch.nn.functional.linear` with another way inside.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MANY_ROWS = 128  # from here on, sorting the weight for the faster kernel pays


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, training: bool | None = None
) -> Tensor:
    """`x @ weight.T + bias`, equal to `F.linear` up to rounding.

    Args:
        x: (..., D).
        weight: (O, D); need not be a parameter.
        bias: (O,).
        training: Whether gradients depend on it; by default whether they are being recorded.
    Returns:
        (..., O).
    """
    rows = x.reshape(-1, x.shape[-1])
    eligible = x.device.type == "cpu" and x.dtype == torch.float32 and len(rows) >= MANY_ROWS
    # While training, the BLAS: where gradients nearly cancel, its rounding is several times
    # smaller.
    if not eligible or (torch.is_grad_enabled() if training is None else training):
        return F.linear(x, weight, bias)
    # A 1x1 convolution goes to oneDNN; the BLAS behind F.linear takes twice as long on some CPUs.
    picture = rows[None, None].permute(0, 3, 1, 2)  # (1, D, 1, N), channels-last as the rows are
    out = F.conv2d(picture, weight[:, :, None, None], bias)
    return out[0, :, 0].t().view(*x.shape[:-1], len(weight))


def linear_each(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, training: bool | None = None
) -> Tensor:
    """`linear` with a weight of its own for each image of a batch.

    Args:
        x: (B, N, D).
        weight: (B, O, D).
        bias: (B, O).
        training: As for `linear`.
    Returns:
        (B, N, O).
    """
    if x.device.type == "cpu":
        biases = bias if bias is not None else [None] * len(x)
        each = [linear(*one, training=training) for one in zip(x, weight, biases, strict=True)]
        return torch.stack(each) if len(each) > 1 else each[0][None]
    if bias is None:
        return x @ weight.mT
    return torch.baddbmm(bias[:, None], x, weight.mT)
