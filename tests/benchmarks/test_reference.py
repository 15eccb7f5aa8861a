from collections.abc import Callable

import pytest
import torch
from reference import Reference, postprocess, preprocess
from torch import Tensor

from glip.config import ModelConfig, PostprocessOptions
from glip.data.transforms import pad_batch, to_pixels
from glip.model.glip import GLIP
from glip.model.presets import build, preset
from glip.model.text_encoder import Tokens
from glip.pixels import resize
from glip.postprocess import select_candidates, suppress

pytestmark = pytest.mark.whole

TOKENS = Tokens.pad([(101, 2711, 1012, 4937, 1012, 3899, 102), (101, 4937, 3899, 102)])


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_official_arrangement_gives_our_numbers(
    make_tiny_model: Callable[[], GLIP], pixels: Tensor
) -> None:
    model = make_tiny_model()
    ours, official = model(pixels, TOKENS), Reference(model)(pixels, TOKENS)
    assert official.logits.shape[2] == 256
    real = TOKENS.mask[:, None].expand_as(ours.logits)
    torch.testing.assert_close(ours.logits[real], official.logits[..., :7][real], **CLOSE)
    torch.testing.assert_close(ours.deltas, official.deltas, **CLOSE)
    torch.testing.assert_close(ours.centerness, official.centerness, **CLOSE)
    torch.testing.assert_close(ours.anchors, official.anchors)
    assert ours.level_sizes == official.level_sizes


CLOSE = {"rtol": 1e-3, "atol": 1e-3}


@torch.inference_mode()
@pytest.mark.parametrize("index", [0, 1])
def test_loops_over_labels_find_the_same_boxes(
    make_tiny_model: Callable[[], GLIP], pixels: Tensor, index: int
) -> None:
    output = make_tiny_model()(pixels, TOKENS)
    token_map = torch.zeros(3, 7, dtype=torch.bool)
    token_map[0, 1] = token_map[1, 3] = token_map[2, 2] = token_map[2, 1] = True
    options = PostprocessOptions(candidates_per_level=50, max_detections=20)
    ours = suppress(select_candidates(output, index, token_map, (90, 150), options), options)
    official = postprocess(output, index, token_map, (90, 150), options)
    assert len(official.scores) >= 20
    for part, other in zip(ours, official, strict=True):
        torch.testing.assert_close(part, other)


@torch.inference_mode()
def test_backbone_without_windows_and_head_without_fusion(tiny_config: ModelConfig) -> None:
    config = ModelConfig(
        backbone=preset("glip_nano").backbone,
        text=tiny_config.text,
        head=type(tiny_config.head)(
            channels=32, blocks=1, fusion=False, group_norm_groups=8, drop_block=0.0
        ),
    )
    model = build(config)
    pixels = torch.randn(1, 3, 64, 96)
    tokens = Tokens(TOKENS.ids[:1], TOKENS.mask[:1])
    ours, official = model(pixels, tokens), Reference(model)(pixels, tokens)
    torch.testing.assert_close(ours.logits, official.logits[..., :7], **CLOSE)


def test_pictures_become_the_same_pixels(
    make_picture: Callable[..., object], tiny_config: ModelConfig
) -> None:
    pictures = [make_picture(200, 130, seed=1), make_picture(130, 130, seed=2)]
    config = tiny_config.pixels
    ours = pad_batch([to_pixels(resize(picture, config), config) for picture in pictures])
    torch.testing.assert_close(ours, preprocess(pictures, config), rtol=1e-5, atol=1e-5)
