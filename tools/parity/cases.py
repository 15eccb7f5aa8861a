"""Runs recorded cases of the official implementation through this package.

A case is a `<kind>.<...>.json` with an `.npz` of arrays beside it. Weights follow from their
official names (`tools/parity/recipe.py`) and go through the same conversion as a real checkpoint.
Activations are taken by hooks from the one forward pass that users run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from glip.boxes import decode_boxes, encode_boxes, giou, iou_matrix
from glip.checkpoint import Weights, assemble
from glip.config import PixelConfig, PostprocessOptions
from glip.convert import convert, rename, rename_table, to_official, without_effect
from glip.data.batch import Target, Targets
from glip.data.transforms import pad_batch, to_pixels
from glip.errors import ConfigError
from glip.model.anchors import cell_anchor, grid_anchors
from glip.model.dyhead import DyHeadBlock
from glip.model.fpn import LEVEL_STRIDES
from glip.model.fusion import BiAttention
from glip.model.glip import GLIP
from glip.model.head import HeadOutput, HeadStage, Tower
from glip.model.ops.deform import deform_conv2d
from glip.model.ops.windows import relative_position_index, run_blocks
from glip.model.presets import build_empty, preset
from glip.model.swin import SwinStages
from glip.model.text_encoder import TextLayer, Tokens, Words
from glip.pixels import resize, resized_hw
from glip.postprocess import Found, select_candidates, suppress
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.training.assigner import assign
from glip.training.losses import Criterion, alignment_loss, box_loss, centerness_targets
from parity import formula, recipe
from parity.chance import without_chance
from parity.compare import (
    Row,
    compare_array,
    compare_detections,
    compare_exact,
    compare_tensor,
    real_tokens,
    stored_part,
)

Arrays = dict[str, NDArray[Any]]
LOSS_LIMIT = 1e-4  # relative, of each loss


@dataclass
class Case:
    """A recorded case and what became of it.

    Attributes:
        stem: File name without suffix.
        meta: The JSON.
        golden: The arrays beside it.
        rows: Comparisons made so far.
        arrays: Our arrays, under the names of the recorded ones and in the same form.
    """

    stem: str
    meta: dict[str, Any]
    golden: Arrays
    rows: list[Row] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Case:
        """A case from its JSON file.

        Raises:
            ConfigError: The file is not one.
        """
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            beside = path.with_suffix(".npz")
            golden = dict(np.load(beside, allow_pickle=False)) if beside.exists() else {}
        except (OSError, ValueError, BadZipFile) as error:
            raise ConfigError(f"{path} is not a recorded case: {error}") from error
        return cls(path.stem, meta, golden)

    @property
    def kind(self) -> str:
        """What it is a case of: the first part of the name."""
        return self.stem.split(".")[0]

    def tensor(self, name: str, array: Tensor | NDArray[Any]) -> None:
        """Compare one of the tensors that the case lists with its noise."""
        full = np.asarray(array)
        self.rows.append(compare_tensor(name, full, self.meta["tensors"], self.golden))
        self.arrays[name] = stored_part(name, full, self.meta["tensors"][name]["stored"])

    def array(self, name: str, array: Tensor | NDArray[Any], relative: float = 1e-5) -> None:
        """Compare with a recorded array in full."""
        self.arrays[name] = np.asarray(array)
        self.rows.append(compare_array(name, self.arrays[name], self.golden[name], relative))

    def exact(self, name: str, got: object, wanted: object) -> None:
        """Compare something that is equal or not."""
        self.rows.append(compare_exact(name, got, wanted))

    def detections(self, name: str, found: Found, labels: Sequence[int]) -> None:
        """Compare a set of detections; `labels` are recorded numbers, one a token map's row."""
        got = {
            "boxes": found.boxes.numpy(),
            "scores": found.scores.numpy(),
            "labels": np.asarray(labels, dtype=np.int64)[found.labels.numpy()],
        }
        wanted = {part: self.golden[f"{name}.{part}"] for part in got}
        self.rows.append(compare_detections(name, got, wanted))
        self.arrays.update({f"{name}.{part}": array for part, array in got.items()})


