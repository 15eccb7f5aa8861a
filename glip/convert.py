"""Official weights to our names and back: a rename table and the few tensors that change shape.

The official state dict is flat; each of its keys becomes one key of ours, is on the list of keys
without effect, or is an error. Knows nothing about files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from glip.errors import CheckpointError
from glip.model.fpn import LEVEL_STRIDES

# Official keys that change no result, with the reason: the released code never reads them.
WITHOUT_EFFECT: tuple[tuple[str, str], ...] = (
    (r"rpn\.head\.cls_logits\.(weight|bias)", "classifier whose output is multiplied by zero"),
    (r"rpn\.anchor_generator\.cell_anchors\.\d+", "anchors are computed"),
    (r"backbone\.body\..*\.relative_position_index", "computed from the window size"),
    (r"backbone\.body\..*\.attn_mask", "computed from the picture size"),
    (r"backbone\.body\.norm0\..*", "the stride-4 map is not used"),
    (r"backbone\.body\.(norm|head)\.(weight|bias)", "classifier of the pre-trained backbone"),
    (r"language_backbone\.body\.model\.embeddings\.(position_ids|token_type_ids)", "computed"),
    (r"language_backbone\.body\.model\.pooler\..*", "only token states are used"),
    (r"rpn\.resizer\..*", "head of another training task"),
    (r"rpn\.head\.mlm_head\..*", "masked language model, training only"),
    (r"rpn\.head\.(token_logits|contrastive_align_projection_\w+)\..*", "head of an unused loss"),
)

_CONVS = {"0": "coarser", "1": "same", "2": "finer"}
_TEXT_LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "expand",
    "output.dense": "shrink",
    "output.LayerNorm": "norm",
}
_FUSION = {
    "gamma_v": "visual_gamma",
    "gamma_l": "text_gamma",
    "layer_norm_v": "visual_norm",
    "layer_norm_l": "text_norm",
    "attn.v_proj": "visual_query",
    "attn.l_proj": "text_key",
    "attn.values_v_proj": "visual_value",
    "attn.values_l_proj": "text_value",
    "attn.out_v_proj": "visual_out",
    "attn.out_l_proj": "text_out",
}
_BLOCK = {
    **{f"DyConv.{i}.conv": name for i, name in _CONVS.items()},
    **{f"DyConv.{i}.bn": f"{name}.norm" for i, name in _CONVS.items()},
    "AttnConv.1": "gate",
    "relu.fc.0": "squeeze",
    "relu.fc.2": "excite",
    "offset": "offset",
}
_HEAD = {
    "rpn.head.bbox_pred": "head.outputs.deltas",
    "rpn.head.centerness": "head.outputs.centerness",
    "rpn.head.dot_product_projection_text": "head.outputs.project",
    "rpn.head.log_scale": "head.outputs.log_scale",
    "rpn.head.bias_lang": "head.outputs.word_bias",
    "rpn.head.bias0": "head.outputs.bias",
}
SCALES = "head.outputs.scales"  # ours: one tensor; official: a one-element tensor for each level
_FLAT_LINEAR = (  # ours are linear layers, the official ones 1x1 convolutions
    "head.outputs.deltas.weight",
    "head.outputs.centerness.weight",
    ".block.gate.weight",
)
_TENSOR = r"(weight|bias)"


def is_official(keys: Iterable[str]) -> bool:
    """Whether a state dict carries the official names, with or without `module.`."""
    return any(re.match(r"(module\.)?rpn\.head\.", key) for key in keys)


def has_fusion(official_keys: Iterable[str]) -> bool:
    """Whether official keys hold deep fusion; if so, a stage takes three entries of the tower."""
    return any(".b_attn." in key for key in official_keys)


def rename(key: str, fused: bool) -> str | None:
    """Our name of one official key that has an effect; None if it is unknown.

    Args:
        key: Without `module.`.
        fused: Whether the tower it comes from has deep fusion.
    """
    if match := re.fullmatch(rf"backbone\.fpn\.fpn_(inner|layer)(\d)\.{_TENSOR}", key):
        part, level, tensor = match.groups()
        return f"neck.{'lateral' if part == 'inner' else 'smooth'}.{int(level) - 2}.{tensor}"
    if match := re.fullmatch(rf"backbone\.fpn\.top_blocks\.(p[67])\.{_TENSOR}", key):
        return "neck.{}.{}".format(*match.groups())
    if match := re.fullmatch(rf"backbone\.body\.norm([123])\.{_TENSOR}", key):
        return f"backbone.body.norms.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"backbone\.body\.layers\.(\d)\.downsample\.(.+)", key):
        # timm counts the downsampling to the stage that it leads to
        return f"backbone.body.layers.{int(match[1]) + 1}.downsample.{match[2]}"
    if match := re.fullmatch(r"backbone\.body\.((patch_embed|layers)\..+)", key):
        return f"backbone.body.{match[1]}"
    if match := re.fullmatch(r"language_backbone\.body\.model\.(.+)", key):
        return f"text.model.{match[1]}"
    if match := re.fullmatch(r"rpn\.head\.scales\.(\d)\.scale", key):
        return f"{SCALES}.{match[1]}"
    if match := re.fullmatch(r"rpn\.head\.dyhead_tower\.(\d+)\.(.+)", key):
        return _rename_tower(int(match[1]), match[2], fused)
    stem, _, tensor = key.rpartition(".")
    if key in _HEAD:
        return _HEAD[key]
    return f"{_HEAD[stem]}.{tensor}" if stem in _HEAD else None


def _rename_tower(index: int, rest: str, fused: bool) -> str | None:
    stage, part = divmod(index, 3) if fused else (index, 2)
    room, table = (("fusion", _FUSION), ("text_layer", _TEXT_LAYER), ("block", _BLOCK))[part]
    if part == 0:
        if not rest.startswith("b_attn."):
            return None
        rest = rest.removeprefix("b_attn.")
        if rest in table:  # the two gammas are plain parameters
            return f"head.stages.{stage}.{room}.{table[rest]}"
    stem, _, tensor = rest.rpartition(".")
    return f"head.stages.{stage}.{room}.{table[stem]}.{tensor}" if stem in table else None


def without_effect(key: str) -> bool:
    """Whether an official key is on the list of those that change no result."""
    return any(re.fullmatch(pattern, key) for pattern, _ in WITHOUT_EFFECT)


def rename_table(official_keys: Iterable[str]) -> dict[str, str]:
    """Our key for each official key that has an effect.

    Args:
        official_keys: Without `module.`.
    Raises:
        CheckpointError: Keys that are neither known nor on the list of those without effect.
    """
    keys = list(official_keys)
    fused = has_fusion(keys)
    table, unknown = {}, []
    for key in keys:
        if without_effect(key):
            continue
        name = rename(key, fused)
        if name is None:
            unknown.append(key)
        else:
            table[key] = name
    if unknown:
        shown = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        raise CheckpointError(
            f"{len(unknown)} keys of the official checkpoint are not known to glip: {shown}"
        )
    return table


def convert(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from an official one.

    Args:
        official: The `model` entry of a released file, keys with or without `module.`.
    Returns:
        Tensors under our names; they share memory with the given ones.
    Raises:
        CheckpointError: An unknown key, or levels missing from the box scales.
    """
    stripped = {key.removeprefix("module."): tensor for key, tensor in official.items()}
    ours: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    for key, name in rename_table(stripped).items():
        tensor = stripped[key]
        if name.startswith(SCALES):
            scales[name] = tensor.reshape(-1)
        elif name.endswith(_FLAT_LINEAR) and tensor.ndim == 4:
            ours[name] = tensor.flatten(1)
        else:
            ours[name] = tensor
    if len(scales) != len(LEVEL_STRIDES):
        raise CheckpointError(
            f"the checkpoint has box scales of {len(scales)} levels, {len(LEVEL_STRIDES)} are "
            "needed"
        )
    ours[SCALES] = torch.cat([scales[name] for name in sorted(scales)])
    return ours


