"""Draw detections on a picture: one colour for each phrase or, in a video, for each track, and
labels that stay readable.

Sizes follow the picture, so that a thumbnail and a poster look alike. Knows nothing about models;
the boxes come in pixels of the very picture that is drawn on.
"""

from __future__ import annotations

import colorsys
import functools
import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, Protocol, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from glip.errors import ConfigError, ImageError
from glip.images import ImageLike, load_image

Colour: TypeAlias = tuple[int, int, int]
"""Red, green, blue, 0 ... 255."""

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAGE_COLOURS = 24
"""So many phrases have colours of their own on a page."""

PALETTE: tuple[Colour, ...] = (
    (213, 94, 0),
    (0, 114, 178),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)
"""The colours of Okabe and Ito (2008), which people of any colour vision tell apart, without black.
The order puts unlike ones first."""

FALLBACK_FONTS = (
    "NotoSansCJK-Regular.ttc",  # Linux
    "Arial Unicode.ttf",  # macOS
    "msyh.ttc",  # Windows
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)
"""Fonts to look for when a label has letters that Pillow's own lacks: it knows little but ASCII."""


class Drawable(Protocol):
    """Boxes with a score and a phrase each, as `glip.Detections` has them. Letters: N boxes."""

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the picture, pixels."""

    @property
    def boxes(self) -> Any:
        """(N, 4) xyxy, pixels."""

    @property
    def scores(self) -> Any:
        """(N,) in [0, 1]."""

    @property
    def phrase_ids(self) -> Any:
        """(N,) row of the prompt, which chooses the colour."""

    @property
    def phrases(self) -> Sequence[str]:
        """N names."""

    @property
    def track_ids(self) -> Any:
        """(N,) of the tracks of a video, from 1, which choose the colours then; or None."""


class Rectangle(NamedTuple):
    """Whole pixels; right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


