"""Drawn pictures and toy annotation files."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

Json = dict[str, Any]


@pytest.fixture
def draw() -> Callable[..., Image.Image]:
    """A grey picture with filled rectangles (x1, y1, x2, y2, colour), corners counted in."""

    def picture(
        width: int, height: int, *rectangles: tuple[int, int, int, int, str]
    ) -> Image.Image:
        image = Image.new("RGB", (width, height), "grey")
        for *corners, colour in rectangles:
            ImageDraw.Draw(image).rectangle(tuple(corners), fill=colour)
        return image

    return picture


@pytest.fixture
def coco_content() -> Json:
    """Three pictures, three classes with gaps between their ids."""
    return {
        "images": [
            {"id": 10, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 11, "file_name": "b.png", "width": 40, "height": 60},
            {"id": 12, "file_name": "c.png", "width": 50, "height": 50},
        ],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 5, 20, 10], "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 3, "bbox": [30, 20, 10, 10], "iscrowd": 0},
            {"id": 3, "image_id": 11, "category_id": 3, "bbox": [0, 0, 40, 60], "iscrowd": 0},
        ],
        "categories": [
            {"id": 7, "name": "red_box"},
            {"id": 3, "name": "blue box"},
            {"id": 9, "name": "disc (round)"},
        ],
    }


@pytest.fixture
def coco(tmp_path: Path, coco_content: Json, draw: Callable[..., Image.Image]) -> Path:
    """`coco_content` as a file beside its pictures."""
    draw(60, 40, (10, 5, 29, 14, "red"), (30, 20, 39, 29, "blue")).save(tmp_path / "a.png")
    draw(40, 60, (0, 0, 39, 59, "blue")).save(tmp_path / "b.png")
    draw(50, 50).save(tmp_path / "c.png")
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco_content))
    return path


@pytest.fixture
def tar_of() -> Callable[[Path], Path]:
    """Packs the pictures of a folder into `images.tar` beside it."""

    def pack(folder: Path, mode: str = "w") -> Path:
        path = folder.parent / "packed.tar"
        with tarfile.open(path, mode) as archive:
            for picture in sorted(folder.glob("*.png")):
                archive.add(picture, f"./images/{picture.name}")
        return path

    return pack


@pytest.fixture
def shared_packs() -> Path:
    """The data packs beside a checkout, for those who have them."""
    path = Path(__file__).parents[3] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"needs the data packs in {path}")
    return path
