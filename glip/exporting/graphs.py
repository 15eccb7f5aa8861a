"""GLIP in the plain operations that graph formats know, for any size of picture and prompt.

The road through `glip.model` is laid for speed in torch: rows of all levels in one table, tiles
that fit a cache, plans that are cached for a size. A graph is made once for all sizes, and its
runtime tiles by itself, so here the same weights are used in the textbook's form: maps, whole
attention matrices, and one deformable convolution for each neighbour, which ONNX has an operator
for. Tests hold both roads to the same numbers.

Letters: B images, A regions of all levels, T tokens, H heads, C and D widths of regions and words.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers import Conv2dSame  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from glip.model.backbone import Backbone
from glip.model.dyhead import DeformableConv, DyHeadBlock
from glip.model.efficientnet import SameConv
from glip.model.fusion import BiAttention
from glip.model.glip import GLIP
from glip.model.head import HeadStage, Outputs
from glip.model.ops.windows import MASKED, relative_position_index
from glip.model.swin import SwinStages
from glip.model.text_encoder import TextEncoder, TextLayer, Tokens, Words

OFFSETS = 18  # dy and dx of each of nine taps; the logits of their masks follow


@torch.library.custom_op(
    "glip::deformable_map",
    mutates_args=(),
    schema="(Tensor maps, Tensor offsets, Tensor mask, Tensor weight, Tensor bias, int stride) "
    "-> Tensor",
)
def deformable_map(
    maps: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int
) -> Tensor:
    """A 3x3 deformable convolution with padding 1 (DCNv2, arXiv 1811.11168).

    An operator of its own, because the size of the output is that of the offsets: a graph for all
    sizes need not prove that the map's size divided by the stride agrees.

    Args:
        maps: (B, C, H, W).
        offsets: (B, 18, h, w) pixels of `maps`, (dy, dx) for each tap.
        mask: (B, 9, h, w), factor of each tap.
        weight: (O, C, 3, 3).
        bias: (O,).
        stride: Pixels of `maps` between neighbouring outputs.
    Returns:
        (B, O, h, w).
    """
    return deform_conv2d(maps, offsets, weight, bias, stride=stride, padding=1, mask=mask)


@deformable_map.register_fake
def _(
    maps: Tensor, offsets: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int
) -> Tensor:
    return maps.new_empty(maps.shape[0], weight.shape[0], *offsets.shape[2:])


class ImageGraph(nn.Module):
    """Pixels to the five maps of the pyramid.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: GLIP) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone)
        _pad_evenly(self.backbone)
        self.neck = model.neck

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W), normalised, H and W multiples of 32, to (B, C, H_l, W_l), finest first."""
        return tuple(self.neck(_backbone_maps(self.backbone, pixels)))


def _pad_evenly(module: nn.Module) -> None:
    """TensorFlow's "same" padding as numbers, in place.

    Its amount depends on the size of the map; of maps that a stride divides, as all are here, it is
    always the same, and a graph for all sizes stays simple.
    """
    for name, child in module.named_children():
        if isinstance(child, (Conv2dSame, SameConv)):
            setattr(module, name, _PaddedConv(child))
        else:
            _pad_evenly(child)


class _PaddedConv(nn.Conv2d):
    """A convolution behind zeros, of which the odd one stands below and on the right.

    Args:
        conv: Whose weights it takes; its own padding is not used.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            (conv.stride[0], conv.stride[1]),
            dilation=(conv.dilation[0], conv.dilation[1]),
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.weight, self.bias = conv.weight, conv.bias
        sides = zip(self.kernel_size, self.stride, self.dilation, strict=True)
        high, wide = (
            max(0, dilation * (kernel - 1) + 1 - step) for kernel, step, dilation in sides
        )
        self.pads = (wide // 2, wide - wide // 2, high // 2, high - high // 2)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, h, w)."""
        return super().forward(F.pad(input, self.pads))


def _backbone_maps(backbone: Backbone, pixels: Tensor) -> list[Tensor]:
    if not isinstance(backbone.body, SwinStages):
        return cast(list[Tensor], backbone(pixels))
    return _swin_maps(backbone.body, pixels)[1:]


def _swin_maps(swin: SwinStages, pixels: Tensor) -> list[Tensor]:
    """All stages, (B, C, H / s, W / s) with s = 4, 8, 16, 32, as `SwinStages` gives them."""
    x = swin.patch_embed.norm(swin.patch_embed.proj(pixels).permute(0, 2, 3, 1))
    maps = []
    for index, stage in enumerate(swin.layers):
        x = stage.downsample(x)
        for number, block in enumerate(stage.blocks):
            x = _swin_block(block, x, swin.windows[index], shifted=number % 2 == 1)
        out = swin.norms[index - 1](x) if index else x
        maps.append(out.permute(0, 3, 1, 2))
    return maps


def _swin_block(block: Any, x: Tensor, window: int, *, shifted: bool) -> Tensor:
    """One block of windows (arXiv 2103.14030) over (B, H, W, C), padded first and shifted then."""
    batch, height, width, channels = x.shape
    shift = window // 2 if shifted else 0
    # Counted in windows: that the padded sides divide is then known without a proof. And of
    # positive numbers: ONNX divides towards zero.
    down, across = (height + window - 1) // window, (width + window - 1) // window
    high, wide = down * window, across * window
    normal = F.pad(block.norm1(x), (0, 0, 0, wide - width, 0, high - height))
    bias = _position_bias(block.attn, window)
    torn = None
    if shift:
        normal = _rolled(normal, shift, shift)
        torn = _torn(down, across, window, shift, x)
    cut = normal.reshape(batch, down, window, across, window, channels)
    windows = cut.transpose(2, 3).reshape(-1, window * window, channels)
    mixed = _window_attention(block.attn, windows, bias, torn)
    mixed = mixed.reshape(batch, down, across, window, window, channels)
    mixed = mixed.transpose(2, 3).reshape(batch, high, wide, channels)
    if shift:
        mixed = _rolled(mixed, high - shift, wide - shift)
    for axis, side in ((1, height), (2, width)):  # no slices, whose ends would need a proof too
        mixed = mixed.index_select(axis, torch.arange(side, device=x.device))
    x = x + mixed
    return x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))