def draw(
    image: ImageLike,
    detections: Drawable,
    *,
    labels: bool = True,
    scores: bool = True,
    line_width: int | None = None,
    font_size: int | None = None,
    font: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """A copy of the picture with a box and a label for each detection.

    Boxes with high scores are drawn last and choose the place of their label first: above the box,
    within it, below or beside it, wherever the label lies inside the picture and covers no other. A
    label wider than its box and half the picture is shortened; where not one letter fits there is
    none.

    Args:
        image: the picture that was searched, in any form that `predict` takes.
        detections: boxes in pixels of this picture.
        labels: write the phrases beside the boxes.
        scores: write the scores, two decimals, after the phrases.
        line_width: of the boxes, pixels; by default 1/240 of the picture's size.
        font_size: pixels; by default 1/36 of the picture's size, at least 10.
        font: a TrueType or OpenType file; by default Pillow's own font or, for letters it lacks,
            one that is found on this machine. A letter that none has shows as an empty box.
    Raises:
        ImageError: the picture cannot be read, or is not of the size that was searched.
        ConfigError: a size below one pixel, or a font that cannot be read.
    """
    picture = load_image(image).copy()
    height, width = detections.image_hw
    if picture.size != (width, height):
        raise ImageError(
            f"the picture is {picture.width}x{picture.height} pixels, the detections are of one of "
            f"{width}x{height}; draw them on the picture that was searched"
        )
    size = _apparent_size(width, height)
    line_width = _at_least_one("line_width", line_width, default=max(1, round(size / 240)))
    font_size = _at_least_one("font_size", font_size, default=max(10, round(size / 36)))

    scored = detections.scores.tolist()
    best_first = sorted(range(len(scored)), key=lambda row: -scored[row])
    corners, rows = detections.boxes.tolist(), detections.phrase_ids.tolist()
    phrases = list(detections.phrases)
    if detections.track_ids is not None:
        tracks = detections.track_ids.tolist()
        rows = [track - 1 for track in tracks]
        phrases = [f"{phrase} #{track}" for phrase, track in zip(phrases, tracks, strict=True)]
    boxes = [_pixels(corners[place], width, height) for place in best_first]
    colours = [phrase_colour(rows[place]) for place in best_first]
    canvas = ImageDraw.Draw(picture)
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        _draw_box(canvas, box, colour, line_width)
    if labels:
        texts = [
            (phrases[place], f"  {scored[place]:.2f}" if scores else "") for place in best_first
        ]
        _draw_labels(canvas, boxes, texts, colours, font_size=font_size, font=font)
    return picture


def phrase_colour(phrase_id: int) -> Colour:
    """The same colour for the same row of a prompt, in every picture; unlike its neighbours."""
    if phrase_id < len(PALETTE):
        return PALETTE[phrase_id]
    # Steps of the golden ratio never come near a hue they had; the lightness alternates besides.
    step = phrase_id - len(PALETTE)
    red, green, blue = colorsys.hls_to_rgb((0.61803398875 * step) % 1, (0.42, 0.68)[step % 2], 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)


def css(colour: Colour) -> str:
    """A colour as style sheets write it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def page_colours() -> list[dict[str, str]]:
    """Colours of phrases and of the letters on them, for a page; further phrases begin again."""
    colours = map(phrase_colour, range(PAGE_COLOURS))
    return [{"fill": css(colour), "ink": css(text_colour(colour))} for colour in colours]


def _apparent_size(width: int, height: int) -> float:
    """One length for a picture: the side of a square as large, or less for a narrow strip."""
    return min(math.sqrt(width * height), 2.0 * min(width, height))


def _at_least_one(name: str, value: int | None, *, default: int) -> int:
    if value is None:
        return default
    if value < 1:
        raise ConfigError(f"{name} must be at least 1 pixel, got {value}")
    return value


def _pixels(box: Sequence[float], width: int, height: int) -> Rectangle:
    """Corners in any order, anywhere -> the pixels of the picture that they span, at least one."""
    (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    left, right = (min(max(round(x), 0), width) for x in (left, right))
    top, bottom = (min(max(round(y), 0), height) for y in (top, bottom))
    left, top = min(left, width - 1), min(top, height - 1)
    return Rectangle(left, top, max(right, left + 1), max(bottom, top + 1))


def _draw_box(canvas: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, line_width: int) -> None:
    left, top, right, bottom = box
    canvas.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line_width)


def _draw_labels(
    canvas: ImageDraw.ImageDraw,
    boxes: Sequence[Rectangle],
    texts: Sequence[tuple[str, str]],
    colours: Sequence[Colour],
    *,
    font_size: int,
    font: str | os.PathLike[str] | None,
) -> None:
    """Labels of one height: the first is placed first, and drawn last so that it lies on top."""
    width, height = canvas.im.size
    padding = max(1, round(font_size / 5))
    label_height = font_size + 2 * padding
    if label_height > height:
        return
    labels: list[tuple[Rectangle, str, Font, Colour]] = []
    for box, (phrase, ending), colour in zip(boxes, texts, colours, strict=True):
        face = _font_for(phrase, font_size) if font is None else _font(os.fspath(font), font_size)
        room = max(width // 2, box.right - box.left) - 2 * padding
        text = _shortened(" ".join(phrase.split()), ending, face, room)
        if text:
            label_width = math.ceil(face.getlength(text)) + 2 * padding
            taken = [place for place, *_ in labels]
            place = _place(box, label_width, label_height, (width, height), taken)
            labels.append((place, text, face, colour))
    for place, text, face, colour in reversed(labels):
        canvas.rectangle((place.left, place.top, place.right - 1, place.bottom - 1), fill=colour)
        middle = (place.left + padding, (place.top + place.bottom) / 2)
        canvas.text(middle, text, fill=text_colour(colour), font=face, anchor="lm")


def _place(
    box: Rectangle,
    width: int,
    height: int,
    picture_size: tuple[int, int],
    taken: Sequence[Rectangle],
) -> Rectangle:
    """The first free place at a corner of a box, inside it or out, or else the least covered."""
    tops = (box.top - height, box.top, box.bottom, box.bottom - height)
    lefts = (box.left, box.right - width, box.right, box.left - width)
    places = []
    for left, top in product(lefts, tops):
        left = min(max(left, 0), picture_size[0] - width)
        top = min(max(top, 0), picture_size[1] - height)
        places.append(Rectangle(left, top, left + width, top + height))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: Rectangle, b: Rectangle) -> int:
    """Pixels in both."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(width, 0) * max(height, 0)


def _shortened(phrase: str, ending: str, font: Font, room: int) -> str:
    """The phrase and its ending, the phrase cut to fit into `room` pixels; "" if that cannot be."""
    if font.getlength(phrase + ending) <= room:
        return phrase + ending
    fitting = bisect_right(
        range(len(phrase) + 1),
        room,
        key=lambda letters: math.ceil(font.getlength(phrase[:letters] + "…" + ending)),
    )
    return phrase[: fitting - 1].rstrip() + "…" + ending if fitting > 1 else ""


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever has the higher contrast (relative luminance, WCAG 2)."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in background)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)  # where both contrasts are equal


def _font_for(text: str, size: int) -> Font:
    """Pillow's own font, or the first of `FALLBACK_FONTS` found here that has all the letters."""
    own = _own_font(size)
    if text.isascii() or _has_all(own, text):
        return own
    for name in FALLBACK_FONTS:
        try:
            font = _font(name, size)
        except ConfigError:
            continue
        if _has_all(font, text):
            return font
    return own


def _has_all(font: Font, text: str) -> bool:
    """Does the font draw each letter as something else than the box for unknown ones?"""
    unknown = bytes(font.getmask("\U0010ffff"))
    return all(
        bytes(font.getmask(letter)) != unknown for letter in set(text) if letter.isprintable()
    )


@functools.lru_cache(maxsize=32)
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=32)
def _font(file: str, size: int) -> Font:
    """A font by path or, in the places where the system keeps its fonts, by file name."""
    try:
        return ImageFont.truetype(file, size)
    except OSError as error:
        raise ConfigError(
            f"font {file} cannot be read: {error}; pass a .ttf or .otf file"
        ) from error
