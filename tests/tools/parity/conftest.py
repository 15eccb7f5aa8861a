"""A folder of made-up cases of every kind, in the form of the recorded ones.

What they hold comes from this package itself, so all of them pass until something is changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import cases as parity_cases
from parity import recipe
from parity.cases import KINDS, Case
from parity.compare import stored_part

from glip.config import ModelConfig
from glip.convert import to_official
from glip.model.presets import build_empty

VARIANT = "tiny_for_tests"


class Unrecorded(dict[str, Any]):
    """Stands for arrays that are not recorded yet."""

    def __missing__(self, name: str) -> Any:
        shape = (0, 4) if name.endswith("boxes") else () if name.startswith("grad:") else (0,)
        return np.zeros(shape)


def record(folder: Path, stem: str, meta: dict[str, Any], **inputs: Any) -> None:
    """Write a case whose arrays are ours, large tensors by samples."""
    case = Case(stem, meta, Unrecorded(inputs))
    with torch.set_grad_enabled(case.kind == "loss"):
        KINDS[case.kind](case)
    for name, facts in meta.get("tensors", {}).items():
        full = case.arrays[name]
        facts.update(shape=list(full.shape), std=float(full.std()), absmax=float(abs(full).max()))
        facts.update(noise_max=1e-7 * facts["absmax"])
        facts["stored"] = "samples:64" if full.size > 500 else "full"
        case.arrays[name] = stored_part(name, full, facts["stored"])
    for key in meta.get("losses", {}):
        meta["losses"][key] = float(case.arrays[key])
    for key in meta.get("gradient_norms_of_all_parameters", {}):
        norm = case.arrays.pop(f"norm:{key}", 1.0)  # a bias of keys is not compared
        meta["gradient_norms_of_all_parameters"][key] = float(norm)
        if norm and not key.endswith("key.bias"):
            case.arrays[f"norm:{key}"] = norm
    for key, facts in meta.get("gradients", {}).items():
        facts["absmax"] = float(abs(case.arrays[f"grad:{key}"]).max())
    (folder / f"{stem}.json").write_text(json.dumps(meta))
    np.savez(folder / f"{stem}.npz", **{**inputs, **case.arrays})


def unit_meta() -> dict[str, Any]:
    c, d, wide = 8, 12, 16

    def linear(name: str, out: int, into: int) -> dict[str, list[int]]:
        return {f"{name}.weight": [out, into], f"{name}.bias": [out]}

    def norm(name: str, width: int) -> dict[str, list[int]]:
        return {f"{name}.weight": [width], f"{name}.bias": [width]}

    def prefixed(prefix: str, keys: Mapping[str, list[int]]) -> dict[str, list[int]]:
        return {prefix + key: shape for key, shape in keys.items()}

    dyconv = {"offset.weight": [27, c, 3, 3], "offset.bias": [27]}
    dyconv |= {"AttnConv.1.weight": [1, c, 1, 1], "AttnConv.1.bias": [1]}
    dyconv |= linear("relu.fc.0", 2, c) | linear("relu.fc.2", 4 * c, 2)
    for part in range(3):
        dyconv |= {f"DyConv.{part}.conv.weight": [c, c, 3, 3], f"DyConv.{part}.conv.bias": [c]}
        dyconv |= norm(f"DyConv.{part}.bn", c)
    fuse = {"gamma_v": [c], "gamma_l": [d]} | norm("layer_norm_v", c) | norm("layer_norm_l", d)
    for name, out, into in (("v_proj", wide, c), ("l_proj", wide, d), ("values_v_proj", wide, c),
                            ("values_l_proj", wide, d), ("out_v_proj", c, wide),
                            ("out_l_proj", d, wide)):  # fmt: skip
        fuse |= linear(f"attn.{name}", out, into)
    text = linear("attention.output.dense", d, d) | norm("attention.output.LayerNorm", d)
    text |= linear("intermediate.dense", 20, d) | linear("output.dense", d, 20)
    text |= norm("output.LayerNorm", d)
    for name in ("query", "key", "value"):
        text |= linear(f"attention.self.{name}", d, d)
    swin = {"downsample.reduction.weight": [2 * c, 4 * c]} | norm("downsample.norm", 4 * c)
    for block in range(2):
        keys = norm("norm1", c) | norm("norm2", c) | linear("attn.qkv", 3 * c, c)
        keys |= linear("attn.proj", c, c) | linear("mlp.fc1", 4 * c, c) | linear("mlp.fc2", c, 32)
        keys |= {"attn.relative_position_bias_table": [49, 2]}
        swin |= prefixed(f"blocks.{block}.", keys)
    levels = [(4, 6), (2, 3), (1, 2)]
    inputs = [{"name": f"level{i}", "shape": [2, c, *hw]} for i, hw in enumerate(levels)]
    return {
        "deform_conv": [
            {"name": "dcn", "input": [1, 4, 3, 3], "offset_mask": [1, 27, 5, 6],
             "offset_mask_std": 1.2, "weight": [5, 4, 3, 3], "weight_std": 0.2, "bias": [5],
             "stride": 1, "padding": 1}
        ],
        "dyconv": {"prefix": "d.", "keys": prefixed("d.", dyconv), "group_norm_groups": 4,
                   "inputs": inputs},
        "fuse": {"prefix": "f.", "keys": prefixed("f.", fuse), "heads": 2, "embed_dim": wide,
                 "inputs": inputs, "text": {"name": "words", "shape": [2, 5, d]},
                 "valid_tokens": [3, 5]},
        "text": {"prefix": "t.", "keys": prefixed("t.", text), "heads": 3,
                 "input": {"name": "words", "shape": [2, 5, d]}, "valid_tokens": [3, 5]},
        "swin": [{"prefix": "s.", "keys": prefixed("s.", swin), "window": 4, "heads": 2,
                  "depth": 2, "dim": c, "input": {"name": "map", "shape": [1, 35, c]},
                  "hw": [5, 7]}],
        "boxes": {"grid_sizes": [[3, 4], [2, 2], [1, 2], [1, 1], [1, 1]],
                  "centerness": "boxes around the anchors: x1-5.5, y1-3.1, x2+2.2, y2+9",
                  "token_focal": {"logits": {"name": "logits", "shape": [2, 6, 4], "std": 2},
                                  "targets": "tensor('made.targets', (2, 6, 4)) > 0.5",
                                  "valid_tokens": [2, 4]}},
    }  # fmt: skip


def unit_inputs() -> dict[str, Any]:
    near = 100 * np.abs(recipe.tensor("near", (2, 6, 2)))
    boxes, anchors = np.concatenate([near, near + 20 + near[::-1]], -1)
    return {
        "boxes.gt": boxes,
        "boxes.anchor": anchors,
        "boxes.pred": recipe.tensor("pred", (6, 4)),
        "loss.pred": recipe.tensor("other", (6, 4)),
        "loss.weight": np.abs(recipe.tensor("weight", (6,))),
    }


def model_meta(config: ModelConfig) -> dict[str, Any]:
    return {
        "variant": config.name,
        "salt": "",
        "bias0": -1.0,
        "image_names": ["one", "two"],
        "image_sizes_hw": [[60, 90], [64, 70]],
        "input_ids": [[101, 2711, 1012, 4026, 2422, 102], [101, 2711, 102]],
    }


@pytest.fixture
def tiny_variant(monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig) -> ModelConfig:
    """Every variant is the tiny model."""
    monkeypatch.setattr(parity_cases, "preset", lambda name: tiny_config)
    return tiny_config


@pytest.fixture(scope="session")
def case_folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: ModelConfig) -> Path:
    """One case of each kind; read only, and `tiny_variant` must be on."""
    folder = tmp_path_factory.mktemp("cases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity_cases, "preset", lambda name: tiny_config)
        record_all(folder, tiny_config)
    return folder


def record_all(folder: Path, config: ModelConfig) -> None:
    official = to_official(build_empty(config).state_dict())

    weight = recipe.parameter("rpn.head.bias_lang", (32,))
    picture = recipe.image("check", 9, 7)
    record(folder, "recipe_check", {
        "seeds": {"name": str(recipe.seed("name"))},
        "parameters": [{"key": "rpn.head.bias_lang", "shape": [32],
                        "sha256": hashlib.sha256(weight.tobytes()).hexdigest()}],
        "salted": [],
        "image": {"name": "check", "hw": [9, 7],
                  "sha256": hashlib.sha256(picture.tobytes()).hexdigest()},
        "samples": {"name": "check", "numel": 100000, "first": [25048, 92025, 63355, 70631]},
    })  # fmt: skip
    entries = [{"key": key, "shape": list(tensor.shape), "dtype": "float32"}
               for key, tensor in official.items()]  # fmt: skip
    unused = {"key": "rpn.head.cls_logits.bias", "shape": [80], "dtype": "float32"}
    record(folder, "keys.tiny", {"variant": VARIANT, "keys": [*entries, unused]})
    record(folder, "prompts", {
        "prompts": [{"kind": "class list, evaluation", "classes": ["person", "traffic light"],
                     "separator": ". ", "caption": "person. traffic light",
                     "input_ids": [101, 2711, 1012, 4026, 2422, 102],
                     "positive_map": {"1": [1], "2": [3, 4]}},
                    {"kind": "cut", "captions": ["person person person"],
                     "input_ids": [[101, 2711, 2711, 102]]}]
    })  # fmt: skip
    record(folder, "preprocess", {
        "resize": {"min_size": 800, "max_size": 1333,
                   "width_height_to_height_width": [[[640, 480], [800, 1066]]]},
        "pixel_mean": [103.53, 116.28, 123.675], "pixel_std": [57.375, 57.12, 58.395],
        "cases": [{"image": "photo", "hw": [9, 13], "min_size": 16, "max_size": 20,
                   "uint8_rgb": "clip(floor(image(name, h, w) * 40 + 100), 0, 255), R, G, B",
                   "output": [3, 14, 20]}],
    }, **{"preprocess.0": np.zeros((3, 14, 20))})  # fmt: skip
    record(folder, "postprocess", {
        "name": "post", "level_sizes_hw": [[6, 8], [3, 4], [2, 2], [1, 1], [1, 1]],
        "image_sizes_hw": [[48, 64], [40, 60]], "positive_map": {"1": [1], "7": [3, 4]},
        "inputs": {"bbox_reg": "tensor(name + '/box.pL', (n, 4, h, w), 0.0, 1.5)",
                   "centerness": "tensor(name + '/centre.pL', (n, 1, h, w), 0.5, 1.5)",
                   "logits": "tensor(name + '/words.pL', (n, h*w, 64), -4.0, 1.2)"},
        "empty_case": {"padded_hw": [32, 32], "logits_mean": -30.0, "boxes_shape": [0, 4]},
    })  # fmt: skip
    record(folder, "units", unit_meta(), **unit_inputs())

    names = ["language.hidden@valid", "fpn.p7", "stage1.fuse.hidden@valid",
             "stage1.text.hidden@valid"]  # fmt: skip
    names += [f"backbone.c{level}" for level in range(2, 6)]
    for name in ("stage1.fuse", "stage2.dyconv", "head.bbox_reg", "head.centerness"):
        names += [f"{name}.p3", f"{name}.p5"]
    tensors = {name: {"shape": [], "stored": "full"}
               for name in [*names, "head.dot_product_logits.p4@valid"]}  # fmt: skip
    record(folder, "eval.tiny.two", {
        **model_meta(config), "batch_shape": [2, 3, 64, 96], "tensors": tensors,
        "positive_map": {"2": [1]},
    })  # fmt: skip
    sampled = [key for key in official if key.endswith(("bias_lang", "p6.bias"))]
    record(folder, "loss.tiny", {
        **model_meta(config),
        "boxes_xyxy": [[[5.0, 6, 60, 50]], [[10.0, 10, 40, 60], [30.0, 5, 60, 30]]],
        "tokens_of_each_box": [[[1]], [[1], [1]]],
        "losses": {"loss_reg": 1.0, "loss_centerness": 1.0, "loss_dot_product_token": 1.0},
        "gradient_norms_of_all_parameters": dict.fromkeys(official, 1.0),
        "gradients": {key: {"stored": "full", "absmax": 1.0} for key in sampled},
    })  # fmt: skip