def cases(folder: Path) -> Iterator[Path]:
    """The JSON files of a folder that are recorded cases, sorted so that weights are made once.

    Raises:
        ConfigError: There are none.
    """
    found = sorted(path for path in folder.glob("*.json") if path.stem.split(".")[0] in KINDS)
    if not found:
        raise ConfigError(f"{folder} holds no recorded case ({', '.join(KINDS)})")
    yield from found


def run(path: Path) -> Case:
    """Read a case and make all its comparisons.

    Raises:
        ConfigError: The file is not a case of its kind.
    """
    case = Case.read(path)
    try:
        with torch.set_grad_enabled(case.kind == "loss"):
            KINDS[case.kind](case)
    except KeyError as error:
        raise ConfigError(f"{path} has no entry {error}") from error
    return case


# ------------------------------------------------------------------------------------------ weights


@lru_cache(maxsize=1)
def _official_weights(variant: str, salt: str) -> dict[str, Tensor]:
    """All parameters of a variant by the recipe, under their official names."""
    shapes = to_official(build_empty(preset(variant)).state_dict())
    return {
        key: torch.from_numpy(recipe.parameter(key, tuple(tensor.shape), salt))
        for key, tensor in shapes.items()
    }


def _model(meta: Mapping[str, Any], *, chance: bool = True) -> GLIP:
    official = dict(_official_weights(meta["variant"], meta["salt"]))
    official["rpn.head.bias0"] = torch.tensor([float(meta["bias0"])])
    config = preset(meta["variant"])
    return assemble(Weights(config if chance else without_chance(config), convert(official)))


def _load_block(block: nn.Module, keys: Mapping[str, Sequence[int]], prefix: str, as_: str) -> None:
    """Fill a single block with recipe weights.

    Args:
        block: Of ours.
        keys: Shapes of the recorded names.
        prefix: What to replace in them,
        as_: and with what, so that they become official names of a tower with fusion.
    """
    state = {}
    for key, shape in keys.items():
        ours = rename(as_ + key.removeprefix(prefix), fused=True)
        assert ours is not None, key
        state[ours.split(".", 4)[-1]] = torch.from_numpy(recipe.parameter(key, shape))
    expected = block.state_dict()
    block.load_state_dict({key: state[key].reshape(expected[key].shape) for key in state})
    block.eval()


def _named(entry: Mapping[str, Any]) -> Tensor:
    values = recipe.tensor(
        entry["name"], entry["shape"], entry.get("mean", 0.0), entry.get("std", 1.0)
    )
    return torch.from_numpy(values)


# ---------------------------------------------------------------------------------------- the kinds


def _recipe_check(case: Case) -> None:
    meta = case.meta

    def digest(array: NDArray[Any]) -> str:
        return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

    for name, value in meta["seeds"].items():
        case.exact(f"seed {name}", recipe.seed(name), int(value))
    salted = meta["salted"]
    for entry in [*meta["parameters"], *(salted if isinstance(salted, list) else [salted])]:
        values = recipe.parameter(entry["key"], entry["shape"], entry.get("salt", ""))
        case.exact(f"parameter {entry['key']}", digest(values), entry["sha256"])
    picture = recipe.image(meta["image"]["name"], *meta["image"]["hw"])
    case.exact("image", digest(picture), meta["image"]["sha256"])
    samples = meta["samples"]
    first = recipe.sample_indices(samples["name"], samples["numel"], len(samples["first"]))
    case.exact("samples", first.tolist(), samples["first"])


