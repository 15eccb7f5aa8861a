"""Depthwise convolutions against torch's own, forward and backward."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glip.model.ops import depthwise as module
from glip.model.ops.depthwise import depthwise

CHANNELS = 6


def inputs(kernel: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, CHANNELS, 11, 13, generator=generator)
    weight = torch.randn(CHANNELS, 1, kernel, kernel, generator=generator)
    return x.to(memory_format=torch.channels_last), weight


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("needs_x", [True, False])
def test_equals_torch(kernel: int, stride: int, needs_x: bool) -> None:
    x, weight = inputs(kernel)
    results = []
    for bfloat16 in (False, True):
        own_x, own_weight = x.clone().requires_grad_(needs_x), weight.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            out = depthwise(own_x, own_weight, stride, kernel // 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), torch.no_grad():
            plain = F.conv2d(x, weight, None, stride, kernel // 2, 1, CHANNELS)
        assert out.dtype == plain.dtype and out.equal(plain)
        out.float().square().sum().backward()
        assert own_weight.grad is not None and own_weight.grad.dtype == torch.float32
        assert (own_x.grad is not None) == needs_x
        results.append((own_x.grad, own_weight.grad))
    for exact, rounded in zip(*results, strict=True):
        if exact is not None:
            assert rounded is not None
            assert (rounded - exact).norm() <= 0.02 * exact.norm()


def test_gradients_in_float32_only_where_bfloat16_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = []
    monkeypatch.setattr(
        module._Depthwise, "apply", lambda *args: ways.append(args[1].shape[-1]) or args[0]
    )
    for kernel in (3, 5):
        x, weight = inputs(kernel)
        depthwise(x, weight.requires_grad_(), 1, kernel // 2)  # float32
        with torch.autocast("cpu", torch.bfloat16):
            depthwise(x, weight, 1, kernel // 2)
            with torch.no_grad():
                depthwise(x, weight, 1, kernel // 2)
            depthwise(x, weight.detach(), 1, kernel // 2)  # frozen
        with torch.autocast("cpu", torch.float16):
            depthwise(x, weight, 1, kernel // 2)
    assert ways == [5]
