"""Cut-outs of a picture around a box, small enough for a page of many.

Knows nothing about pages.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

CROP_PX = 160
"""Longest side of a crop."""
MARGIN = 0.2
"""Of the longer side, shown around it."""
DASH_PX = 5
"""Length of a dash and of the gap behind it."""
DASHED = "#ffb000"
"""Colour of the dashes; black lies between them, so that they are seen on any ground."""

Box = tuple[float, float, float, float]


def crop(image: Image.Image, solid: Box | None, dashed: Box | None = None) -> Image.Image:
    """Boxes with some of what is around them, drawn in.

    Args:
        image: the upright picture.
        solid: xyxy, pixels, the far edges exclusive; drawn white beside black.
        dashed: the same, drawn dashed below the other one; at least one of them is there.
    Returns:
        At most `CROP_PX` long; never enlarged.
    """
    corners = [box for box in (solid, dashed) if box is not None]
    x1, y1 = (min(box[side] for box in corners) for side in (0, 1))
    x2, y2 = (max(box[side] for box in corners) for side in (2, 3))
    margin = MARGIN * max(x2 - x1, y2 - y1) + 4
    # Of a box that lies beyond the picture, which may be another by now, the nearest edge.
    left = min(max(0, int(x1 - margin)), image.width - 1)
    top = min(max(0, int(y1 - margin)), image.height - 1)
    right = max(left + 1, min(image.width, int(x2 + margin) + 1))
    bottom = max(top + 1, min(image.height, int(y2 + margin) + 1))
    scale = min(1.0, CROP_PX / max(right - left, bottom - top))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    cut = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    canvas = ImageDraw.Draw(cut)

    def placed(box: Box, by: float = 0) -> Box:
        near = (box[0] - left) * scale - by, (box[1] - top) * scale - by
        return *near, (box[2] - left) * scale + by, (box[3] - top) * scale + by

    if dashed is not None:
        _draw_dashed(canvas, placed(dashed))
    if solid is not None:
        # White beside black is seen on any ground.
        canvas.rectangle(placed(solid, by=1), outline="white")
        canvas.rectangle(placed(solid), outline="black")
    return cut


def _draw_dashed(canvas: ImageDraw.ImageDraw, box: Sequence[float]) -> None:
    """A rectangle whose outline alternates between two colours, two pixels wide."""
    x1, y1, x2, y2 = map(round, box)
    canvas.rectangle((x1, y1, x2, y2), outline="black", width=2)
    for x in range(x1, x2, 2 * DASH_PX):
        end = min(x + DASH_PX, x2)
        canvas.rectangle((x, y1, end, y1 + 1), fill=DASHED)
        canvas.rectangle((x, y2 - 1, end, y2), fill=DASHED)
    for y in range(y1, y2, 2 * DASH_PX):
        end = min(y + DASH_PX, y2)
        canvas.rectangle((x1, y, x1 + 1, end), fill=DASHED)
        canvas.rectangle((x2 - 1, y, x2, end), fill=DASHED)
