"""The data set that ships: small, whole, readable; a copy overwrites nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import glip
from glip.errors import StorageError
from glip.samples import SAMPLE_SET, copy_samples


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return copy_samples(tmp_path / "samples")


def test_it_is_small_and_says_where_it_is_from() -> None:
    assert sum(path.stat().st_size for path in SAMPLE_SET.rglob("*")) < 2_000_000
    assert "CC0" in (SAMPLE_SET / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("part", "pictures"), [("train", 14), ("val", 8)])
def test_boxes_lie_in_their_pictures(samples: Path, part: str, pictures: int) -> None:
    content = json.loads((samples / f"{part}.json").read_text(encoding="utf-8"))
    sizes = {one["id"]: (one["width"], one["height"]) for one in content["images"]}
    assert len(sizes) == pictures
    for one in content["images"]:
        with Image.open(samples / one["file_name"]) as image:
            assert image.size == sizes[one["id"]]
    for box in content["annotations"]:
        x, y, width, height = box["bbox"]
        assert width > 5 and height > 5 and x >= 0 and y >= 0
        assert x + width <= sizes[box["image_id"]][0] + 1
        assert y + height <= sizes[box["image_id"]][1] + 1
    seen = Counter(box["category_id"] for box in content["annotations"])
    assert set(seen) == {one["id"] for one in content["categories"]} == {1, 2, 3, 4, 5}


def test_every_picture_has_a_caption(samples: Path) -> None:
    lines = (samples / "captions.tsv").read_text(encoding="utf-8").splitlines()
    names = {line.split("\t")[0] for line in lines}
    assert names == {f"images/{path.name}" for path in (samples / "images").iterdir()}


@pytest.mark.whole
def test_the_doctor_finds_nothing_that_training_refuses(samples: Path) -> None:
    assert glip.doctor(samples).exit_code == 0


def test_a_copy_stays_and_goes_on(samples: Path) -> None:
    (samples / "val.json").unlink()
    (samples / "mine.txt").write_text("stays", encoding="utf-8")
    assert copy_samples(samples) == samples
    assert (samples / "val.json").exists() and (samples / "mine.txt").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StorageError, match="give another folder"):
        copy_samples(tmp_path)
    assert (tmp_path / "train.json").read_text(encoding="utf-8") == "{}"
    assert not (tmp_path / "images").exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError):
        copy_samples(tmp_path / "samples")
