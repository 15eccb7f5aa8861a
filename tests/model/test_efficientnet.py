"""Our EfficientNet-Lite against that of timm, weight by weight and number by number."""

import pytest
import timm
import torch

from glip.model.efficientnet import NAME, EfficientNetLite, SameConv


@pytest.mark.parametrize("size", [(64, 96), (96, 65)])
def test_same_names_and_numbers_as_timm(size: tuple[int, int]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = timm.create_model(NAME, features_only=True).eval()
    ours = EfficientNetLite().eval()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for found, expected in zip(ours(pixels), theirs(pixels)[2:], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert list(ours.channels) == theirs.feature_info.channels()[2:]


def test_blocks_are_skipped_in_training_only() -> None:
    model = EfficientNetLite(drop_path=0.5)
    pixels = torch.randn(1, 3, 64, 64)
    assert model.eval()(pixels)[-1].equal(model(pixels)[-1])
    rates = [block.drop_path for stage in model.blocks for block in stage]
    assert rates[0] == 0 and rates == sorted(rates) and rates[-1] == 0.5 * 15 / 16
    block = next(b for stage in model.blocks for b in stage if b.skips).train()
    block.drop_path = 1 - 1e-9
    x = torch.randn(4, block.conv_pw.in_channels, 8, 8)
    assert block(x).equal(x)


def test_padding_lies_right_and_below() -> None:
    conv = SameConv(1, 1, 3, 2)
    torch.nn.init.ones_(conv.weight)
    assert conv(torch.ones(1, 1, 4, 4)).tolist() == [[[[9, 6], [6, 4]]]]
