"""The official arrangement of GLIP's arithmetic, over the parameters of one of our models.

This is the path that speed is measured against (`benchmarks/latency.py`): what the released code
computes, in the order and at the sizes in which it computes it, on shared weights. So both paths
give the same numbers, and every difference in time or memory is one of arrangement:

    text            encoded for every picture, padded to 256 positions
    fusion          regions projected to the attention's full width, whole score tensors, clamps
    dynamic head    torchvision's deformable convolution for each level and neighbour; maps
                    normalised, resized and gated one by one
    Swin            masks and bias tables made in every forward pass
    postprocessing  a loop over levels and labels

Letters: B images, A regions of all levels, T = 256 text positions, H heads, C and D widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from glip.boxes import clip_boxes, decode_boxes
from glip.config import PixelConfig, PostprocessOptions
from glip.model.anchors import cell_anchor
from glip.model.dyhead import DeformableConv, DyHeadBlock
from glip.model.fpn import FPN, LEVEL_STRIDES
from glip.model.fusion import BiAttention
from glip.model.glip import GLIP
from glip.model.head import HeadOutput, Outputs
from glip.model.ops.windows import MASKED
from glip.model.swin import SwinStages
from glip.model.text_encoder import TextEncoder, TextLayer, Tokens
from glip.pixels import padded_hw, resize
from glip.postprocess import Found

TEXT_POSITIONS = 256
LIMIT = 50_000.0  # of the clamps
HIDDEN = -9e15  # added to scores of padding

Watch = Callable[[str], AbstractContextManager[None]]
"""`with watch("fusion"): …` takes the time of a stage."""


def no_watch(_stage: str) -> AbstractContextManager[None]:
    """Takes no time."""
    return nullcontext()


# ------------------------------------------------------------------------------------- pixels, Swin


def preprocess(images: Sequence[Image.Image], config: PixelConfig) -> Tensor:
    """(B, 3, H, W): resized, scaled to [0, 1], reordered, scaled to 255, normalised, padded."""
    channels = [2, 1, 0] if config.order == "bgr" else [0, 1, 2]
    mean = torch.tensor(config.mean)[channels, None, None]
    std = torch.tensor(config.std)[channels, None, None]
    tensors = []
    for image in images:
        array = torch.from_numpy(np.array(resize(image, config)))
        unit = array.permute(2, 0, 1).contiguous().float().div(255)
        tensors.append((unit[channels] * 255 - mean) / std)
    sizes = [padded_hw((tensor.shape[1], tensor.shape[2])) for tensor in tensors]
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    batch = torch.zeros(len(tensors), 3, height, width)
    for row, tensor in zip(batch, tensors, strict=True):
        row[:, : tensor.shape[1], : tensor.shape[2]].copy_(tensor)
    return batch


def _relative_position_index(window: int, device: torch.device) -> Tensor:
    axis = torch.arange(window, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)  # (2, window²)
    down, right = grid[:, :, None] - grid[:, None, :] + window - 1
    return down * (2 * window - 1) + right


def _shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """(windows, window², window²): 0 or `MASKED`, from nine numbered regions of the padded map."""
    regions = torch.zeros(1, height, width, 1, device=device)
    slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    number = 0
    for rows in slices:
        for columns in slices:
            regions[:, rows, columns] = number
            number += 1
    flat = _partition(regions, window).squeeze(-1)
    difference = flat[:, None, :] - flat[:, :, None]
    return difference.masked_fill(difference != 0, MASKED)


def _partition(x: Tensor, window: int) -> Tensor:
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, channels)


def _reverse(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    x = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, height, width, windows.shape[-1])


def swin_block(block: Any, x: Tensor, window: int, shift: int, mask: Tensor) -> Tensor:
    """One of timm's blocks on (B, H, W, C), padded before it is shifted."""
    attention = block.attn
    shortcut = x
    batch, height, width, channels = x.shape
    x = F.pad(block.norm1(x), (0, 0, 0, -width % window, 0, -height % window))
    _, padded_h, padded_w, _ = x.shape
    if shift:
        x = torch.roll(x, (-shift, -shift), (1, 2))
    windows = _partition(x, window)
    area, heads = window * window, attention.num_heads
    qkv = attention.qkv(windows).reshape(-1, area, 3, heads, channels // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = (query * (channels // heads) ** -0.5) @ key.transpose(-2, -1)
    index = _relative_position_index(window, x.device)
    bias = attention.relative_position_bias_table[index.view(-1)].view(area, area, -1)
    scores = scores + bias.permute(2, 0, 1).contiguous()[None]
    if shift:
        scores = scores.view(batch, -1, heads, area, area) + mask[None, :, None]
        scores = scores.view(-1, heads, area, area)
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, area, channels)
    x = _reverse(attention.proj(mixed), window, padded_h, padded_w)
    if shift:
        x = torch.roll(x, (shift, shift), (1, 2))
    x = shortcut + x[:, :height, :width].contiguous()
    hidden = F.gelu(block.mlp.fc1(block.norm2(x)))
    return x + block.mlp.fc2(hidden)


