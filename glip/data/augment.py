"""Chance changes of a training picture, made to picture, boxes and words together.

Multi-scale and flip are what the released models were trained with (reference F.7, F.8);
large-scale jitter (arXiv 2012.07177), mosaic (arXiv 2004.10934) and colour jitter are options.
Pictures change through Pillow and torchvision's public functions. Boxes do not: torchvision counts
pixels exclusively and ours count the last pixel in, like everything the official model was taught.

All chance comes from the `Random` that is passed in. Knows nothing about prompts or tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms.v2 import functional as F

from glip.config import PixelConfig
from glip.errors import ConfigError
from glip.pixels import resize, resized_hw
from glip.settings import within
from glip.text.mirror import mirror

Boxes = npt.NDArray[np.float32]

FARTHEST = 0.7
"""Where the point of a mosaic lies at most, as a share of its sides."""
SHORT_SIDES = (0.6, 0.7, 0.8, 0.9, 1.0)  # of the model's own; official: 480, 560, ... 800 of 800


MOST_PIXELS = 16_384
"""Of a side of a picture that is put together."""


@dataclass(frozen=True)
class AugmentConfig:
    """What may happen to a training picture; the defaults are those of the released models."""

    short_sides: tuple[int, ...] | None = None
    """The shorter side after resizing is one of these, in pixels; by default one of five from 0.6
    times the model's own up to that."""
    long_side: int | None = None
    """What the longer side may have at most, in pixels; by default the model's own."""
    flip: float = 0.5
    """Probability of a mirror image."""
    jitter: tuple[float, float] | None = None
    """Large-scale jitter instead of `short_sides`: the picture is scaled by a factor from this
    range, 1 being the largest that fits into a square of `jitter_size`, and cut to that square."""
    jitter_size: int = 1024
    mosaic: float = 0.0
    """Probability that four pictures become one."""
    mosaic_size: int = 800
    """Sides of that one, in pixels, before it is resized."""
    brightness: float = 0.0
    """Factors are drawn from 1 - this to 1 + this; so for the next two."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """The shift is drawn from - this to + this, in turns of the colour wheel; at most 0.5."""

    def __post_init__(self) -> None:
        if self.short_sides is not None:
            limit = math.inf if self.long_side is None else self.long_side
            if not self.short_sides or min(self.short_sides) < 1 or max(self.short_sides) > limit:
                raise ConfigError(
                    f"augment: short_sides {self.short_sides} must lie between 1 and long_side "
                    f"{self.long_side}"
                )
        for name in ("flip", "mosaic", "brightness", "contrast", "saturation"):
            within(f"augment: {name}", getattr(self, name), least=0, most=1)
        within("augment: hue", self.hue, least=0, most=0.5)
        if self.jitter is not None and not 0 < self.jitter[0] <= self.jitter[1]:
            raise ConfigError(f"augment: jitter {self.jitter} must be (low, high) above zero")
        for name in ("jitter_size", "mosaic_size"):
            within(f"augment: {name}", getattr(self, name), least=32, most=MOST_PIXELS)


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with its boxes on the way through augmentation."""

    image: Image.Image
    boxes: Boxes
    """(N, 4) xyxy, pixels of `image`, the last pixel counted in: a full picture is 0, 0, W - 1, H -
    1."""
    owners: npt.NDArray[np.int64]
    """(N,) what each box shows: a class row, or a phrase of `caption`."""
    known: frozenset[int] = frozenset()
    """Class rows that are surely not in the picture."""
    doubtful: frozenset[int] = frozenset()
    """Class rows of which something may show, with a box or without."""
    caption: str | None = None
    """The sentence that owners are phrases of, if they are."""
    phrases: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Spans of each phrase in the caption."""
    scores: npt.NDArray[np.float32] | None = None
    """(N,) how far each box is trusted."""
    unsure: frozenset[int] = frozenset()
    """Phrases of `caption` of which nobody knows where they are, or whether."""
    file_name: str | None = None
    """Of the picture; None for one that was put together."""
    mirrored: bool = False
    pixel: float = 1.0
    """Width that a pixel of the original has in `image`: what a last pixel counted in amounts to.
    """

    def keep(self, rows: npt.NDArray[np.bool_]) -> Scene:
        """The scene with those of its boxes that a mask (N,) chooses."""
        scores = None if self.scores is None else self.scores[rows]
        return replace(self, boxes=self.boxes[rows], owners=self.owners[rows], scores=scores)


def scene_boxes(
    boxes: npt.NDArray[np.float64], image_hw: tuple[int, int]
) -> tuple[Boxes, npt.NDArray[np.bool_]]:
    """Boxes of a file as training counts them, and which of them are any use.

    official: plus one. The far corner becomes x + max(width - 1, 0); the box is cut at the border
    pixels and goes if nothing is left of it (reference J.1, J.3).

    Args:
        boxes: (N, 4) xyxy with x2 = x + width, pixels.
        image_hw: Height and width of the picture.
    Returns:
        (N, 4), and (N,) True where both sides are above zero.
    """
    near = boxes[:, :2]
    whole = np.concatenate([near, np.maximum(boxes[:, 2:] - 1, near)], 1)
    return _cut(whole, image_hw[1], image_hw[0])


def augment(
    scene: Scene,
    config: AugmentConfig,
    pixels: PixelConfig,
    rng: Random,
    partner: Callable[[], Scene] | None = None,
) -> Scene:
    """One scene as training sees it this time, at the size the model takes.

    Args:
        scene: As read.
        config: What may happen.
        pixels: Of the model; sizes that `config` names come first.
        rng: Decides.
        partner: Another scene of the same classes, for a mosaic; without it there is none. Scenes
            with a caption take no part, as the sentence about one picture is silent about the
            others.
    """
    if partner is not None and scene.caption is None and rng.random() < config.mosaic:
        joined = mosaic([scene, *(partner() for _ in range(3))], config.mosaic_size, rng)
        # Four pictures may have nothing in common that could be asked for.
        if len(joined.boxes) or (joined.known and not len(scene.boxes)):
            scene = joined
    scene = jitter_colours(scene, config, rng)
    if rng.random() < config.flip:
        scene = flip(scene)
    if config.jitter is not None:
        return jitter_scale(scene, config.jitter, config.jitter_size, rng)
    long_side = config.long_side or pixels.long_side
    side = rng.choice(_short_sides(config, pixels))
    return rescale(scene, replace(pixels, short_side=side, long_side=long_side))


class Extent(NamedTuple):
    """The largest that `augment` may bring pictures to."""

    short_side: int
    """As `glip.pixels.resized_hw` takes it, 0 if it resizes by no short side."""
    long_side: int
    square: int
    """What they are fitted into, 0 for nothing."""

    def of(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a picture of a given height and width may come to."""
        scale = self.square / max(image_hw)
        fitted = max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale))
        if not self.short_side:
            return fitted
        return max(fitted, resized_hw(image_hw, self.short_side, self.long_side), key=math.prod)