def _position_bias(attention: Any, window: int) -> Tensor:
    """(1, heads, window², window²)."""
    area = window * window
    rows = attention.relative_position_bias_table[relative_position_index(window)]
    return rows.view(1, area, area, -1).permute(0, 3, 1, 2)


def _rolled(maps: Tensor, down: int, across: int) -> Tensor:
    """(B, H, W, C) that begins with these rows and columns, those before them at the end."""
    maps = torch.cat([maps[:, down:], maps[:, :down]], 1)
    return torch.cat([maps[:, :, across:], maps[:, :, :across]], 2)


def _torn(down: int, across: int, window: int, shift: int, like: Tensor) -> Tensor:
    """(windows, 1, window², window²): what hides pieces of a torn window from one another."""
    high, wide = down * window, across * window
    rows, columns = (torch.arange(side, device=like.device) for side in (high, wide))
    row = (rows >= high - window).long() + (rows >= high - shift).long()
    column = (columns >= wide - window).long() + (columns >= wide - shift).long()
    pieces = 3 * row[:, None] + column
    cut = pieces.reshape(down, window, across, window)
    cut = cut.transpose(1, 2).reshape(-1, 1, window * window)
    return (cut[..., None, :] != cut[..., None]).to(like.dtype) * MASKED


def _window_attention(attention: Any, windows: Tensor, bias: Tensor, torn: Tensor | None) -> Tensor:
    """(n, window², C) to the same; `bias` (1, heads, window², window²), `torn` see `_torn`."""
    count, area, channels = windows.shape
    heads: int = attention.num_heads
    qkv = attention.qkv(windows).reshape(count, area, 3, heads, channels // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    scores = (query * (channels // heads) ** -0.5) @ key.mT
    if torn is not None:  # windows of all images, image after image
        bias = bias + torn
        scores = (scores.reshape(-1, *bias.shape) + bias).reshape(-1, heads, area, area)
    else:
        scores = scores + bias
    mixed = scores.softmax(-1) @ value
    return attention.proj(mixed.transpose(1, 2).reshape(count, area, channels))


class TextGraph(nn.Module):
    """Token ids to their states.

    Args:
        text: In evaluation mode.
    """

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) int64 and (B, T) bool to (B, T, D), zero on padding."""
        return self.text(Tokens(ids, mask)).states


class HeadGraph(nn.Module):
    """A pyramid and words to logits, deltas and centerness (Eq. 3 to 6).

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: GLIP) -> None:
        super().__init__()
        self.stages = model.head.stages
        self.outputs = model.head.outputs

    def forward(
        self, levels: Sequence[Tensor], states: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Everything behind the encoders.

        Args:
            levels: Five of (B, C, H_l, W_l), finest first.
            states: (B, T, D).
            mask: (B, T) bool.
        Returns:
            (B, A, T) logits, (B, A, 4) deltas, (B, A) centerness.
        """
        maps, words = list(levels), Words(states, mask)
        for stage in self.stages:
            maps, words = _head_stage(cast(HeadStage, stage), maps, words)
        return _outputs(self.outputs, maps, words)


def _head_stage(
    stage: HeadStage, maps: Sequence[Tensor], words: Words
) -> tuple[list[Tensor], Words]:
    if stage.fusion is not None and stage.text_layer is not None:
        maps, words = _fusion(stage.fusion, maps, words)
        words = _text_layer(stage.text_layer, words)
    return _dyhead_block(stage.block, maps), words


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """(B, C, H_l, W_l) to (B, A, C)."""
    return torch.cat([level.flatten(2) for level in maps], 2).mT


def _maps(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `_rows`; a map's size is that of the one in `like`."""
    maps, start = [], 0
    for level in like:
        stop = start + level.shape[2] * level.shape[3]
        maps.append(rows[:, start:stop].mT.reshape(level.shape))
        start = stop
    return maps


def _fusion(
    fusion: BiAttention, maps: Sequence[Tensor], words: Words
) -> tuple[list[Tensor], Words]:
    """Eq. 4, both directions from one matrix of scores; see `glip.model.fusion`."""

    def heads(projected: Tensor) -> Tensor:
        """(B, n, H * d) to (B, H, n, d)."""
        return projected.unflatten(-1, (fusion.heads, -1)).transpose(1, 2)

    regions = fusion.visual_norm(_rows(maps))
    states = fusion.text_norm(words.states)
    key, value = heads(fusion.text_key(states)) * fusion.scale, heads(fusion.text_value(states))
    # Weights of regions act on the words' side of each product, which is (B, H, T, C).
    query_weight = fusion.visual_query.weight.unflatten(0, (fusion.heads, -1))  # (H, d, C)
    query_bias = fusion.visual_query.bias.unflatten(0, (fusion.heads, -1, 1))  # (H, d, 1)
    out_weight = fusion.visual_out.weight.unflatten(1, (fusion.heads, -1)).permute(1, 2, 0)
    scores = regions[:, None] @ (key @ query_weight).mT + (key @ query_bias).mT  # (B, H, A, T)
    hidden = (~words.mask[:, None, None]).to(scores.dtype) * torch.finfo(scores.dtype).min
    over_words = (scores + hidden).softmax(-1)
    update = (over_words @ (value @ out_weight)).sum(1) + fusion.visual_out.bias
    regions_out = regions + fusion.visual_gamma * update

    pooled = scores.softmax(2).mT @ regions[:, None]  # (B, H, T, C)
    value_weight = fusion.visual_value.weight.unflatten(0, (fusion.heads, -1))  # (H, d, C)
    value_bias = fusion.visual_value.bias.unflatten(0, (fusion.heads, 1, -1))
    mixed = pooled @ value_weight.mT + value_bias  # (B, H, T, d)
    delta = fusion.text_out(mixed.transpose(1, 2).flatten(2))
    return _maps(regions_out, maps), Words(states + fusion.text_gamma * delta, words.mask)


def _text_layer(layer: TextLayer, words: Words) -> Words:
    """Eq. 6, with the mask as a number: a runtime needs no branch for it."""
    x, mask = words

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    query, key, value = heads(layer.query(x)), heads(layer.key(x)), heads(layer.value(x))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    scores = scores + (~mask[:, None, None]).to(scores.dtype) * torch.finfo(scores.dtype).min
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    x = layer.attention_norm(x + layer.out(mixed))
    return Words(layer.norm(x + layer.shrink(F.gelu(layer.expand(x)))), mask)


def _dyhead_block(block: DyHeadBlock, maps: Sequence[Tensor]) -> list[Tensor]:
    """Eq. 5: each level hears itself and its neighbours (arXiv 2106.08322)."""
    results = []
    for level, own in enumerate(maps):
        moves = block.offset(own)
        offsets, mask = moves[:, :OFFSETS], moves[:, OFFSETS:].sigmoid()
        heard = [_convolved(block.same, own, offsets, mask)]
        if level > 0:
            heard.append(_convolved(block.finer, maps[level - 1], offsets, mask, stride=2))
        if level + 1 < len(maps):
            above = maps[level + 1]
            # official: the finer level's buffers, read at the coarser size; see `glip.model.ops`.
            moved, masked = _reread(offsets, above), _reread(mask, above)
            coarse = _convolved(block.coarser, above, moved, masked)
            heard.append(
                F.interpolate(coarse, size=own.shape[2:], mode="bilinear", align_corners=True)
            )
        results.append(_dynamic_relu(block, _attended(block, heard)))
    return results


def _convolved(
    conv: DeformableConv, maps: Tensor, offsets: Tensor, mask: Tensor, *, stride: int = 1
) -> Tensor:
    """(B, C, h, w), the size of the offsets, normalised."""
    return conv.norm(deformable_map(maps, offsets, mask, conv.weight, conv.bias, stride))


def _reread(buffer: Tensor, like: Tensor) -> Tensor:
    """The first numbers of (B, N, H, W) as (B, N, h, w), the size of a coarser map `like`."""
    channels, (height, width) = buffer.shape[1], like.shape[2:]
    first = torch.arange(channels * height * width, device=buffer.device)
    return buffer.flatten(1).index_select(1, first).reshape(-1, channels, height, width)


def _attended(block: DyHeadBlock, heard: Sequence[Tensor]) -> Tensor:
    """Scale attention: the mean of what is heard, each weighed by a gate of its own."""
    gated = [
        maps * F.hardsigmoid(block.gate(maps.mean((2, 3))).relu())[..., None, None]
        for maps in heard
    ]
    return torch.stack(gated).mean(0)


def _dynamic_relu(block: DyHeadBlock, maps: Tensor) -> Tensor:
    """The larger of two lines for each channel (arXiv 2003.10027)."""
    hidden = block.squeeze(maps.mean((2, 3))).relu()
    code = (F.hardsigmoid(block.excite(hidden)) - 0.5)[..., None, None]
    slope_1, bias_1, slope_2, bias_2 = code.chunk(4, 1)
    return torch.maximum(maps * (2 * slope_1 + 1) + bias_1, maps * (2 * slope_2) + bias_2)


def _outputs(
    outputs: Outputs, maps: Sequence[Tensor], words: Words
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 3, the boxes and their centerness, as `Outputs` gives them."""
    deltas = [
        outputs.deltas(level.flatten(2).mT) * scale
        for level, scale in zip(maps, outputs.scales, strict=True)
    ]
    regions = _rows(maps)
    states = F.normalize(words.states, dim=-1, eps=1e-12)
    projected = outputs.project(states / 2) / outputs.log_scale.exp()
    logits = regions @ projected.mT + (states @ outputs.word_bias + outputs.bias)[:, None]
    return logits, torch.cat(deltas, 1), outputs.centerness(regions)[..., 0]