def swin(stages: SwinStages, pixels: Tensor) -> list[Tensor]:
    """C3, C4 and C5."""
    window = stages.windows[0]
    x = stages.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
    x = stages.patch_embed.norm(x)
    height, width = pixels.shape[2] // 4, pixels.shape[3] // 4
    x = x.view(-1, height, width, x.shape[-1])
    maps = []
    for number, stage in enumerate(stages.layers):
        if number:
            _, height, width, _ = x.shape
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
            parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
            x = torch.cat(parts, -1)
            x = stage.downsample.reduction(stage.downsample.norm(x))
        _, height, width, _ = x.shape
        padded = (height + -height % window, width + -width % window)
        mask = _shift_mask(*padded, window, window // 2, x.device)
        for index, block in enumerate(stage.blocks):
            x = swin_block(block, x, window, window // 2 if index % 2 else 0, mask)
        if number:
            maps.append(stages.norms[number - 1](x).permute(0, 3, 1, 2).contiguous())
    return maps


def pyramid(neck: FPN, maps: Sequence[Tensor]) -> list[Tensor]:
    """P3 to P7, in torch's default layout."""
    top = neck.lateral[-1](maps[-1])
    levels = [neck.smooth[-1](top)]
    for index in range(len(maps) - 2, -1, -1):
        lateral = neck.lateral[index](maps[index])
        top = lateral + F.interpolate(top, size=lateral.shape[-2:], mode="nearest")
        levels.insert(0, neck.smooth[index](top))
    p6 = neck.p6(levels[-1])
    return [*levels, p6, neck.p7(F.relu(p6))]


# --------------------------------------------------------------------------------------------- text


def pad_tokens(tokens: Tokens, positions: int = TEXT_POSITIONS) -> Tokens:
    """The same prompts at the official length."""
    room = positions - tokens.ids.shape[1]
    return Tokens(F.pad(tokens.ids, (0, room)), F.pad(tokens.mask, (0, room)))


def encode(text: TextEncoder, tokens: Tokens) -> Tensor:
    """(B, T, D) last hidden states, padding included."""
    states: Tensor = text.model(tokens.ids, tokens.mask)
    return states


def _clamp(x: Tensor) -> Tensor:
    return torch.clamp(torch.clamp(x, min=-LIMIT), max=LIMIT)


def text_layer(layer: TextLayer, words: Tensor, mask: Tensor) -> Tensor:
    """A post-norm layer with the clamps of the released configurations."""

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    query, key, value = (
        split(layer.query(words)),
        split(layer.key(words)),
        split(layer.value(words)),
    )
    scores = _clamp(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5)
    scores = scores + ((1 - mask.to(scores.dtype)) * torch.finfo(scores.dtype).min)[:, None, None]
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    words = layer.attention_norm(layer.out(mixed) + words)
    hidden = _clamp(F.gelu(_clamp(layer.expand(words))))
    return _clamp(layer.norm(_clamp(layer.shrink(hidden)) + words))


# ------------------------------------------------------------------------------------------- fusion


def fuse(
    layer: BiAttention, levels: Sequence[Tensor], words: Tensor, mask: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Attention in both directions with everything written out."""
    shapes = [level.shape for level in levels]
    regions = torch.cat([level.flatten(2).transpose(1, 2).contiguous() for level in levels], 1)
    regions, words = layer.visual_norm(regions), layer.text_norm(words)
    batch, heads = len(regions), layer.heads

    def split(x: Tensor) -> Tensor:
        x = x.view(batch, x.shape[1], heads, -1).transpose(1, 2).contiguous()
        return x.view(batch * heads, x.shape[2], -1)

    query = split(layer.visual_query(regions) * layer.scale)
    key, region_value = split(layer.text_key(words)), split(layer.visual_value(regions))
    word_value = split(layer.text_value(words))

    scores = _clamp(torch.bmm(query, key.transpose(1, 2)))  # (B · H, A, T)
    over_regions = scores.transpose(1, 2)
    over_regions = over_regions - torch.max(over_regions, dim=-1, keepdim=True)[0]
    over_regions = _clamp(over_regions).softmax(-1)
    allowed = mask.long()[:, None, None].expand(batch, 1, scores.shape[1], -1)
    allowed = allowed.masked_fill(allowed == 0, int(HIDDEN))
    scores = scores.view(batch, heads, *scores.shape[1:]) + allowed
    over_words = scores.view(batch * heads, *scores.shape[2:]).softmax(-1)

    def join(x: Tensor) -> Tensor:
        x = x.view(batch, heads, x.shape[1], -1).transpose(1, 2)
        return x.reshape(batch, x.shape[1], -1)

    region_delta = layer.visual_out(join(torch.bmm(over_words, word_value)))
    word_delta = layer.text_out(join(torch.bmm(over_regions, region_value)))
    regions = regions + layer.visual_gamma * region_delta
    words = words + layer.text_gamma * word_delta
    rows = regions.split([shape[2] * shape[3] for shape in shapes], 1)
    maps = [
        row.transpose(1, 2).contiguous().view(shape)
        for row, shape in zip(rows, shapes, strict=True)
    ]
    return maps, words


# ------------------------------------------------------------------------------------- dynamic head


def _deform(conv: DeformableConv, x: Tensor, offset: Tensor, mask: Tensor, stride: int) -> Tensor:
    """Deformable convolution and its norm.

    The official kernel reads the buffers of offsets and mask with the strides of its own output;
    where they belong to a finer level, that means their first numbers.
    """
    height, width = ((size - 1) // stride + 1 for size in x.shape[2:])
    if offset.shape[2:] != (height, width):
        size = height * width
        offset = offset.flatten(1)[:, : 18 * size].view(-1, 18, height, width)
        mask = mask.flatten(1)[:, : 9 * size].view(-1, 9, height, width)
    y = torchvision.ops.deform_conv2d(
        x, offset.contiguous(), conv.weight, conv.bias, stride=stride, padding=1, mask=mask
    )
    return conv.norm(y)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _dynamic_relu(block: DyHeadBlock, y: Tensor) -> Tensor:
    batch, channels = y.shape[:2]
    pooled = F.adaptive_avg_pool2d(y, 1).view(batch, channels)
    code = _hard_sigmoid(block.excite(F.relu(block.squeeze(pooled)))).view(batch, -1, 1, 1)
    slope_1, bias_1, slope_2, bias_2 = code.split(channels, 1)
    slope_1, slope_2 = (slope_1 - 0.5) * 2 + 1, (slope_2 - 0.5) * 2
    return torch.max(y * slope_1 + (bias_1 - 0.5), y * slope_2 + (bias_2 - 0.5))


def dynamic_block(block: DyHeadBlock, levels: Sequence[Tensor]) -> list[Tensor]:
    """Each level from itself and its neighbours, one convolution after the other."""
    gate = block.gate.weight[:, :, None, None]
    new = []
    for level, x in enumerate(levels):
        moves = block.offset(x)
        offset, mask = moves[:, :18], moves[:, 18:].sigmoid().contiguous()
        candidates = [_deform(block.same, x, offset, mask, 1)]
        if level > 0:
            candidates.append(_deform(block.finer, levels[level - 1], offset, mask, 2))
        if level < len(levels) - 1:
            small = _deform(block.coarser, levels[level + 1], offset, mask, 1)
            candidates.append(
                F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=True)
            )
        gates = []
        for candidate in candidates:
            pooled = F.conv2d(F.adaptive_avg_pool2d(candidate, 1), gate, block.gate.bias)
            gates.append(_hard_sigmoid(F.relu(pooled)))
        weighted = torch.stack(candidates) * torch.stack(gates)
        new.append(_dynamic_relu(block, weighted.mean(0)))
    return new


# ------------------------------------------------------------------------------------------ outputs


def predict_levels(outputs: Outputs, levels: Sequence[Tensor], words: Tensor) -> HeadOutput:
    """Logits, deltas and centerness, level by level, and anchors made anew."""
    states = F.normalize(words, dim=-1)
    projected = outputs.project(states / 2)
    word_bias = states @ outputs.word_bias + outputs.bias
    box = outputs.deltas.weight[:, :, None, None], outputs.deltas.bias
    centre = outputs.centerness.weight[:, :, None, None], outputs.centerness.bias
    logits, deltas, centerness, anchors = [], [], [], []
    for level, (x, stride) in enumerate(zip(levels, LEVEL_STRIDES, strict=True)):
        rows = x.flatten(2).transpose(1, 2).contiguous()
        bias = word_bias[:, None].repeat(1, rows.shape[1], 1)
        scores = rows @ projected.transpose(-1, -2) / outputs.log_scale.exp() + bias
        logits.append(_clamp(scores))
        deltas.append((F.conv2d(x, *box) * outputs.scales[level]).flatten(2).transpose(1, 2))
        centerness.append(F.conv2d(x, *centre).flatten(1))
        y, x_ = (torch.arange(n, device=x.device) * stride for n in x.shape[2:])
        grid = torch.stack(torch.meshgrid(y, x_, indexing="ij")).flatten(1)
        shift = torch.stack([grid[1], grid[0], grid[1], grid[0]], 1)
        anchors.append(shift + cell_anchor(stride).to(x.device))
    sizes = tuple(level.shape[1] for level in logits)
    return HeadOutput(
        torch.cat(logits, 1),
        torch.cat(deltas, 1),
        torch.cat(centerness, 1),
        torch.cat(anchors),
        sizes,
    )


class Reference:
    """Official arithmetic over a model's own parameters, which must be float32.

    Args:
        model: Of ours, in evaluation mode. A backbone other than Swin runs as it is.
        checkpoint_fusion: While training, forget what fusion computes and do it again in the
            backward pass, as the released configurations do.
    """

    def __init__(self, model: GLIP, *, checkpoint_fusion: bool = False) -> None:
        self.model = model
        self.checkpoint_fusion = checkpoint_fusion

    def __call__(self, pixels: Tensor, tokens: Tokens, watch: Watch = no_watch) -> HeadOutput:
        """As the model's `forward`, at 256 text positions."""
        model = self.model
        with watch("backbone"):
            body = model.backbone.body
            maps = swin(body, pixels) if isinstance(body, SwinStages) else model.backbone(pixels)
        with watch("neck"):
            levels = pyramid(model.neck, maps)
        with watch("text"):
            tokens = pad_tokens(tokens)
            hidden = encode(cast(TextEncoder, model.text), tokens)
            embedded = hidden * tokens.mask[..., None]
        words = hidden
        stage: Any
        for stage in model.head.stages:
            if stage.fusion is not None:
                with watch("fusion"):
                    inputs = stage.fusion, levels, words, tokens.mask
                    if self.checkpoint_fusion:
                        levels, words = checkpoint(fuse, *inputs, use_reentrant=False)
                    else:
                        levels, words = fuse(*inputs)
                with watch("text layers"):
                    words = text_layer(stage.text_layer, words, tokens.mask)
            with watch("dynamic head"):
                levels = dynamic_block(stage.block, levels)
        with watch("heads"):
            final = words if model.head.fused else embedded
            return predict_levels(model.head.outputs, levels, final)


# ----------------------------------------------------------------------------------- postprocessing


def _class_scores(probability: Tensor, token_map: Tensor) -> Tensor:
    """(A, P) means over each label's tokens, written column by column."""
    scores = torch.zeros(len(probability), len(token_map), device=probability.device)
    for label, row in enumerate(token_map):
        positions = torch.tensor(row.nonzero().flatten().tolist(), device=probability.device)
        scores[:, label] = probability[:, positions].mean(-1)
    return scores


def postprocess(
    output: HeadOutput,
    index: int,
    token_map: Tensor,
    image_hw: tuple[int, int],
    options: PostprocessOptions,
) -> Found:
    """Detections of one picture by loops over levels and labels, best first.

    Args:
        output: Of a batch.
        index: Row of the picture in it.
        token_map: (P, T') bool.
        image_hw: Of the resized picture before padding.
        options: Of ours; `score` must be zero, as it officially is.
    """
    parts = []
    start = 0
    for size in output.level_sizes:
        rows = slice(start, start + size)
        probability = output.logits[index, rows].sigmoid()
        scores = _class_scores(probability, token_map)
        candidates = scores > options.probability
        scores = scores * output.centerness[index, rows].sigmoid()[:, None]
        region, label = candidates.nonzero(as_tuple=True)
        count = min(len(region), options.candidates_per_level)
        best, order = scores[candidates].topk(count, sorted=False)
        region, label = region[order], label[order]
        boxes = decode_boxes(output.deltas[index, rows][region], output.anchors[rows][region])
        parts.append((clip_boxes(boxes, image_hw), best.sqrt(), label))
        start += size
    boxes, scores, labels = (torch.cat(columns) for columns in zip(*parts, strict=True))
    kept = [torch.empty(0, dtype=torch.int64, device=boxes.device)]
    for number in range(len(token_map)):
        of_label = (labels == number).nonzero().flatten()
        inclusive = boxes[of_label] + boxes.new_tensor([0, 0, 1, 1])
        kept.append(of_label[torchvision.ops.nms(inclusive, scores[of_label], options.nms)])
    survivors = torch.cat(kept)
    if len(survivors) > options.max_detections:
        rank = len(survivors) - options.max_detections + 1
        threshold = scores[survivors].cpu().kthvalue(rank)[0].item()
        survivors = survivors[scores[survivors] >= threshold]
    survivors = survivors[scores[survivors].argsort(descending=True)]
    return Found(boxes[survivors], scores[survivors], labels[survivors])