def extent(config: AugmentConfig, pixels: PixelConfig) -> Extent:
    """How large `augment` may bring pictures, for whoever keeps smaller copies of them.

    A part of a mosaic counts as much as it fills before the mosaic is resized as a whole.
    """
    square = math.ceil(FARTHEST * config.mosaic_size) if config.mosaic else 0
    if config.jitter is not None:
        largest = math.ceil(config.jitter_size * max(1.0, config.jitter[1]))
        return Extent(0, 0, max(square, largest))
    return Extent(max(_short_sides(config, pixels)), config.long_side or pixels.long_side, square)


def _short_sides(config: AugmentConfig, pixels: PixelConfig) -> Sequence[int]:
    if config.short_sides:
        return config.short_sides
    return [round(share * pixels.short_side) for share in SHORT_SIDES]


def rescale(scene: Scene, pixels: PixelConfig) -> Scene:
    """The scene at another size, by the arithmetic of prediction.

    official: coordinates scale as points, so that a box which counts its last pixel in keeps that
    count in pixels of the original picture, where predictions are scaled back to.
    """
    return _scaled(scene, resize(scene.image, pixels))


def flip(scene: Scene) -> Scene:
    """The mirror image, with left and right exchanged in the caption and its spans moved along.

    A scene whose caption has no sure mirror (`glip.text.mirror`) comes back as it is. official:
    flips after resizing, which moves boxes by the scale less one pixel; here a flipped picture has
    the very boxes that it would have if it came flipped from its file.
    """
    caption, phrases = scene.caption, scene.phrases
    if caption is not None:
        mirrored = mirror(caption)
        if mirrored is None:
            return scene
        caption = mirrored.text
        phrases = tuple(tuple(map(mirrored.span, spans)) for spans in phrases)
    x1, y1, x2, y2 = scene.boxes.T
    last = np.float32(scene.image.width - scene.pixel)
    return replace(
        scene,
        image=F.horizontal_flip(scene.image),
        boxes=np.stack([last - x2, y1, last - x1, y2], 1),
        caption=caption,
        phrases=phrases,
        mirrored=not scene.mirrored,
    )


def jitter_scale(scene: Scene, factors: tuple[float, float], size: int, rng: Random) -> Scene:
    """Large-scale jitter: any scale, cut to a square window where the picture is larger.

    Boxes are cut with the picture, and those that fall outside go. A class all of whose boxes are
    gone is neither positive nor surely absent, as parts of it may still show. A window without any
    of the boxes is not used: the picture is then scaled to fit.

    Args:
        scene: At any size.
        factors: Smallest and largest scale; 1 just fits into the square.
        size: Side of the square, in pixels.
        rng: Decides.
    """
    width, height = scene.image.size
    fitting = min(size / width, size / height)
    scale = fitting * rng.uniform(*factors)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    grown = _scaled(scene, scene.image.resize(target, Image.Resampling.BILINEAR))
    left = rng.randint(0, max(0, target[0] - size))
    top = rng.randint(0, max(0, target[1] - size))
    window = _crop(grown, left, top, min(size, target[0]), min(size, target[1]))
    if len(scene.boxes) and not len(window.boxes):
        fit = max(1, int(width * fitting)), max(1, int(height * fitting))
        return _scaled(scene, scene.image.resize(fit, Image.Resampling.BILINEAR))
    return window


