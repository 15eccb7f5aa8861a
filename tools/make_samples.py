"""The small data set that ships with the package, made anew from photos that are free of rights.

    python tools/make_samples.py glip/sample_set

Cuts, mirrors and brightens six photos of scikit-image's collection (0.24 or newer), whose boxes
were drawn by hand, and puts some side by side. The same photos give the same files.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Box = tuple[float, float, float, float]
CLASSES = ("person", "cat", "cup", "rocket", "coin")
PARTS = {"train": 14, "val": 8}
LONG_SIDE = 384
WHOLE, GONE = 0.55, 0.1  # a cut leaves at least the first share of a box, or less than the second


@dataclass(frozen=True)
class Scene:
    """A picture, its boxes in pixels (x1, y1, x2, y2, far edges exclusive), and what it shows."""

    image: Image.Image
    boxes: tuple[tuple[str, Box], ...]
    caption: str


def main() -> None:
    """Write pictures, boxes and captions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    folder: Path = parser.parse_args().output
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    scenes = photos()
    captions = []
    for part, count in PARTS.items():
        made = [variant(scenes, number, rng) for number in range(count)]
        names = [f"images/{part}-{number:02d}.jpg" for number in range(count)]
        for name, scene in zip(names, made, strict=True):
            scene.image.save(folder / name, quality=82, optimize=True)
            captions.append(f"{name}\t{scene.caption}\n")
        content = json.dumps(as_coco(names, made), indent=1)
        (folder / f"{part}.json").write_text(content + "\n", encoding="utf-8")
    (folder / "captions.tsv").write_text("".join(captions), encoding="utf-8")


def photos() -> list[Scene]:
    """The originals, with boxes drawn by hand; those of the coins are found by their brightness."""
    from skimage import data

    def scene(name: str, caption: str, *boxes: tuple[str, Box]) -> Scene:
        return Scene(Image.fromarray(getattr(data, name)()).convert("RGB"), boxes, caption)

    return [
        scene(
            "astronaut",
            "A woman in an orange suit in front of a flag and a model of a rocket.",
            ("person", (23, 15, 366, 512)),
            ("rocket", (352, 0, 458, 286)),
        ),
        scene("chelsea", "A cat with green eyes.", ("cat", (0, 0, 400, 300))),
        scene("coffee", "A cup of coffee on a red saucer.", ("cup", (171, 17, 419, 308))),
        scene("rocket", "A rocket between tall towers at night.", ("rocket", (306, 128, 337, 412))),
        scene("coins", "Old coins on a dark table.", *(("coin", box) for box in coins(data))),
        scene(
            "camera",
            "A man in a dark coat looks through a camera on a tripod.",
            ("person", (0, 64, 330, 512)),
        ),
    ]


def coins(data: object) -> list[Box]:
    """Boxes of the coins in scikit-image's photo of some."""
    from skimage.filters import threshold_local
    from skimage.measure import label, regionprops
    from skimage.morphology import closing, disk, remove_small_objects

    grey = data.coins()  # type: ignore[attr-defined]
    bright = closing(grey > np.maximum(threshold_local(grey, 151, offset=-12), 90), disk(2))
    regions = regionprops(label(remove_small_objects(bright, max_size=300)))
    found = [region.bbox for region in regions]
    return [
        (float(left), float(top), float(right), float(bottom))
        for top, left, bottom, right in found
        if 20 < bottom - top < 80 and 20 < right - left < 80
    ]


def variant(scenes: list[Scene], number: int, rng: random.Random) -> Scene:
    """A cut of one photo, or, every fourth time, of two side by side."""
    first = cut(scenes[number % len(scenes)], rng)
    if number % 4 == 3:
        first = beside(first, cut(scenes[(number + 2) % len(scenes)], rng))
    scene = mirrored(first) if rng.random() < 0.4 else first
    scale = LONG_SIDE / max(scene.image.size)
    width, height = (round(side * scale) for side in scene.image.size)
    bright = ImageEnhance.Brightness(scene.image).enhance(rng.uniform(0.8, 1.2))
    boxes = tuple((name, scaled(box, scale)) for name, box in scene.boxes)
    return replace(scene, image=bright.resize((width, height)), boxes=boxes)


def cut(scene: Scene, rng: random.Random) -> Scene:
    """A part of a photo in which no box is cut to a rest that nobody would call by its name."""
    width, height = scene.image.size
    for _ in range(2000):
        share = rng.uniform(0.65, 1)
        size = (round(width * share), round(height * share))
        left, top = rng.randint(0, width - size[0]), rng.randint(0, height - size[1])
        kept = []
        for name, box in scene.boxes:
            inside = clipped(box, left, top, size)
            seen = area(inside) / area(box)
            if GONE <= seen < WHOLE:
                break
            if seen >= WHOLE:
                kept.append((name, inside))
        else:
            if kept:
                image = scene.image.crop((left, top, left + size[0], top + size[1]))
                return replace(scene, image=image, boxes=tuple(kept))
    return scene


def clipped(box: Box, left: int, top: int, size: tuple[int, int]) -> Box:
    """What a cut shows of a box, in the cut's own pixels."""
    x1, x2 = (min(max(x - left, 0), size[0]) for x in (box[0], box[2]))
    y1, y2 = (min(max(y - top, 0), size[1]) for y in (box[1], box[3]))
    return x1, y1, x2, y2


def area(box: Box) -> float:
    """In pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def scaled(box: Box, scale: float) -> Box:
    """The box in a picture of another size."""
    x1, y1, x2, y2 = (round(x * scale, 1) for x in box)
    return x1, y1, x2, y2


def mirrored(scene: Scene) -> Scene:
    """Left and right exchanged."""
    width = scene.image.width
    boxes = tuple(
        (name, (width - x2, y1, width - x1, y2)) for name, (x1, y1, x2, y2) in scene.boxes
    )
    return replace(scene, image=ImageOps.mirror(scene.image), boxes=boxes)


def beside(left: Scene, right: Scene) -> Scene:
    """Two pictures of one height in one."""
    scale = left.image.height / right.image.height
    width = round(right.image.width * scale)
    image = Image.new("RGB", (left.image.width + width, left.image.height))
    image.paste(left.image, (0, 0))
    image.paste(right.image.resize((width, left.image.height)), (left.image.width, 0))
    shift = left.image.width
    moved = [(name, scaled(box, scale)) for name, box in right.boxes]
    there = [(name, (x1 + shift, y1, x2 + shift, y2)) for name, (x1, y1, x2, y2) in moved]
    caption = f"{left.caption} {right.caption}"
    return Scene(image, (*left.boxes, *there), caption)


def as_coco(names: list[str], scenes: list[Scene]) -> dict[str, object]:
    """Pictures and boxes in COCO's format."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (name, scene) in enumerate(zip(names, scenes, strict=True), 1):
        width, height = scene.image.size
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, (x1, y1, x2, y2) in scene.boxes:
            bbox = [round(x, 1) for x in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CLASSES.index(label) + 1,
                    "bbox": bbox,
                    "area": round(bbox[2] * bbox[3], 1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


if __name__ == "__main__":
    main()
