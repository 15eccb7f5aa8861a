"""The image encoder: three maps with strides 8, 16 and 32 from any feature extractor of timm.

Knows nothing about text, boxes or training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glip.errors import ConfigError
from glip.model.efficientnet import NAME, EfficientNetLite
from glip.settings import nearest

STRIDES = (8, 16, 32)
ANY_SIZE: tuple[Mapping[str, Any], ...] = (
    {"strict_img_size": False},
    {"dynamic_img_size": True},
    {},
)
"""How models that were made for one size of picture are told to take others; the first that a model
knows is used."""
PROBES = ((64, 96), (128, 96))
"""Sizes of pictures, pixels, that a new backbone is tried with."""


class Backbone(nn.Module):
    """Maps C3, C4 and C5 of a picture.

    Args:
        name: A timm model, with or without a tag of its weights. `tf_efficientnet_lite0` is written
            out (`glip/model/efficientnet.py`), `swin_*` runs as released GLIP weights need it
            (`glip/model/swin.py`), any other one through timm's `features_only` interface.
        drop_path: Largest stochastic depth rate; ignored by models that have none.
        options: Further arguments of the timm model, such as `pretrained=True`.
    Raises:
        ConfigError: timm does not know the name, or the model has no maps of these strides, or
            none of pictures of any size.
    """

    def __init__(self, name: str, drop_path: float = 0.0, **options: Any) -> None:
        super().__init__()
        self.body: nn.Module
        self._channels_last = False
        if name == NAME and not options:
            self.body = EfficientNetLite(drop_path)
            self._kept = slice(0, 3)
            self.channels = tuple(self.body.channels)
            return
        _check_name(name)
        if name.startswith("swin_"):
            from glip.model.swin import SwinStages

            self.body = SwinStages(name, drop_path, **options)
            self._kept = slice(1, 4)
            self.channels = self.body.channels[1:]
            return
        body = _features(name, drop_path, options)
        strides = list(body.feature_info.reduction())
        if [s for s in strides if s in STRIDES] != list(STRIDES):
            raise ConfigError(f"backbone '{name}' has strides {strides}, 8, 16 and 32 are needed")
        first = strides.index(8)
        self.body = body
        self._channels_last = "NHWC" in str(getattr(body, "output_fmt", ""))
        self._kept = slice(first, first + 3)
        self.channels = tuple(body.feature_info.channels()[self._kept])
        self._try(name)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Three maps, finest first.

        Args:
            pixels: (B, 3, H, W), normalised; H and W multiples of 32.
        Returns:
            (B, channels[i], H / s, W / s) for s = 8, 16, 32.
        """
        maps: list[Tensor] = self.body(pixels)[self._kept]
        if self._channels_last:
            return [one.permute(0, 3, 1, 2).contiguous() for one in maps]
        return maps

    @torch.no_grad()
    def _try(self, name: str) -> None:
        """Refuse a model that takes one size of picture only, or gives other maps than it says."""
        if any(parameter.is_meta for parameter in self.body.parameters()):
            return  # made to have weights loaded, which it was tried with before they were saved
        training = self.body.training
        self.body.eval()
        for height, width in PROBES:
            expected = [
                (1, channels, height // stride, width // stride)
                for channels, stride in zip(self.channels, STRIDES, strict=True)
            ]
            try:
                found = [tuple(one.shape) for one in self(torch.zeros(1, 3, height, width))]
            except Exception as error:  # a model meets a wrong size in its own ways
                raise ConfigError(
                    f"backbone '{name}' takes pictures of one size only ({_first_line(error)}); "
                    "choose one that takes any"
                ) from error
            if found != expected:
                raise ConfigError(
                    f"backbone '{name}' gives maps {found} of a picture {height}x{width}, expected "
                    f"{expected}"
                )
        self.body.train(training)


def _check_name(name: str) -> None:
    """Refuse what timm does not know."""
    # timm takes longer to import than a prediction, so only those wait that need it.
    import timm

    architecture = name.partition(".")[0]
    if architecture not in timm.list_models():
        way_out = "timm.list_models() names them all"
        raise ConfigError(
            f"backbone '{name}' is not a model of timm {timm.__version__}; "
            + nearest(architecture, timm.list_models(), else_=way_out, most=3)
        )


def _features(name: str, drop_path: float, options: Mapping[str, Any]) -> Any:
    """A model of timm that gives its maps, for pictures of any size if it can."""
    import timm

    for size in ANY_SIZE:
        for more in ({"drop_path_rate": drop_path}, {}):
            try:
                return timm.create_model(name, features_only=True, **{**size, **more, **options})
            except TypeError as error:
                guessed = {**size, **more}.keys() - options.keys()
                if not any(option in str(error) for option in guessed):
                    raise ConfigError(
                        f"backbone '{name}' gives no feature maps: {_first_line(error)}"
                    ) from error
            except Exception as error:  # of many kinds, and what a download may meet
                raise ConfigError(
                    f"backbone '{name}' gives no feature maps: {_first_line(error)}"
                ) from error
    raise ConfigError(f"backbone '{name}' gives no feature maps")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
