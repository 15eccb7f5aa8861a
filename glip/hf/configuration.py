"""`GlipConfig`: our `ModelConfig` as a configuration of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from glip.config import ModelConfig
from glip.model.presets import SOURCES, preset, without_sources
from glip.settings import from_dict


class GlipConfig(PretrainedConfig):  # type: ignore[misc]
    """The numbers of a GLIP; all of them stand in `glip`, as in our own weights files.

    Attributes:
        glip: A `glip.config.ModelConfig` as a dictionary; see there for its fields.
    """

    model_type = "glip"

    def __init__(self, glip: ModelConfig | Mapping[str, Any] | str | None = None, **kwargs: Any):
        """A configuration.

        Args:
            glip: The numbers; what a mapping leaves out is as in GLIP-T. Or the name of a model,
                such as "glip_nano".
            kwargs: As of every configuration of transformers.
        Raises:
            ConfigError: An unknown key or name, or a value that no model has.
        """
        if isinstance(glip, str):
            config = preset(glip)
        elif isinstance(glip, ModelConfig):
            config = glip
        else:
            config = from_dict(ModelConfig, glip or {}, where="config.json: glip")
        # Whoever loads weights has them already, and timm opens no others.
        config = without_sources(config)
        assert not SOURCES.intersection(config.backbone.options)
        self.glip: dict[str, Any] = config.to_dict()
        super().__init__(**kwargs)

    @property
    def numbers(self) -> ModelConfig:
        """What `glip` holds, checked."""
        return from_dict(ModelConfig, self.glip, where="config.json: glip")

    @property
    def hidden_size(self) -> int:
        """Width of a region, as others call it."""
        return self.numbers.head.channels
