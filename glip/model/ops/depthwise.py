"""Convolutions of one channel each, with gradients that a CPU finds fast in bfloat16 too.

Letters: B images, C channels, H and W cells of a map, K the side of the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

WIDE = 5  # from this kernel on, oneDNN has nothing fast for the gradient of a bfloat16 weight


def depthwise(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """`F.conv2d` with a group for each channel.

    Args:
        x: (B, C, H, W).
        weight: (C, 1, K, K).
        stride: Of both directions.
        padding: On all four sides.
    Returns:
        (B, C, (H + 2 padding - K) // stride + 1, the same of W).
    """
    slow = x.device.type == "cpu" and weight.shape[-1] >= WIDE and weight.requires_grad
    if slow and torch.is_grad_enabled() and _in_bfloat16():
        return _Depthwise.apply(x, weight, stride, padding)
    return F.conv2d(x, weight, None, stride, padding, 1, len(weight))


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


class _Depthwise(torch.autograd.Function):
    """The same forward pass; gradients in float32, which takes a fifth to a third of the time."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        (stride, padding), wide = (ctx.stride, ctx.padding), gradient.float()
        of_weight = conv2d_weight(x.float(), weight.shape, wide, stride, padding, 1, len(weight))
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None, None
        left = [  # behind the last step of the kernel
            size + 2 * padding - weight.shape[-1] - stride * (cells - 1)
            for size, cells in zip(x.shape[-2:], gradient.shape[-2:], strict=True)
        ]
        if stride == 1:  # the one that bfloat16 is fast at
            wide = gradient
        # Not torch.nn.grad.conv2d_input, which leaves channels last, and all behind it with them.
        of_x = F.conv_transpose2d(
            wide, weight.to(wide.dtype), None, stride, padding, left, len(weight)
        )
        return of_x.to(x.dtype), of_weight, None, None
