"""The four stages on timm's modules; windows are tested beside `glip/model/ops/windows.py`."""

import pytest
import torch
from torch.nn import functional as F

from glip.model.swin import SwinStages

WINDOW = 4
CHANNELS = 8


def small_swin(drop_path: float = 0.0) -> SwinStages:
    """Two stages; every number of it random, the bias tables and norms included."""
    torch.manual_seed(1)
    net = SwinStages(
        "swin_tiny_patch4_window7_224",
        drop_path,
        embed_dim=CHANNELS,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=WINDOW,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module")
def net() -> SwinStages:
    return small_swin()


@torch.no_grad()
@pytest.mark.parametrize("size", [(40, 36), (33, 50), (1, 1)])
def test_batch_equals_its_pictures_one_by_one(net: SwinStages, size: tuple[int, int]) -> None:
    pixels = torch.randn(3, 3, *size)
    together = net(pixels)
    for image in range(3):
        for found, expected in zip(net(pixels[image : image + 1]), together, strict=True):
            torch.testing.assert_close(found[0], expected[image], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_maps_have_their_strides_and_all_but_the_first_are_normalised(net: SwinStages) -> None:
    pixels = torch.randn(1, 3, 33, 66)  # nine by 17 patches, the last ones filled up with zeros
    first, second = net(pixels)
    assert first.shape == (1, 8, 9, 17) and second.shape == (1, 16, 5, 9)
    padded = F.pad(pixels, (0, 2, 0, 3))
    assert all(one.equal(two) for one, two in zip(net(padded), (first, second), strict=True))
    plain = (second.permute(0, 2, 3, 1) - net.norms[0].bias) / net.norms[0].weight
    torch.testing.assert_close(plain.mean(-1), torch.zeros(1, 5, 9), rtol=0, atol=1e-4)


@torch.no_grad()
def test_merging_pads_odd_maps_with_zeros(net: SwinStages) -> None:
    merge, x = net.layers[1].downsample, torch.randn(1, 3, 5, CHANNELS)
    full = F.pad(x, (0, 0, 0, 1, 0, 1))
    corners = [full[:, y::2, x::2] for x in (0, 1) for y in (0, 1)]  # down before right
    expected = merge.reduction(merge.norm(torch.cat(corners, -1)))
    torch.testing.assert_close(merge(x), expected)


# -------------------------------------------------------------------------------------- training


def test_every_weight_learns() -> None:
    net = small_swin(drop_path=0.1).train()
    first, second = net(torch.randn(2, 3, 32, 32))
    (first.square().sum() + second.pow(3).sum()).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("window", [5, 8])
@torch.no_grad()
def test_window_of_any_size_serves_all_stages(window: int) -> None:
    net = SwinStages(
        "swin_tiny_patch4_window7_224",
        embed_dim=8,
        depths=(1, 1, 2, 2),
        num_heads=(1, 1, 1, 1),
        window_size=window,
    ).eval()
    assert [tuple(level.shape[2:]) for level in net(torch.randn(1, 3, 64, 96))] == [
        (16, 24),
        (8, 12),
        (4, 6),
        (2, 3),
    ]