def mosaic(scenes: list[Scene], size: int, rng: Random) -> Scene:
    """Four scenes around a point of a square, each as large as fits its quarter, none cut.

    Only what is known of all four is known of the mosaic: a class stays if each scene has it or
    surely lacks it, as an unlabelled one would be taught as absent.

    Args:
        scenes: Four, owners being rows of one list of classes.
        size: Side of the square, in pixels.
        rng: Draws the point between 30 and 70 % of either side.
    """
    assert len(scenes) == 4, "a mosaic has four scenes"
    centre_x, centre_y = (round(size * rng.uniform(1 - FARTHEST, FARTHEST)) for _ in range(2))
    canvas = Image.new("RGB", (size, size), (124, 116, 104))  # the mean colour, zero for the model
    present = [scene.known | set(scene.owners.tolist()) for scene in scenes]
    known_of_all = frozenset.intersection(*map(frozenset, present))
    boxes, owners, scores = [], [], []
    for place, scene in enumerate(scenes):
        right, below = place % 2, place // 2
        room_x = size - centre_x if right else centre_x
        room_y = size - centre_y if below else centre_y
        width, height = scene.image.size
        scale = min(room_x / width, room_y / height)
        target = max(1, int(width * scale)), max(1, int(height * scale))
        small = _scaled(scene, scene.image.resize(target, Image.Resampling.BILINEAR))
        left = centre_x if right else centre_x - target[0]
        top = centre_y if below else centre_y - target[1]
        canvas.paste(small.image, (left, top))
        small = small.keep(np.isin(small.owners, list(known_of_all)))
        boxes.append(small.boxes + np.array([left, top, left, top], dtype=np.float32))
        owners.append(small.owners)
        scores.append(
            np.ones(len(small.owners), np.float32) if small.scores is None else small.scores
        )
    together = np.concatenate(owners)
    return Scene(
        canvas,
        np.concatenate(boxes),
        together,
        known=known_of_all - set(together.tolist()),
        doubtful=frozenset().union(*(scene.doubtful for scene in scenes)),
        scores=None if all(s.scores is None for s in scenes) else np.concatenate(scores),
    )


def jitter_colours(scene: Scene, config: AugmentConfig, rng: Random) -> Scene:
    """Brightness, contrast, saturation and hue in a random order, those that are switched on."""
    changes: list[Callable[[Image.Image], Image.Image]] = []
    for strength, change in (
        (config.brightness, F.adjust_brightness),
        (config.contrast, F.adjust_contrast),
        (config.saturation, F.adjust_saturation),
    ):
        if strength:
            factor = rng.uniform(1 - strength, 1 + strength)
            changes.append(partial(_changed, change, factor))
    if config.hue:
        shift = rng.uniform(-config.hue, config.hue)
        changes.append(partial(_changed, F.adjust_hue, shift))
    rng.shuffle(changes)
    image = scene.image
    for apply in changes:
        image = apply(image)
    return replace(scene, image=image)


def _changed(
    change: Callable[[Image.Image, float], Image.Image], amount: float, image: Image.Image
) -> Image.Image:
    return change(image, amount)


def _scaled(scene: Scene, image: Image.Image) -> Scene:
    """The scene with its picture in another size, boxes scaled as points."""
    x, y = image.width / scene.image.width, image.height / scene.image.height
    boxes = scene.boxes * np.array([x, y, x, y], dtype=np.float32)
    return replace(scene, image=image, boxes=boxes, pixel=scene.pixel * x)


def _crop(scene: Scene, left: int, top: int, width: int, height: int) -> Scene:
    """A window of the scene; what is known of classes that fell outside is forgotten."""
    moved = scene.boxes - np.array([left, top, left, top], dtype=np.float32)
    boxes, inside = _cut(moved, width, height)
    image = F.crop(scene.image, top, left, height, width)
    return replace(scene, image=image, boxes=boxes).keep(inside)


def _cut(
    boxes: npt.NDArray[np.floating], width: int, height: int
) -> tuple[Boxes, npt.NDArray[np.bool_]]:
    """Boxes cut at the border pixels, and which of them keep an extent."""
    limit = np.array([width - 1, height - 1, width - 1, height - 1], dtype=np.float32)
    cut = np.clip(boxes, 0, limit).astype(np.float32)
    width_height = cut[:, 2:] - cut[:, :2]
    return cut, width_height.min(1) > 0
