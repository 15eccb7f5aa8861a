"""Feature extractors of timm by name."""

import pytest
import timm
import torch
from torch.nn import functional as F

from glip.errors import ConfigError
from glip.model.backbone import STRIDES, Backbone


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "hrnet_w18_small"]
)
def test_any_extractor_gives_three_maps(name: str) -> None:
    backbone = Backbone(name, drop_path=0.1).eval()
    maps = backbone(torch.randn(1, 3, 64, 96))
    expected = [
        (1, width, 64 // stride, 96 // stride)
        for width, stride in zip(backbone.channels, STRIDES, strict=True)
    ]
    assert [tuple(level.shape) for level in maps] == expected


@torch.no_grad()
def test_maps_are_those_of_timm() -> None:
    backbone = Backbone("resnet18").eval()
    theirs = timm.create_model("resnet18", features_only=True).eval()
    theirs.load_state_dict(backbone.body.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    for one, other in zip(backbone(pixels), theirs(pixels)[2:], strict=True):
        assert one.equal(other)


@torch.no_grad()
def test_swin_equals_timm_where_both_agree() -> None:
    # A map that divides into windows at every stage, where timm's order of padding does not matter.
    options = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}
    name = "swin_tiny_patch4_window7_224"
    backbone = Backbone(name, **options).eval()
    theirs = timm.create_model(name, features_only=True, always_partition=True, **options).eval()
    ours = backbone.body.state_dict()
    state = {key: ours[key.replace("layers_", "layers.")] for key in theirs.state_dict()
             if "attn_mask" not in key}  # fmt: skip
    theirs.load_state_dict(state, strict=False)
    pixels = torch.randn(1, 3, 224, 224)
    for level, (found, plain) in enumerate(
        zip(backbone(pixels)[:2], theirs(pixels)[1:3], strict=True)
    ):
        norm = backbone.body.norms[level]
        expected = F.layer_norm(plain, norm.normalized_shape).permute(0, 3, 1, 2)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnt18", {}, "'resnt18' is not a model of timm .*; did you mean 'resnet18"),
        ("", {}, "'' is not a model of timm"),
        ("vit_tiny_patch16_224", {}, "has strides .16, 16, 16., 8, 16 and 32 are needed"),
        ("resnet18", {"wat": 3}, "'resnet18' gives no feature maps: .*'wat'"),
        ("resnet18", {"out_indices": [1, 2]}, "8, 16 and 32 are needed"),
        pytest.param(
            "swin_tiny_patch4_window7_224",
            {"embed_dm": 9},
            "'swin_tiny.*'embed_dm'",
            marks=pytest.mark.skipif(timm.__version__ == "1.0.15", reason="timm takes any option"),
        ),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 25}, "3 heads do not divide 25 channels"),
    ],
)
def test_what_cannot_be_built_says_why(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone(name, **options)
