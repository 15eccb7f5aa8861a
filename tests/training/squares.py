"""Small data sets of coloured squares with any ids, names and gaps that a file may have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange", "purple")


def write_set(
    path: Path,
    categories: Mapping[int, str],
    pictures: Sequence[tuple[int, Sequence[int]]],
    size: tuple[int, int] = (120, 90),
) -> Path:
    """A COCO file: of each picture its id, and the categories of its squares."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = sorted(categories)
    images, annotations = [], []
    for image_id, owners in pictures:
        image = Image.new("RGB", size, "grey")
        for place, owner in enumerate(owners):
            x, y = 4 + 36 * place, 10 + 7 * (image_id % 5)
            fill = COLOURS[order.index(owner)]
            ImageDraw.Draw(image).rectangle((x, y, x + 29, y + 29), fill=fill)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": owner,
                    "bbox": [x, y, 30, 30],
                    "area": 900,
                    "iscrowd": 0,
                }
            )
        name = f"{path.stem}_{image_id}.png"
        image.save(path.parent / name)
        images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    path.write_text(json.dumps(content))
    return path
