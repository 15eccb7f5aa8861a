"""Both directions of the exchange against two plain softmaxes over scores that are all there."""

import math

import pytest
import torch
from torch import Tensor

from glip.model.ops import exchange as module
from glip.model.ops import tiles
from glip.model.ops.exchange import exchange

B, A, C, HEADS, T = 2, 21, 6, 3, 4


def some_inputs() -> list[Tensor]:
    torch.manual_seed(3)
    pairs = HEADS * T
    shapes = [(B, A, C), (B, pairs, C), (B, pairs), (B, C, pairs), (B, C)]
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


def padding() -> Tensor:
    hidden = torch.zeros(B, 1, 1, T)
    hidden[1, ..., 3:] = -math.inf
    return hidden


def plain(
    regions: Tensor, keys: Tensor, key_bias: Tensor, values: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    scores = regions @ keys.mT + key_bias[:, None]
    of_words = (scores.view(B, A, HEADS, T) + padding()).softmax(-1).flatten(2)
    of_regions = scores.softmax(1)
    return (
        regions + of_words @ values.mT + bias[:, None],
        of_regions.mT @ regions,
        of_regions.sum(1),
    )


def by_images(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """As on a GPU."""
    monkeypatch.setattr(module, "_by_rows", module._by_images)
    places = [(slice(start, start + images), slice(None)) for start in range(0, B, images)]
    monkeypatch.setattr(module, "_tiles", lambda regions, keys: places)


@pytest.mark.parametrize("images", [1, B])
def test_values_and_gradients_image_by_image(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    by_images(monkeypatch, images)
    inputs = some_inputs()
    found, expected = exchange(*inputs, padding()), plain(*inputs)
    torch.testing.assert_close(found[:2], expected[:2])
    ends = [torch.randn_like(part) for part in expected[:2]]
    torch.testing.assert_close(
        torch.autograd.grad(found[:2], inputs, ends),
        torch.autograd.grad(expected[:2], inputs, ends),
    )


def test_dropout_image_by_image_is_that_of_the_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_images(monkeypatch, 1)
    regions, *rest = some_inputs()
    direction = torch.randn_like(regions)

    def value(step: float) -> Tensor:
        torch.manual_seed(7)
        parts = exchange(regions + step * direction, *rest, padding(), dropout=0.5)
        return sum((part.sin().sum() for part in parts), torch.zeros(()))

    (slope,) = torch.autograd.grad(value(0.0), regions)
    with torch.no_grad():
        difference = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((slope * direction).sum(), difference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_image_by_image(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    by_images(monkeypatch, B)
    inputs = [tensor.detach() for tensor in some_inputs()]
    expected = plain(*inputs)
    found = exchange(*(tensor.to(dtype) for tensor in inputs), padding())
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("rows", [1, 5, A])
def test_values_and_gradients_do_not_depend_on_tiles(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CPU_BYTES", rows * HEADS * T * 8)
    inputs = some_inputs()
    found, expected = exchange(*inputs, padding()), plain(*inputs)
    torch.testing.assert_close(found[:2], expected[:2])
    assert found[2] is None  # nothing falls out: each sum is one
    ends = [torch.randn_like(part) for part in expected[:2]]
    torch.testing.assert_close(
        torch.autograd.grad(found[:2], inputs, ends),
        torch.autograd.grad(expected[:2], inputs, ends),
    )


def test_what_falls_out_is_drawn_again_for_each_call() -> None:
    inputs = [tensor.detach() for tensor in some_inputs()]
    first, second = (exchange(*inputs, padding(), dropout=0.5) for _ in range(2))
    assert not first[0].equal(second[0]) and not first[2].equal(second[2])
    chance = module._Chance(0.5, torch.device("cpu"))
    again = module._Chance(0.5, torch.device("cpu"), chance.seed)
    weights = torch.ones(50)
    assert chance.factor(weights).equal(again.factor(weights))
