"""The image encoder: three maps with strides 8, 16 and 32 from any feature extractor of timm.

Knows nothing about text, boxes or training.
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import Tensor, nn

from glip.errors import ConfigError
from glip.model.efficientnet import NAME, EfficientNetLite

STRIDES = (8, 16, 32)


class Backbone(nn.Module):
    """Maps C3, C4 and C5 of a picture.

    Args:
        name: A timm model. `tf_efficientnet_lite0` is written out (`glip/model/efficientnet.py`),
            `swin_*` runs as released GLIP weights need it (`glip/model/swin.py`), any other one
            through timm's `features_only` interface.
        drop_path: Largest stochastic depth rate; ignored by models that have none.
        options: Further arguments of the timm model.
    Raises:
        ConfigError: timm does not know the name, or the model has no maps of these strides.
    """

    def __init__(self, name: str, drop_path: float = 0.0, **options: Any) -> None:
        super().__init__()
        self.body: nn.Module
        if name == NAME and not options:
            self.body = EfficientNetLite(drop_path)
            self._kept = slice(0, 3)
            self.channels = tuple(self.body.channels)
            return
        # timm takes longer to import than a prediction, so only those wait that need it.
        import timm

        from glip.model.swin import SwinStages

        if name not in timm.list_models():
            near = difflib.get_close_matches(name, timm.list_models(), n=3)
            raise ConfigError(
                f"backbone '{name}' is not a model of timm {timm.__version__}"
                + (f"; did you mean {' or '.join(near)}?" if near else "")
            )
        if name.startswith("swin_"):
            self.body = SwinStages(name, drop_path, **options)
            self._kept = slice(1, 4)
            self.channels = self.body.channels[1:]
            return
        body: Any
        try:
            try:
                body = timm.create_model(
                    name, features_only=True, drop_path_rate=drop_path, **options
                )
            except TypeError as error:
                if "drop_path_rate" not in str(error) or "drop_path_rate" in options:
                    raise
                body = timm.create_model(name, features_only=True, **options)
        except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
            raise ConfigError(f"backbone '{name}' gives no feature maps: {error}") from error
        strides = list(body.feature_info.reduction())
        if [s for s in strides if s in STRIDES] != list(STRIDES):
            raise ConfigError(f"backbone '{name}' has strides {strides}, 8, 16 and 32 are needed")
        first = strides.index(8)
        self.body = body
        self._kept = slice(first, first + 3)
        self.channels = tuple(body.feature_info.channels()[self._kept])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Three maps, finest first.

        Args:
            pixels: (B, 3, H, W), normalised; H and W multiples of 32.
        Returns:
            (B, channels[i], H / s, W / s) for s = 8, 16, 32.
        """
        maps: list[Tensor] = self.body(pixels)
        return maps[self._kept]
