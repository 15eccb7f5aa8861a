"""Attention with a bias, and which of its forms a GPU would run."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from glip.model.ops import gpu
from glip.model.ops.attention import MOST_ITEMS, _in_parts, attention, hide, padded

FUSED = torch.ops.aten._scaled_dot_product_efficient_attention.default


class Calls(TorchDispatchMode):
    """Which operators were called, and with what."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: dict[object, tuple] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.arguments[func] = args
        return func(*args, **(kwargs or {}))


def test_hidden_tokens_have_no_weight() -> None:
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    bias = hide(mask, torch.float32)
    assert bias.shape == (2, 1, 1, 8) and padded(5) == padded(8) == 8
    assert bias[1, 0, 0].tolist() == [0, 0, 0] + [-math.inf] * 5
    query, key, value = torch.randn(3, 2, 3, 5, 8)
    found = attention(query, key, value, bias)
    torch.testing.assert_close(
        found[1], attention(query, key[..., :3, :], value[..., :3, :], bias[..., :3])[1]
    )
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
@pytest.mark.parametrize(
    ("channels", "columns", "items", "fused"),
    [(32, 8, 4, True), (32, 5, 4, False), (12, 8, 4, False)],
)
def test_a_gpu_runs_one_kernel_where_it_can(
    channels: int, columns: int, items: int, fused: bool
) -> None:
    with FakeTensorMode(), Calls() as calls:
        query = torch.empty(items, 2, 5, channels, device="cuda", dtype=torch.bfloat16)
        bias = torch.empty(1, 2, 5, columns, device="cuda")  # in another number format
        assert attention(query, query, query, bias).shape == query.shape
    assert (FUSED in calls.arguments) == fused
    if fused:
        given = calls.arguments[FUSED][3]
        assert given.dtype == query.dtype and given.shape == (items, 2, 5, 5)
        assert given.stride() == (0, 40, 8, 1)


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
@pytest.mark.parametrize(
    ("dtype", "capability", "fused"),
    [
        (torch.bfloat16, (7, 5), False),
        (torch.bfloat16, (8, 0), True),
        (torch.float16, (7, 5), True),
        (torch.float32, (7, 5), True),
        (torch.float64, (9, 0), False),
    ],
)
def test_numbers_without_a_fused_kernel_go_the_other_way(
    dtype: torch.dtype,
    capability: tuple[int, int],
    fused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "_capability", lambda index: capability)
    with FakeTensorMode(), Calls() as calls:
        query = torch.empty(4, 2, 5, 32, device="cuda", dtype=dtype)
        bias = torch.empty(1, 2, 5, 8, device="cuda", dtype=dtype)
        assert attention(query, query, query, bias).shape == query.shape
    assert (FUSED in calls.arguments) == fused


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
@pytest.mark.parametrize("biases", [1, 70000])
def test_more_items_than_a_kernel_takes_go_in_parts(biases: int) -> None:
    with FakeTensorMode(), Calls() as calls:
        query = torch.empty(70000, 2, 5, 32, device="cuda", dtype=torch.bfloat16)
        bias = torch.empty(biases, 1, 5, 8, device="cuda", dtype=torch.bfloat16)
        assert attention(query, query, query, bias).shape == query.shape
    last = 70000 - MOST_ITEMS
    assert [len(given) for given in calls.arguments[FUSED][:4]] == [last] * 4


def test_parts_give_what_all_together_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glip.model.ops.attention.MOST_ITEMS", 2)
    query, key, value = torch.randn(3, 5, 3, 4, 8)
    for bias in (torch.randn(5, 3, 4, 8), torch.randn(1, 3, 4, 8)):
        expected = attention(query, key, value, bias)
        torch.testing.assert_close(_in_parts(query, key, value, bias, 0.0), expected)
