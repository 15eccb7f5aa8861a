"""Pictures that are kept decoded and shrunk."""

import logging
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import numpy as np
import pytest
from PIL import Image

from glip.config import PixelConfig
from glip.data import picture_cache
from glip.data.augment import AugmentConfig, Extent, Scene, augment, extent
from glip.data.formats.coco import read_detection
from glip.data.loader import TrainingSet, training_loader
from glip.data.mixture import Draw, MixtureSampler
from glip.data.picture_cache import LEDGER, UNIT, PictureCache
from glip.data.pictures import PictureFolder, PictureTar
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource
from glip.errors import DataError, ImageError, StorageError
from glip.pixels import resize
from glip.text.tokenizer import Tokenizer

PIXELS = PixelConfig(short_side=40, long_side=80)
ONE_SIZE = AugmentConfig(short_sides=(40,), flip=0)
LIMIT = extent(ONE_SIZE, PIXELS)


@pytest.fixture
def photos(tmp_path):
    """Two large photos of noise, and one that is no larger than what is asked for."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name, (height, width) in {
        "a.png": (90, 150),
        "b.png": (130, 100),
        "c.png": (40, 60),
    }.items():
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
            folder / name
        )
    return PictureFolder(folder)


def entries(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LEDGER)


def test_large_picture_is_kept_at_the_size_that_training_asks_for(photos, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    first, again = cache.read(photos, "a.png"), cache.read(photos, "a.png")
    expected = resize(photos.read("a.png"), PIXELS)
    for shrunk in (first, again):
        assert shrunk.original_hw == (90, 150)
        assert shrunk.image.size == expected.size == (66, 40)
        assert shrunk.image.mode == "RGB" and shrunk.image.tobytes() == expected.tobytes()
    assert len(entries(tmp_path / "cache")) == 1


def test_later_reads_decode_nothing(photos, tmp_path, monkeypatch):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    first = cache.read(photos, "a.png")
    monkeypatch.setattr(PictureFolder, "read", lambda self, name: pytest.fail("decoded again"))
    later = PictureCache(tmp_path / "cache", 1, LIMIT).read(photos, "a.png")  # a run that goes on
    assert later.image.tobytes() == first.image.tobytes()


def test_picture_that_is_not_much_larger_stays_as_it_is(photos, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    shrunk = cache.read(photos, "c.png")
    assert shrunk.image.tobytes() == photos.read("c.png").tobytes()
    assert shrunk.original_hw == (40, 60)
    assert entries(tmp_path / "cache") == []


def test_changed_picture_and_other_sizes_are_other_entries(photos, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    cache.read(photos, "a.png")
    Image.new("RGB", (200, 90), "red").save(photos.root / "a.png")
    assert cache.read(photos, "a.png").original_hw == (90, 200)
    assert cache.read(photos, "a.png").image.getpixel((5, 5)) == (255, 0, 0)
    larger = PictureCache(tmp_path / "cache", 1, Extent(20, 80, 0))
    assert larger.read(photos, "a.png").image.height == 20
    assert len(entries(tmp_path / "cache")) == 3


def test_same_picture_in_a_tar(photos, tmp_path, tar_of):
    tar = PictureTar(tar_of(photos.root))
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    expected = cache.read(photos, "a.png").image.tobytes()
    for _ in range(2):
        assert cache.read(tar, "images/a.png").image.tobytes() == expected
    assert tar.identity("images/a.png") != tar.identity("images/b.png")
    assert len(entries(tmp_path / "cache")) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-100],
        lambda content: content + b"\0" * 8,
        lambda content: bytes(len(content)),
        lambda content: content[:1000] + bytes([content[1000] ^ 4]) + content[1001:],
        lambda content: content[:12] + b"\xff\xff\xff\xff" + content[16:],
        lambda content: content[:16] + b"\xff" * 8 + content[24:],
        lambda content: b"\x89PNG" + content[4:],
    ],
    ids=["empty", "head", "end", "longer", "zeros", "pixel", "original", "size", "kind"],
)
def test_spoiled_entry_is_made_again(photos, tmp_path, spoil):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    whole = cache.read(photos, "a.png")
    (entry,) = entries(tmp_path / "cache")
    right = entry.read_bytes()
    entry.write_bytes(spoil(right))
    again = cache.read(photos, "a.png")
    assert again.original_hw == whole.original_hw
    assert again.image.tobytes() == whole.image.tobytes()
    assert entry.read_bytes() == right


def test_folder_holds_no_more_than_it_may(photos, tmp_path):
    room = (UNIT + 1) / 2**30  # one entry, each takes a unit
    caches = [PictureCache(tmp_path / "cache", room, LIMIT) for _ in range(2)]
    kept = [cache.read(photos, name) for name in ("a.png", "b.png", "b.png") for cache in caches]
    assert len(entries(tmp_path / "cache")) == 1
    assert (tmp_path / "cache" / LEDGER).stat().st_size == 1
    assert len({shrunk.image.tobytes() for shrunk in kept[2:]}) == 1  # kept or not, the same


def test_missing_and_broken_pictures_are_named(photos, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    (photos.root / "d.png").write_bytes(b"no picture")
    for name, reason in (
        ("x.png", "does not exist"),
        ("d.png", "known format"),
        ("../a", "leads out"),
    ):
        with pytest.raises(ImageError, match=reason):
            cache.read(photos, name)


def test_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(StorageError, match=r"cache cannot be written"):
        PictureCache(tmp_path / "cache", 1, LIMIT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        PictureCache(tmp_path / "cache", 1, LIMIT)


def test_read_only_disk_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    with pytest.raises(StorageError, match="Read-only file system"):
        PictureCache(tmp_path / "cache", 1, LIMIT)


def test_full_disk_ends_keeping_and_not_the_run(photos, tmp_path, monkeypatch, caplog):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    tries = []

    def full(path, content):
        tries.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert cache.read(photos, "a.png").image.size == (66, 40)
            assert cache.read(photos, "b.png").original_hw == (130, 100)
    assert len(tries) == 1 and entries(tmp_path / "cache") == []
    (warning,) = caplog.messages
    assert "no more pictures are kept there" in warning and "No space left" in warning


def test_things_in_the_way_of_an_entry_are_borne(photos, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    cache.read(photos, "a.png")
    (entry,) = entries(tmp_path / "cache")
    entry.unlink()
    entry.mkdir()  # a folder, where a file should be
    assert cache.read(photos, "a.png").image.size == (66, 40)
    assert cache.read(photos, "a.png").image.size == (66, 40)


def _bytes_of(cache, photos, name):
    return cache.read(photos, name).image.tobytes()


def test_processes_share_a_folder(photos, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    names = ["a.png", "b.png"] * 6
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        got = list(pool.map(_bytes_of, [cache] * 12, [photos] * 12, names))
    fresh = PictureCache(tmp_path / "other", 1, LIMIT)
    assert got == [_bytes_of(fresh, photos, name) for name in names]
    assert len(entries(tmp_path / "cache")) == 2  # and nothing unfinished


# ---------------------------------------------------------------------------------------- in a run


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.bert_uncased()


def training_set(coco, tokenizer, cache, augmentation, pixels=PIXELS):
    source = DetectionSource(
        read_detection(coco), PictureFolder(coco.parent), tokenizer, SamplingConfig(), cache=cache
    )
    return TrainingSet([source], tokenizer, pixels, augmentation)


def test_samples_at_one_size_are_exactly_those_of_a_run_without(coco, tokenizer, tmp_path):
    pixels = PixelConfig(short_side=16, long_side=30)
    one_size = AugmentConfig(short_sides=(16,), flip=0)
    cache = PictureCache(tmp_path / "cache", 1, extent(one_size, pixels))
    plain = training_set(coco, tokenizer, None, one_size, pixels)
    cached = training_set(coco, tokenizer, cache, one_size, pixels)
    for seed in range(4):
        expected, got = plain[Draw(0, seed % 2, seed)], cached[Draw(0, seed % 2, seed)]
        assert got.pixels.equal(expected.pixels)
        assert got.target.boxes.equal(expected.target.boxes)
        assert got.token_ids == expected.token_ids
    assert len(entries(tmp_path / "cache")) == 2


def test_samples_at_smaller_sizes_are_nearly_those(coco, tokenizer, tmp_path):
    pixels = PixelConfig(short_side=20, long_side=40)
    busy = AugmentConfig(short_sides=(14, 20), flip=0.5, brightness=0.2, mosaic=0.3, mosaic_size=32)
    cache = PictureCache(tmp_path / "cache", 1, extent(busy, pixels))
    plain = training_set(coco, tokenizer, None, busy, pixels)
    cached = training_set(coco, tokenizer, cache, busy, pixels)
    for seed in range(12):
        expected, got = plain[Draw(0, seed % 2, seed)], cached[Draw(0, seed % 2, seed)]
        assert got.pixels.shape == expected.pixels.shape
        assert (got.pixels - expected.pixels).abs().mean() < 0.06 * expected.pixels.std()
        np.testing.assert_allclose(got.target.boxes, expected.target.boxes, atol=1e-4)


def test_batches_are_the_same_before_and_after_and_with_workers(coco, tokenizer, tmp_path):
    busy = AugmentConfig(short_sides=(14, 20), flip=0.5, mosaic=0.3, mosaic_size=32)
    cache = PictureCache(tmp_path / "cache", 1, extent(busy, PIXELS))
    dataset = training_set(coco, tokenizer, cache, busy)

    def pixels(workers):
        sampler = MixtureSampler([2], batch_size=2, steps=4, seed=3)
        return [batch.pixels for batch in training_loader(dataset, sampler, workers=workers)]

    filling, later, forked = pixels(0), pixels(0), pixels(2)
    assert len(filling) == 4
    for first, second, third in zip(filling, later, forked, strict=True):
        assert first.equal(second) and first.equal(third)


def test_annotations_of_another_size_are_still_refused(coco, coco_content, tokenizer, tmp_path):
    cache = PictureCache(tmp_path / "cache", 1, Extent(16, 30, 0))
    dataset = training_set(coco, tokenizer, cache, AugmentConfig(short_sides=(16,)))
    dataset[Draw(0, 0, 0)]
    assert len(entries(tmp_path / "cache")) == 1
    Image.new("RGB", (80, 40)).save(coco.parent / "a.png")
    with pytest.raises(DataError, match=r"a\.png is 80 x 40 pixels"):
        dataset.sources[0].scene(0)


@pytest.mark.parametrize(
    ("config", "image_hw"),
    [
        (AugmentConfig(flip=0), (300, 500)),
        (AugmentConfig(short_sides=(30, 60), long_side=70), (200, 900)),
        (AugmentConfig(mosaic=1.0, mosaic_size=400), (300, 300)),
        (AugmentConfig(jitter=(0.5, 1.7), jitter_size=64), (300, 200)),
        (AugmentConfig(jitter=(0.3, 1.0), jitter_size=64), (300, 200)),
    ],
)
def test_no_augmentation_asks_for_more_than_the_extent(config, image_hw, monkeypatch):
    largest = extent(config, PIXELS).of(image_hw)
    asked = []
    original = Image.Image.resize

    def watched(image, size, *args, **options):
        if image.size == image_hw[::-1]:  # not a mosaic, when it is resized as a whole
            asked.append((size[1], size[0]))
        return original(image, size, *args, **options)

    scene = Scene(
        Image.new("RGB", image_hw[::-1]),
        np.array([[0, 0, image_hw[1] - 1, image_hw[0] - 1]], dtype=np.float32),
        np.array([0]),
    )
    monkeypatch.setattr(Image.Image, "resize", watched)
    for seed in range(30):
        augment(scene, config, PIXELS, Random(seed), lambda: scene)
    assert asked
    assert all(h <= largest[0] and w <= largest[1] for h, w in asked)
    assert max(h for h, _ in asked) >= 0.7 * largest[0]


def test_entries_that_could_not_be_read_back_are_not_written(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_cache, "MOST_BYTES", 100)
    cache = PictureCache(tmp_path / "cache", 1, LIMIT)
    assert cache.read(photos, "a.png").image.size == (66, 40)
    assert entries(tmp_path / "cache") == []