def _keys(case: Case) -> None:
    config = preset(case.meta["variant"])
    ours = build_empty(config).state_dict()
    official = to_official(ours)
    entries = {entry["key"]: entry for entry in case.meta["keys"]}
    computed = {
        f"rpn.anchor_generator.cell_anchors.{level}": cell_anchor(stride)[None]
        for level, stride in enumerate(LEVEL_STRIDES)
    }
    for key, entry in entries.items():
        if key.endswith("relative_position_index"):
            side = entry["shape"][0]
            index = relative_position_index(round(side**0.5)).view(side, side)
            computed[key] = index
        elif key.endswith("position_ids"):
            computed[key] = torch.arange(entry["shape"][1])[None]
    for key, entry in entries.items():
        if key in official:
            got = (list(official[key].shape), str(official[key].dtype).removeprefix("torch."))
            case.exact(key, got, (entry["shape"], entry["dtype"]))
        elif key in computed:
            case.arrays[key] = computed[key].numpy()
            digest = hashlib.sha256(case.arrays[key].tobytes()).hexdigest()
            case.exact(key, digest, entry.get("sha256", digest))
        else:
            case.exact(key, without_effect(key), True)
    case.exact("keys of ours that the file lacks", sorted(set(official) - set(entries)), [])
    case.exact("our parameters that are filled", set(rename_table(official).values()) & set(ours),
               set(ours) - {"head.outputs.scales"})  # fmt: skip


def _token_map(positions: Mapping[str, Sequence[int]], tokens: int) -> tuple[list[int], Tensor]:
    """Labels in rising order and the (P, tokens) map of their token positions."""
    labels = sorted(map(int, positions))
    token_map = torch.zeros(len(labels), tokens, dtype=torch.bool)
    for row, label in zip(token_map, labels, strict=True):
        row[positions[str(label)]] = True
    return labels, token_map


def _inputs(meta: Mapping[str, Any]) -> tuple[Tensor, Tokens]:
    pictures = [
        torch.from_numpy(recipe.image(name, height, width, meta["salt"]))
        for name, (height, width) in zip(meta["image_names"], meta["image_sizes_hw"], strict=True)
    ]
    return pad_batch(pictures), Tokens.pad([tuple(ids) for ids in meta["input_ids"]])


def _eval(case: Case) -> None:
    meta = case.meta
    model = _model(meta)
    pixels, tokens = _inputs(meta)
    case.exact("batch shape", list(pixels.shape), meta.get("batch_shape", list(pixels.shape)))
    activations: Arrays = {}
    counts = tokens.mask.sum(1).tolist()
    level_hw: list[tuple[int, int]] = []

    def keep(name: str, value: Tensor) -> None:
        if name in meta["tensors"]:
            activations[name] = value.numpy()

    def keep_words(name: str, states: Tensor) -> None:
        keep(f"{name}@valid", torch.from_numpy(real_tokens(states.numpy(), counts, 0)))

    def keep_levels(name: str, rows: Tensor) -> None:
        sizes = [height * width for height, width in level_hw]
        for level, (part, hw) in enumerate(zip(rows.split(sizes, 1), level_hw, strict=True)):
            keep(f"{name}.p{level + 3}", part.mT.unflatten(2, hw))

    def hook(module: nn.Module, act: Callable[[Any], None]) -> None:
        def listen(_module: nn.Module, _inputs: object, output: Any) -> None:
            act(output)  # what a hook returns would replace the output

        module.register_forward_hook(listen)

    def on_text(words: Words) -> None:
        # hidden and embedded states differ at padding only
        keep_words("language.hidden", words.states)
        keep_words("language.embedded", words.states)

    def on_backbone(maps: Sequence[Tensor]) -> None:
        for level, value in enumerate(maps):
            keep(f"backbone.c{level + 2}", value)

    def on_neck(levels: Sequence[Tensor]) -> None:
        level_hw.extend((level.shape[2], level.shape[3]) for level in levels)
        for level, value in enumerate(levels):
            keep(f"fpn.p{level + 3}", value)

    def on_fusion(stage: int, output: tuple[Tensor, Words]) -> None:
        keep_levels(f"stage{stage}.fuse", output[0])
        keep_words(f"stage{stage}.fuse.hidden", output[1].states)

    def on_stage(number: int, tower: Tower) -> None:
        keep_levels(f"stage{number}.dyconv", tower.regions)

    def on_text_layer(number: int, words: Words) -> None:
        keep_words(f"stage{number}.text.hidden", words.states)

    hook(model.backbone.body, on_backbone)
    hook(model.neck, on_neck)
    hook(model.text, on_text)
    for number, stage in enumerate(cast(Iterable[HeadStage], model.head.stages), 1):
        hook(stage, partial(on_stage, number))
        if stage.fusion is not None and stage.text_layer is not None:
            hook(stage.fusion, partial(on_fusion, number))
            hook(stage.text_layer, partial(on_text_layer, number))
    output: HeadOutput = model(pixels, tokens)
    keep_levels("head.bbox_reg", output.deltas)
    keep_levels("head.centerness", output.centerness[..., None])
    for level, logits in enumerate(output.logits.split(output.level_sizes, 1)):
        name = f"head.dot_product_logits.p{level + 3}@valid"
        keep(name, torch.from_numpy(real_tokens(logits.numpy(), counts, 1)))
    for name in meta["tensors"]:
        if name in activations:
            case.tensor(name, activations[name])
        elif f"{name}@valid" not in meta["tensors"]:  # padded text is compared at its real tokens
            case.exact(name, "not computed", "a tensor")
    _detections(case, output, meta["positive_map"], tokens.ids.shape[1])


