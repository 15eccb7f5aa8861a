"""The matrix product: the same numbers by either route."""

import pytest
import torch
from torch.nn import functional as F

from glip.model.ops.linear import MANY_ROWS, linear, linear_each


@pytest.mark.parametrize("shape", [(5, 6), (MANY_ROWS, 6), (2, 100, 6), (2, 3, 50, 6), (0, 6)])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_torch_with_and_without_gradients(shape: tuple[int, ...], biased: bool) -> None:
    x, weight = torch.randn(shape), torch.randn(4, 6)
    bias = torch.randn(4) if biased else None
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(linear(x, weight, bias), expected)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), expected)


def test_weight_and_rows_may_be_views() -> None:
    x, weight = torch.randn(6, 200).t(), torch.randn(6, 4).t()
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


def test_other_dtypes_keep_theirs() -> None:
    with torch.no_grad():
        assert linear(torch.ones(200, 6).double(), torch.ones(4, 6).double()).dtype == torch.float64
        assert linear(torch.ones(200, 6).half(), torch.ones(4, 6).half()).dtype == torch.float16


def test_gradients_flow() -> None:
    x, weight = torch.randn(200, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(200, -1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("biased", [True, False])
def test_each_image_has_a_weight_of_its_own(batch: int, biased: bool) -> None:
    x, weight = torch.randn(batch, 150, 6), torch.randn(batch, 4, 6)
    bias = torch.randn(batch, 4) if biased else None
    expected = x @ weight.mT + (bias[:, None] if bias is not None else 0)
    with torch.no_grad():
        torch.testing.assert_close(linear_each(x, weight, bias), expected)
