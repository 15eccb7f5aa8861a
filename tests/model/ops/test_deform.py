from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from glip.model.ops import tiles
from glip.model.ops.deform import (
    SamplingPlan,
    deform_conv2d,
    join_plans,
    reread_at_coarser_size,
    sampled_matmul,
    sampling_plan,
)

# Inputs drawn from a seeded recipe, outputs recorded from the official head's convolution: 0 and 1
# with the offsets of a larger map, 2 on its own level, 3 and 4 with stride two.
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "deform_conv.npz")

MAPS = [  # (height, width) of the input, stride
    ((5, 7), 1),
    ((7, 9), 2),
    ((6, 8), 2),
    ((1, 4), 1),
    ((1, 1), 1),
    ((1, 1), 2),
]


def arguments(
    size_hw: tuple[int, int], stride: int = 1, *, reach: float = 1.0, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Input, offsets, mask, weight and bias of a convolution of two images, 8 -> 6 channels."""
    torch.manual_seed(7)
    height, width = ((size - 1) // stride + 1 for size in size_hw)
    tensors = (
        torch.randn(2, 8, *size_hw),
        torch.randn(2, 18, height, width) * reach,
        torch.rand(2, 9, height, width),
        torch.randn(6, 8, 3, 3) / 8,
        torch.randn(6),
    )
    return tuple(tensor.to(dtype).requires_grad_() for tensor in tensors)


def reference(
    input: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, *, stride: int = 1
) -> Tensor:
    return torchvision.ops.deform_conv2d(
        input, offsets, weight, bias, stride=stride, padding=1, mask=mask
    )


@pytest.fixture(params=[1, 1 << 20], ids=["a tile per output", "one tile"])
def tile_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CPU_BYTES", request.param)


@pytest.mark.usefixtures("tile_bytes")
@pytest.mark.parametrize("reach", [1.0, 10.0], ids=["near", "far outside"])
@pytest.mark.parametrize(("size_hw", "stride"), MAPS)
def test_value_and_gradients_equal_torchvision(
    size_hw: tuple[int, int], stride: int, reach: float
) -> None:
    inputs = arguments(size_hw, stride, reach=reach, dtype=torch.float32)
    expected = reference(*inputs, stride=stride)
    found = deform_conv2d(*inputs, stride=stride)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.whole
def test_gradients_equal_finite_differences() -> None:
    inputs = arguments((3, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(deform_conv2d, inputs)


@pytest.mark.parametrize("frozen", range(5))
def test_gradients_of_the_rest_when_one_input_is_frozen(frozen: int) -> None:
    inputs = arguments((4, 5), dtype=torch.float64)
    rest = [tensor for position, tensor in enumerate(inputs) if position != frozen]
    expected = torch.autograd.grad(reference(*inputs).square().sum(), rest)
    inputs[frozen].requires_grad_(False)
    found = torch.autograd.grad(deform_conv2d(*inputs).square().sum(), rest)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.bfloat16, 0.01), (torch.float16, 0.002)], ids=str
)
def test_half_precision_is_close(dtype: torch.dtype, error: float) -> None:
    inputs = arguments((9, 11), dtype=dtype)
    exact = [tensor.detach().float().requires_grad_() for tensor in inputs]
    found, expected = deform_conv2d(*inputs), reference(*exact)
    assert found.dtype == dtype
    assert (found - expected).norm() < error * expected.norm()
    found = torch.autograd.grad(found.float().square().sum(), inputs)
    expected = torch.autograd.grad(expected.square().sum(), exact)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert (one - other).norm() < 2 * error * other.norm()


def test_positions_of_half_precision_offsets_are_exact() -> None:
    offsets = torch.full((1, 1, 300, 18), 0.25, dtype=torch.bfloat16)
    plan = sampling_plan(offsets, torch.ones(1, 1, 300, 9), input_hw=(1, 300))
    assert plan.weights.dtype == torch.float32
    # Middle tap of the position before the last: a quarter below the only row and to the right.
    assert plan.indices[0, 298, 4].tolist() == [298, 299, 298, 299]
    assert plan.weights[0, 298, 4].tolist() == [0.5625, 0.1875, 0.0, 0.0]


def test_offset_slope_is_zero_where_the_map_has_ended() -> None:
    # The first tap of the first position sits at exactly (-1, -1), where nothing is read any more.
    inputs = arguments((2, 2), reach=0.0, dtype=torch.float32)
    (slope,) = torch.autograd.grad(deform_conv2d(*inputs).sum(), inputs[1])
    assert slope[:, :2, 0, 0].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert slope[:, 8:10, 0, 0].ne(0).all()


def test_offsets_that_are_not_finite_read_no_foreign_memory() -> None:
    inputs = [tensor.detach() for tensor in arguments((3, 3), dtype=torch.float32)]
    inputs[1][0, :, 0] = torch.tensor([float("inf"), -float("inf"), float("nan")])
    output = deform_conv2d(*inputs)
    assert output[0, :, 0, :2].isfinite().all()
    assert output[0, :, 0, 2].isnan().all()
    assert output[0, :, 1:].isfinite().all()


def test_larger_map_is_reread_as_one_buffer() -> None:
    channels, fine, coarse = 3, (5, 4), (3, 2)
    maps = torch.arange(2 * channels * 20).view(2, channels, *fine)
    found = reread_at_coarser_size(maps.permute(0, 2, 3, 1), coarse)
    assert found.shape == (2, *coarse, channels)
    for image in range(2):
        buffer = maps[image].flatten().tolist()
        for channel in range(channels):
            for y in range(coarse[0]):
                for x in range(coarse[1]):
                    at = (channel * coarse[0] + y) * coarse[1] + x
                    assert found[image, y, x, channel] == buffer[at]


def test_map_of_the_same_size_is_reread_as_itself() -> None:
    maps = torch.randn(2, 3, 4, 18)
    assert reread_at_coarser_size(maps, (3, 4)).equal(maps)


@pytest.mark.parametrize("case", range(5))
def test_golden_official_convolution(case: int) -> None:
    names = ("input", "offset_mask", "weight", "bias")
    input, maps, weight, bias = (torch.from_numpy(GOLDEN[f"{case}.{name}"]) for name in names)
    found = deform_conv2d(
        input,
        maps[:, :18],
        maps[:, 18:].sigmoid(),
        weight,
        bias,
        stride=int(GOLDEN[f"{case}.stride"]),
    )
    expected = torch.from_numpy(GOLDEN[f"{case}.output"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_one_call_serves_several_levels() -> None:
    large = arguments((6, 7), dtype=torch.float64)
    small = arguments((3, 4), dtype=torch.float64)
    weight, bias = large[3:]
    table = torch.cat([level[0].flatten(2).mT for level in (large, small)], 1)
    plans = []
    for level, first_row in ((large, 0), (small, 42)):
        offsets, mask = (maps.permute(0, 2, 3, 1) for maps in level[1:3])
        size_hw = tuple(level[0].shape[2:])
        plans.append(
            sampling_plan(offsets, mask, input_hw=size_hw, first_row=first_row, rows_per_image=54)
        )
    plan = join_plans(plans)
    assert plan.indices.dtype == torch.int32

    found = sampled_matmul(table, plan, weight, bias)
    separately = [reference(*level[:3], weight, bias).flatten(2).mT for level in (large, small)]
    torch.testing.assert_close(found, torch.cat(separately, 1))


def test_plan_without_outputs_gives_none() -> None:
    plan = SamplingPlan(torch.zeros(1, 0, 9, 4, dtype=torch.int32), torch.zeros(1, 0, 9, 4))
    found = sampled_matmul(torch.randn(1, 5, 8), plan, torch.randn(6, 8, 3, 3), torch.randn(6))
    assert found.shape == (1, 0, 6)


def test_autocast_around_it_changes_nothing() -> None:
    inputs = arguments((4, 5), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = deform_conv2d(*inputs)
    assert found.equal(deform_conv2d(*inputs))
