"""Training without any source of chance, for comparing losses and gradients with recorded ones."""

from __future__ import annotations

from dataclasses import replace

from glip.config import ModelConfig


def without_chance(config: ModelConfig) -> ModelConfig:
    """The same model with every source of chance in training switched off.

    Dropout, stochastic depth and DropBlock at zero, so that two training steps from the same
    weights are equal: for comparisons with recorded losses and gradients.
    """
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return replace(
        config,
        backbone=replace(config.backbone, drop_path=0.0),
        text=replace(config.text, options={**config.text.options, **options}),
        head=replace(config.head, fusion_dropout=0.0, text_layer_dropout=0.0, drop_block=0.0),
    )
