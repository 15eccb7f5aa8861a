"""One dynamic head block against its definition, map by map with torchvision and torch's layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from glip.model.dyhead import DeformableConv, DyHeadBlock

C, GROUPS = 8, 4
SHAPES = [
    [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)],
    [(7, 9), (4, 5), (2, 3), (1, 2), (1, 1)],
    [(3, 5), (2, 3)],
]


def a_block(dtype: torch.dtype = torch.float64) -> DyHeadBlock:
    torch.manual_seed(11)
    block = DyHeadBlock(C, GROUPS)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block.to(dtype)


def some_regions(shapes: list[tuple[int, int]], dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(12)
    return torch.randn(2, sum(h * w for h, w in shapes), C, dtype=dtype)


def as_maps(regions: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    sizes = [h * w for h, w in shapes]
    return [
        part.mT.unflatten(2, hw) for part, hw in zip(regions.split(sizes, 1), shapes, strict=True)
    ]


def plain(block: DyHeadBlock, maps: list[Tensor]) -> list[Tensor]:
    def convolve(part: DeformableConv, x: Tensor, offset: Tensor, mask: Tensor, stride: int = 1):
        if offset.shape[2] * offset.shape[3] > x.shape[2] * x.shape[3] and stride == 1:
            # The finer level's numbers, read as if they were those of this smaller map.
            n, size = x.shape[2] * x.shape[3], x.shape[2:]
            offset = offset.flatten(1)[:, : 18 * n].view(len(x), 18, *size)
            mask = mask.flatten(1)[:, : 9 * n].view(len(x), 9, *size)
        out = deform_conv2d(x, offset, part.weight, part.bias, stride=stride, padding=1, mask=mask)
        return F.group_norm(out, part.norm.num_groups, part.norm.weight, part.norm.bias)

    def hard_sigmoid(x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6

    out = []
    for level, x in enumerate(maps):
        moves = block.offset(x)
        offset, mask = moves[:, :18], moves[:, 18:].sigmoid()
        candidates = [convolve(block.same, x, offset, mask)]
        if level > 0:
            candidates.append(convolve(block.finer, maps[level - 1], offset, mask, stride=2))
        if level < len(maps) - 1:
            small = convolve(block.coarser, maps[level + 1], offset, mask)
            candidates.append(
                F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=True)
            )
        gates = [hard_sigmoid(block.gate(c.mean((2, 3))).relu()) for c in candidates]
        y = torch.stack([g[..., None, None] * c for g, c in zip(gates, candidates, strict=True)])
        y = y.mean(0)
        code = hard_sigmoid(block.excite(block.squeeze(y.mean((2, 3))).relu()))[..., None, None]
        a_1, b_1, a_2, b_2 = code.split(C, 1)
        first = y * ((a_1 - 0.5) * 2 + 1) + b_1 - 0.5
        second = y * ((a_2 - 0.5) * 2) + b_2 - 0.5
        out.append(torch.maximum(first, second))
    return out


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_values_and_gradients_equal_the_definition(shapes: list[tuple[int, int]]) -> None:
    block, regions = a_block(), some_regions(shapes).requires_grad_()
    expected = torch.cat([m.flatten(2).mT for m in plain(block, as_maps(regions, shapes))], 1)
    found = block(regions, shapes)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    leaves = {"regions": regions, **dict(block.named_parameters())}
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, list(leaves.values()), grad, allow_unused=True)
    got = torch.autograd.grad(found, list(leaves.values()), grad, allow_unused=True)
    for name, one, other in zip(leaves, got, wanted, strict=True):
        other = torch.zeros_like(leaves[name]) if other is None else other
        one = torch.zeros_like(leaves[name]) if one is None else one
        torch.testing.assert_close(
            one, other, rtol=1e-4, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_every_weight_learns() -> None:
    block = a_block(torch.float32)
    block(some_regions(SHAPES[0], torch.float32), SHAPES[0]).square().sum().backward()
    assert [name for name, p in block.named_parameters() if not p.grad.any()] == []


@torch.no_grad()
def test_batch_equals_its_pictures_one_by_one() -> None:
    block, regions = a_block(), some_regions(SHAPES[1])
    together = block(regions, SHAPES[1])
    for image in range(2):
        torch.testing.assert_close(block(regions[image : image + 1], SHAPES[1])[0], together[image])


@torch.no_grad()
def test_half_precision_is_near_and_stays_half() -> None:
    block, regions = a_block(torch.float32), some_regions(SHAPES[0], torch.float32)
    expected = block(regions, SHAPES[0])
    found = block.bfloat16()(regions.bfloat16(), SHAPES[0])
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_weights_begin_as_officially() -> None:
    torch.manual_seed(0)
    block = DyHeadBlock(64)
    for part in (block.coarser, block.same, block.finer):
        bound = (64 * 9) ** -0.5
        assert 0.9 * bound < part.weight.abs().max() <= bound and part.bias.eq(0).all()
        assert part.norm.num_groups == 16
    assert 0.005 < block.gate.weight.std() < 0.015 and block.gate.bias.eq(0).all()
    assert isinstance(block.offset, nn.Conv2d) and block.offset.weight.any()  # not zero