def _detections(
    case: Case, output: HeadOutput, positive_map: Mapping[str, Sequence[int]], tokens: int
) -> None:
    settings = case.meta.get("test_settings", {})
    options = PostprocessOptions(
        probability=settings.get("score_threshold", 0.05),
        nms=settings.get("nms_threshold", 0.6),
        candidates_per_level=settings.get("pre_nms_top_n", 1000),
        max_detections=settings.get("detections_per_image", 100),
        aggregate=settings.get("score_aggregation", "MEAN").lower(),
    )
    labels, token_map = _token_map(positive_map, tokens)
    for image, hw in enumerate(case.meta["image_sizes_hw"]):
        candidates = select_candidates(output, image, token_map, tuple(hw), options)
        case.detections(f"candidates.{image}", candidates, labels)
        case.detections(f"final.{image}", suppress(candidates, options), labels)


def _postprocess(case: Case) -> None:
    meta = case.meta
    name, shapes = meta["name"], [tuple(hw) for hw in meta["level_sizes_hw"]]
    images = len(meta["image_sizes_hw"])

    def levels(part: str, hw: Sequence[tuple[int, int]], **calls: Any) -> list[Tensor]:
        """One made-up output on each level, as the case's `inputs` say."""
        return [
            torch.from_numpy(
                formula.evaluate(
                    meta["inputs"][part],
                    {"name": name, "n": images, "h": h, "w": w, "L": level},
                    {**formula.CALLS, **calls},
                )
            )
            for level, (h, w) in enumerate(hw, 3)
        ]

    def output(hw: Sequence[tuple[int, int]], **calls: Any) -> HeadOutput:
        deltas, centerness = levels("bbox_reg", hw), levels("centerness", hw)
        logits = levels("logits", hw, **calls)
        return HeadOutput(
            torch.cat(logits, 1),
            torch.cat([part.flatten(2).mT for part in deltas], 1),
            torch.cat([part.flatten(1) for part in centerness], 1),
            grid_anchors(hw, LEVEL_STRIDES),
            tuple(h * w for h, w in hw),
        )

    whole = output(shapes)
    tokens = whole.logits.shape[2]
    _detections(case, whole, meta["positive_map"], tokens)
    empty = meta.get("empty_case")
    if empty:
        height, width = empty["padded_hw"]
        small = [(-(-height // s), -(-width // s)) for s in LEVEL_STRIDES]
        _, token_map = _token_map(meta["positive_map"], tokens)

        def lower(name: str, shape: Sequence[int], mean: float, std: float) -> NDArray[Any]:
            return recipe.tensor(name, shape, empty["logits_mean"], std)

        nothing = output(small, tensor=lower)
        options = PostprocessOptions()
        found = suppress(
            select_candidates(nothing, 0, token_map, (height, width), options), options
        )
        case.exact("empty case", list(found.boxes.shape), empty["boxes_shape"])


def _preprocess(case: Case) -> None:
    meta = case.meta
    rule = meta["resize"]
    for (width, height), (new_height, new_width) in rule["width_height_to_height_width"]:
        got = resized_hw((height, width), rule["min_size"], rule["max_size"])
        case.exact(f"resize {width} x {height}", got, (new_height, new_width))
    mean, std = meta["pixel_mean"][::-1], meta["pixel_std"][::-1]  # recorded as B, G, R
    for index, entry in enumerate(meta["cases"]):
        height, width = entry["hw"]
        names = {"name": entry["image"], "h": height, "w": width}
        values = formula.evaluate(entry["uint8_rgb"], names)
        image = Image.fromarray(values.astype(np.uint8).transpose(1, 2, 0))
        config = PixelConfig(entry["min_size"], entry["max_size"], tuple(mean), tuple(std), "bgr")
        name = f"preprocess.{index}"
        pixels = to_pixels(resize(image, config), config).numpy()
        case.arrays[name] = pixels
        case.exact(f"{name} shape", list(pixels.shape), entry["output"])
        one_level = 1.001 / min(std)
        error = float(np.abs(pixels - case.golden[name]).max())
        case.rows.append(Row(name, error, one_level))


def _prompts(case: Case) -> None:
    tokenizer = Tokenizer.bert_uncased()
    for number, entry in enumerate(case.meta["prompts"]):
        name = f"{number} {entry['kind']}"
        if "captions" in entry:
            # The official encoder cuts and pads; ours never does, so its ids are cut here only.
            for caption, ids in zip(entry["captions"], entry["input_ids"], strict=True):
                got = list(tokenizer.encode(caption).ids)
                if len(got) > len(ids):
                    got = [*got[: len(ids) - 1], tokenizer.sep_id]
                got += [tokenizer.pad_id] * (len(ids) - len(got))
                case.exact(f"{name}: ids", got, ids)
            continue
        if "classes" in entry and entry["kind"].endswith("evaluation"):
            prompt = Prompt.from_classes(entry["classes"], separator=entry["separator"])
        elif "classes" in entry:
            prompt = Prompt.from_classes(
                entry["classes"], separator=entry["separator"], clean=False, trailing=True
            )
        else:
            spans = tuple(tuple(tuple(s) for s in phrase) for phrase in entry["char_spans"])
            prompt = Prompt(entry["caption"], spans, tuple(entry["phrases"]))
        case.exact(f"{name}: text", prompt.text, entry["caption"])
        (only,) = prompt.passes(tokenizer, max(256, len(entry["input_ids"])))
        case.exact(f"{name}: ids", list(only.token_ids), entry["input_ids"])
        got_map = {
            str(row + 1): np.flatnonzero(only.token_map[place]).tolist()
            for place, row in enumerate(only.rows)
        }
        case.exact(f"{name}: tokens", got_map, entry["positive_map"])
        case.arrays[f"{number}.input_ids"] = np.asarray(only.token_ids)


def _units(case: Case) -> None:
    for part in (_deform_unit, _dyconv_unit, _fusion_unit, _text_unit, _swin_unit, _box_units):
        part(case)


def _deform_unit(case: Case) -> None:
    for index, entry in enumerate(case.meta["deform_conv"]):
        name = entry["name"]

        def made(part: str, std: float = 1.0, entry: Any = entry, name: str = name) -> Tensor:
            return torch.from_numpy(recipe.tensor(f"{name}/{part}", entry[part], 0.0, std))

        moves = made("offset_mask", entry["offset_mask_std"])
        taps = moves.shape[1] // 3
        result = deform_conv2d(
            made("input"),
            moves[:, : 2 * taps],
            moves[:, 2 * taps :].sigmoid(),
            made("weight", entry["weight_std"]),
            made("bias"),
            stride=entry["stride"],
            padding=entry["padding"],
        )
        case.array(f"deform_conv.{index}", result)


def _rows(entries: Sequence[Mapping[str, Any]]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Levels of a pyramid in one row, and their sizes."""
    maps = [_named(entry) for entry in entries]
    return torch.cat([m.flatten(2).mT for m in maps], 1), [(m.shape[2], m.shape[3]) for m in maps]


def _compare_levels(case: Case, name: str, rows: Tensor, shapes: Sequence[tuple[int, int]]) -> None:
    for level, part in enumerate(rows.split([h * w for h, w in shapes], 1)):
        case.array(f"{name}.p{level + 3}", part.mT.unflatten(2, shapes[level]))


def _dyconv_unit(case: Case) -> None:
    entry = case.meta["dyconv"]
    rows, shapes = _rows(entry["inputs"])
    block = DyHeadBlock(rows.shape[-1], entry["group_norm_groups"])
    _load_block(block, entry["keys"], entry["prefix"], "rpn.head.dyhead_tower.2.")
    _compare_levels(case, "dyconv", block(rows, shapes), shapes)


def _mask(counts: Sequence[int], tokens: int) -> Tensor:
    return torch.arange(tokens) < torch.tensor(counts)[:, None]


def _fusion_unit(case: Case) -> None:
    entry = case.meta["fuse"]
    rows, shapes = _rows(entry["inputs"])
    text = _named(entry["text"])
    block = BiAttention(rows.shape[-1], text.shape[-1], entry["embed_dim"], entry["heads"])
    _load_block(block, entry["keys"], entry["prefix"], "rpn.head.dyhead_tower.0.b_attn.")
    mask = _mask(entry["valid_tokens"], text.shape[1])
    regions, words = block(rows, Words(text, mask))
    _compare_levels(case, "fuse", regions, shapes)
    case.array("fuse.text", words.states)


def _text_unit(case: Case) -> None:
    entry = case.meta["text"]
    text = _named(entry["input"])
    hidden = entry["keys"][entry["prefix"] + "intermediate.dense.weight"][0]
    layer = TextLayer(text.shape[-1], entry["heads"], hidden)
    _load_block(layer, entry["keys"], entry["prefix"], "rpn.head.dyhead_tower.1.")
    mask = _mask(entry["valid_tokens"], text.shape[1])
    case.array("text", layer(Words(text, mask)).states)


def _swin_unit(case: Case) -> None:
    for index, entry in enumerate(case.meta["swin"]):
        # A small Swin whose first stage, with the downsampling behind it, has the unit's sizes.
        net = SwinStages(
            "swin_tiny_patch4_window7_224",
            embed_dim=entry["dim"],
            depths=(entry["depth"], 1),
            num_heads=(entry["heads"], entry["heads"]),
            window_size=entry["window"],
        ).eval()
        blocks, downsample = net.layers[0].blocks, net.layers[1].downsample
        weights = {
            key.removeprefix(entry["prefix"]): torch.from_numpy(recipe.parameter(key, shape))
            for key, shape in entry["keys"].items()
            if not recipe.is_computed(key)
        }
        for part, module in (("blocks.", blocks), ("downsample.", downsample)):
            module.load_state_dict(
                {k.removeprefix(part): v for k, v in weights.items() if k.startswith(part)}
            )
        x = run_blocks(blocks, _named(entry["input"]).unflatten(1, entry["hw"]), entry["window"])
        case.array(f"swin.{index}.out", x.flatten(1, 2))
        case.array(f"swin.{index}.down", downsample(x).flatten(1, 2))


def _box_units(case: Case) -> None:
    golden = {name: torch.from_numpy(array) for name, array in case.golden.items()}
    boxes, anchors = golden["boxes.gt"], golden["boxes.anchor"]
    encoded = encode_boxes(boxes, anchors)
    case.array("boxes.encoded", encoded)
    case.array("boxes.decoded", decode_boxes(golden["boxes.pred"], anchors))
    case.array("boxes.iou", iou_matrix(boxes, anchors))
    for level, stride in enumerate(LEVEL_STRIDES):
        case.array(f"anchors.cell.{level}", cell_anchor(stride)[None])
    shapes = [tuple(hw) for hw in case.meta["boxes"]["grid_sizes"]]
    case.array("anchors.grid", grid_anchors(shapes, LEVEL_STRIDES))

    predicted, weight = golden["loss.pred"], golden["loss.weight"]
    target = decode_boxes(encoded, anchors)
    case.array("loss.giou_sum", (1 - giou(decode_boxes(predicted, anchors), target)).sum())
    case.array("loss.giou_weighted", box_loss(predicted, anchors, target, weight))
    margin = torch.tensor(formula.margins(case.meta["boxes"]["centerness"]))
    case.array("loss.centerness_target", centerness_targets(anchors + margin, anchors))
    focal = case.meta["boxes"]["token_focal"]
    logits = _named(focal["logits"])
    wanted = torch.from_numpy(formula.evaluate(focal["targets"], {})).float()
    parts = [
        alignment_loss(logits[image, :, :count], wanted[image, :, :count] > 0)
        for image, count in enumerate(focal["valid_tokens"])
    ]
    case.array("loss.token_focal", torch.stack(parts).sum())


def _loss(case: Case) -> None:
    meta = case.meta
    model = _model(meta, chance=False).train()
    pixels, tokens = _inputs(meta)
    targets, token_maps = [], []
    for boxes, of_each in zip(meta["boxes_xyxy"], meta["tokens_of_each_box"], strict=True):
        targets.append(Target(torch.tensor(boxes), torch.arange(len(boxes))))
        positions = {str(row): tokens_ for row, tokens_ in enumerate(of_each)}
        token_maps.append(_token_map(positions, tokens.ids.shape[1])[1])
    output: HeadOutput = model(pixels, tokens)
    padded = Targets.pad(targets, token_maps, tokens.mask)
    losses = Criterion()(output, padded)
    official = {
        "loss_reg": losses["box"],
        "loss_centerness": losses["centerness"],
        "loss_dot_product_token": losses["alignment"],
    }
    for name, value in official.items():
        wanted = meta["losses"][name]
        error = abs(value.item() - wanted) / abs(wanted)
        case.rows.append(Row(name, error, LOSS_LIMIT, f"{value.item():.6f}"))
        case.arrays[name] = np.asarray(value.item())
    positives, rows = assign(padded.boxes, output.anchors, output.level_sizes)
    for image, (target, positive, row) in enumerate(zip(targets, positives, rows, strict=True)):
        anchors = output.anchors[positive]
        boxes = target.boxes[row[positive]]
        for part, value in (("anchor", positive.nonzero()[:, 0]), ("gt", row[positive])):
            name = f"assign.{image}.{part}"
            case.arrays[name] = value.numpy()
            case.exact(name, value.tolist(), case.golden[name].tolist())
        case.array(f"assign.{image}.anchor_box", anchors)
        case.array(f"assign.{image}.reg_target", encode_boxes(boxes, anchors))
        case.array(f"assign.{image}.centerness_target", centerness_targets(boxes, anchors))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    _gradients(case, to_official(gradients))


def _gradients(case: Case, ours: Mapping[str, Tensor]) -> None:
    fused = any(".b_attn." in key for key in ours)
    norm_limit, sample_limit = (5e-3, 1e-2) if fused else (5e-4, 1e-3)
    for key, wanted in case.meta["gradient_norms_of_all_parameters"].items():
        if wanted is None:
            case.exact(f"no gradient of {key}", key in ours, False)
            continue
        if key.endswith("attention.self.key.bias") or wanted == 0:
            continue  # zero in exact arithmetic: what is recorded there is rounding
        got = ours[key].norm().item() if key in ours else 0.0
        case.rows.append(Row(f"norm {key}", abs(got - wanted) / wanted, norm_limit))
        case.arrays[f"norm:{key}"] = np.asarray(got)
    for key, facts in case.meta["gradients"].items():
        if not facts or not facts["absmax"]:
            continue
        name = f"grad:{key}"
        got = stored_part(name, ours[key].numpy(), facts["stored"])
        case.arrays[name] = got
        error = float(np.abs(got - case.golden[name]).max()) / facts["absmax"]
        case.rows.append(Row(name, error, sample_limit))


KINDS: dict[str, Callable[[Case], None]] = {
    "recipe_check": _recipe_check,
    "keys": _keys,
    "units": _units,
    "preprocess": _preprocess,
    "prompts": _prompts,
    "postprocess": _postprocess,
    "eval": _eval,
    "loss": _loss,
}
