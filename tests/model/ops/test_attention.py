"""Attention with a bias, and which of its forms a GPU would run."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from glip.model.ops.attention import attention, hide, padded

FUSED = torch.ops.aten._scaled_dot_product_efficient_attention.default


class Calls(TorchDispatchMode):
    """Which operators were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[object] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func)
        return func(*args, **(kwargs or {}))


def test_hidden_tokens_have_no_weight() -> None:
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    bias = hide(mask, torch.float32)
    assert bias.shape == (2, 1, 1, 5) and bias.stride(0) == padded(5) == 8
    assert bias[1, 0, 0].tolist() == [0, 0, 0, -math.inf, -math.inf]
    query, key, value = torch.randn(3, 2, 3, 5, 8)
    found = attention(query, key, value, bias)
    torch.testing.assert_close(
        found[1], attention(query, key[..., :3, :], value[..., :3, :], bias[..., :3])[1]
    )
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("channels", "aligned", "items", "fused"),
    [(32, True, 4, True), (32, False, 4, False), (12, True, 4, False), (32, True, 70000, False)],
)
def test_a_gpu_runs_one_kernel_where_it_can(
    channels: int, aligned: bool, items: int, fused: bool
) -> None:
    with FakeTensorMode(), Calls() as calls:
        query = torch.empty(items, 2, 5, channels, device="cuda", dtype=torch.bfloat16)
        bias = torch.empty(1, 2, 5, padded(5) if aligned else 5, device="cuda")[..., :5]
        assert attention(query, query, query, bias).shape == query.shape
    assert (FUSED in calls.names) == fused