def to_official(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `convert`: official names without `module.`, parameters only.

    Args:
        ours: State dict of a model of this package, or gradients under the same keys.
    """
    fused = any(".fusion." in key for key in ours)
    official: dict[str, Tensor] = {}
    for key, tensor in ours.items():
        if key == SCALES:
            for level, scale in enumerate(tensor):
                official[f"rpn.head.scales.{level}.scale"] = scale.reshape(1)
            continue
        if key.endswith(_FLAT_LINEAR):
            tensor = tensor[:, :, None, None]
        official[_official_name(key, fused)] = tensor
    return official


def _official_name(key: str, fused: bool) -> str:
    """The official key that `rename` turns into ours."""
    if match := re.fullmatch(r"neck\.(lateral|smooth)\.(\d)\.(.+)", key):
        part = "inner" if match[1] == "lateral" else "layer"
        return f"backbone.fpn.fpn_{part}{int(match[2]) + 2}.{match[3]}"
    if match := re.fullmatch(r"neck\.(p[67]\..+)", key):
        return f"backbone.fpn.top_blocks.{match[1]}"
    if match := re.fullmatch(r"backbone\.body\.norms\.(\d)\.(.+)", key):
        return f"backbone.body.norm{int(match[1]) + 1}.{match[2]}"
    if match := re.fullmatch(r"backbone\.body\.layers\.(\d)\.downsample\.(.+)", key):
        return f"backbone.body.layers.{int(match[1]) - 1}.downsample.{match[2]}"
    if match := re.fullmatch(r"text\.(model\..+)", key):
        return f"language_backbone.body.{match[1]}"
    if match := re.fullmatch(r"head\.stages\.(\d+)\.(\w+)\.(.+)", key):
        place = ("fusion", "text_layer", "block").index(match[2])
        index = 3 * int(match[1]) + place if fused else int(match[1])
        rest = _with_stem(match[3], (_FUSION, _TEXT_LAYER, _BLOCK)[place])
        return f"rpn.head.dyhead_tower.{index}.{'b_attn.' if place == 0 else ''}{rest}"
    return _with_stem(key, _HEAD) if key.startswith("head.") else key


def _with_stem(key: str, table: Mapping[str, str]) -> str:
    """The key with its stem, or all of it, replaced by what stands for it in the table."""
    inverse = {ours: official for official, ours in table.items()}
    if key in inverse:
        return inverse[key]
    stem, _, tensor = key.rpartition(".")
    return f"{inverse[stem]}.{tensor}"


def recognise(official_keys: Mapping[str, tuple[int, ...]]) -> str:
    """Preset name of an official checkpoint, from its keys and shapes.

    (B), (C) and GLIP-T cannot be told apart, as they differ in training data only: all are
    "glip_tiny".

    Args:
        official_keys: Shapes by key, without `module.`.
    Raises:
        CheckpointError: Neither Swin-T nor Swin-L.
    """
    patch = official_keys.get("backbone.body.patch_embed.proj.weight", ())
    fused = has_fusion(official_keys)
    variants = {(96, True): "glip_tiny", (96, False): "glip_tiny_a", (192, True): "glip_large"}
    width = patch[0] if patch else None
    if (width, fused) not in variants:
        raise CheckpointError(
            f"not a released GLIP model: patch embedding of width {width}, "
            f"{'with' if fused else 'without'} fusion; known are Swin-T (96) with or without and "
            "Swin-L (192) with fusion"
        )
    return variants[width, fused]  # type: ignore[index]
