"""The pyramid, and DropBlock on its way down."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from glip.model.fpn import FPN, DropBlock

WIDTHS = (3, 4, 5)


def some_maps(height: int = 8, width: int = 12) -> list[Tensor]:
    sizes = [(height, width), (-(-height // 2), -(-width // 2)), (-(-height // 4), -(-width // 4))]
    return [torch.randn(2, c, *size) for c, size in zip(WIDTHS, sizes, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 12), (4, 4), (5, 7)])
def test_pyramid_equals_its_definition(size: tuple[int, int]) -> None:
    fpn, (c3, c4, c5) = FPN(WIDTHS, 6).eval(), some_maps(*size)
    for conv in [*fpn.lateral, *fpn.smooth, fpn.p6, fpn.p7]:
        conv.bias.normal_()
    t5 = fpn.lateral[2](c5)
    t4 = fpn.lateral[1](c4) + F.interpolate(t5, size=c4.shape[2:])
    t3 = fpn.lateral[0](c3) + F.interpolate(t4, size=c3.shape[2:])
    p3, p4, p5 = (smooth(t) for smooth, t in zip(fpn.smooth, (t3, t4, t5), strict=True))
    p6 = fpn.p6(p5)
    p7 = fpn.p7(p6.clamp(min=0))
    for found, expected in zip(fpn([c3, c4, c5]), (p3, p4, p5, p6, p7), strict=True):
        assert found.equal(expected)
    assert p6.shape[2:] == tuple(-(-side // 2) for side in p5.shape[2:])


def test_drop_block_spares_the_running_map_and_the_top() -> None:
    fpn = FPN(WIDTHS, 6, drop_block=0.9).train()
    maps = some_maps()
    with torch.no_grad():
        plain, dropped = fpn.eval()(maps), fpn.train()(maps)
        assert all(plain[level].equal(dropped[level]) for level in (2, 3, 4))
        assert not plain[0].equal(dropped[0]) and not plain[1].equal(dropped[1])
        fpn.drop.forward = lambda x: x * 0  # type: ignore[method-assign]
        blank = fpn(maps)
    assert blank[0].equal(fpn.smooth[0].bias.view(-1, 1, 1).expand_as(blank[0]))
    assert blank[2].equal(plain[2])


def test_drop_block_blanks_squares_of_all_channels() -> None:
    torch.manual_seed(0)
    out = DropBlock(0.05).train()(torch.ones(4, 3, 30, 30))
    blank = out[:, 0] == 0
    assert (out == 0).equal(blank[:, None].expand_as(out)) and 0 < blank.float().mean() < 0.1
    # Opened with its own square, a set of squares stays what it is (away from the border).
    eroded = -F.max_pool2d(-blank.float(), 3, 1, 1)
    opened = F.max_pool2d(eroded, 3, 1, 1).bool()
    assert opened[:, 2:-2, 2:-2].equal(blank[:, 2:-2, 2:-2])


def test_drop_block_keeps_the_scale() -> None:
    torch.manual_seed(0)
    out = DropBlock(0.3).train()(torch.ones(8, 2, 20, 20))
    assert out.mean().item() == pytest.approx(1.0, abs=1e-5)
    assert 0.15 < (out == 0).float().mean() < 0.3


@pytest.mark.parametrize(("probability", "training"), [(0.3, False), (0.0, True)])
def test_drop_block_does_nothing_otherwise(probability: float, training: bool) -> None:
    x = torch.randn(1, 2, 5, 5)
    assert DropBlock(probability).train(training)(x) is x


def test_drop_block_that_blanks_everything_is_zero_and_not_nan() -> None:
    assert DropBlock(9.0).train()(torch.ones(1, 2, 5, 5)).eq(0).all()
