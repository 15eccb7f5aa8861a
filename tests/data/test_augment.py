"""Pictures and boxes change together."""

from random import Random

import numpy as np
import pytest
from PIL import Image

from glip.config import PixelConfig
from glip.data.augment import (
    AugmentConfig,
    Scene,
    augment,
    flip,
    jitter_colours,
    jitter_scale,
    mosaic,
    rescale,
    scene_boxes,
)
from glip.errors import ConfigError


@pytest.fixture
def scene(draw):
    """60 x 40 with a red box, pixels 10 … 29 by 5 … 14, and a blue one, 30 … 39 by 20 … 29."""
    return Scene(
        draw(60, 40, (10, 5, 29, 14, "red"), (30, 20, 39, 29, "blue")),
        np.array([[10, 5, 29, 14], [30, 20, 39, 29]], dtype=np.float32),
        np.array([1, 0]),
        known=frozenset({2}),
    )


def coloured(image, colour):
    """The box around the pixels of a colour, the last ones counted in."""
    pixels = np.asarray(image).astype(int)
    red, _, blue = np.moveaxis(pixels, -1, 0)
    ys, xs = np.nonzero((red - blue if colour == "red" else blue - red) > 127)
    return [xs.min(), ys.min(), xs.max(), ys.max()]


def test_boxes_of_a_file_count_their_last_pixel_in():
    boxes, kept = scene_boxes(
        np.array(
            [[10, 5, 30, 15], [-5, -5, 5, 5], [50, 30, 90, 90], [3, 3, 4, 9], [60, 40, 70, 50]],
            dtype=np.float64,
        ),
        (40, 60),
    )
    assert boxes[:3].tolist() == [[10, 5, 29, 14], [0, 0, 4, 4], [50, 30, 59, 39]]
    assert kept.tolist() == [True, True, True, False, False]


def test_flip_moves_boxes_with_pixels(scene):
    flipped = flip(scene)
    assert flipped.boxes.tolist() == [[30, 5, 49, 14], [20, 20, 29, 29]]
    assert coloured(flipped.image, "red") == flipped.boxes[0].tolist()
    assert coloured(flipped.image, "blue") == flipped.boxes[1].tolist()
    assert flipped.mirrored
    back = flip(flipped)
    assert back.boxes.tolist() == scene.boxes.tolist() and not back.mirrored


def captioned(scene, caption, *words):
    spans = tuple(((caption.index(w), caption.index(w) + len(w)),) for w in words)
    return Scene(scene.image, scene.boxes, scene.owners, caption=caption, phrases=spans)


def test_flip_exchanges_left_and_right_and_keeps_spans_on_their_words(scene):
    flipped = flip(
        captioned(scene, "the left box and the right box", "the left box", "the right box")
    )
    assert flipped.caption == "the right box and the left box"
    assert [flipped.caption[a:b] for ((a, b),) in flipped.phrases] == [
        "the right box",
        "the left box",
    ]


def test_caption_without_a_sure_mirror_is_not_flipped(scene):
    original = captioned(scene, "a box right next to another", "a box", "another")
    assert flip(original) is original


def test_rescale_is_that_of_prediction(scene):
    pixels = PixelConfig(short_side=80, long_side=200)
    small = rescale(scene, pixels)
    assert small.image.size == (120, 80)
    assert small.boxes.tolist() == [[20, 10, 58, 28], [60, 40, 78, 58]]


def test_short_side_is_one_of_those_asked_for(scene):
    config = AugmentConfig(short_sides=(32, 64), long_side=100)
    sizes = {augment(scene, config, PixelConfig(), Random(seed)).image.size for seed in range(30)}
    assert sizes == {(48, 32), (96, 64)}


@pytest.mark.parametrize(
    ("pixels", "short_sides"),
    [
        (PixelConfig(), {480, 560, 640, 720, 800}),  # official
        (PixelConfig(short_side=50, long_side=60), {30, 35, 40}),  # all but 40 by 60 are too long
    ],
)
def test_sizes_follow_the_model_by_default(scene, pixels, short_sides):
    config = AugmentConfig()
    found = {augment(scene, config, pixels, Random(seed)).image.height for seed in range(50)}
    assert found == short_sides


def test_flips_half_of_the_time(scene):
    config = AugmentConfig(short_sides=(40,))
    flips = sum(augment(scene, config, PixelConfig(), Random(s)).mirrored for s in range(400))
    assert 160 < flips < 240


@pytest.mark.parametrize("seed", range(20))
def test_large_scale_jitter_keeps_boxes_on_their_pixels(scene, seed):
    jittered = jitter_scale(scene, (1.0, 3.0), 120, Random(seed))
    assert max(jittered.image.size) <= 120
    assert len(jittered.boxes)
    for box, owner in zip(jittered.boxes, jittered.owners, strict=True):
        expected = coloured(jittered.image, "red" if owner else "blue")
        # Points scale: the far corner may lie a scaled pixel before the last coloured one.
        assert np.abs(box - expected).max() <= 6
    limit = (jittered.image.width - 1, jittered.image.height - 1)
    assert (jittered.boxes >= 0).all() and (jittered.boxes[:, 2:] <= limit).all()


def test_class_cut_away_is_neither_positive_nor_absent(scene):
    for seed in range(40):
        jittered = jitter_scale(scene, (3.0, 3.0), 60, Random(seed))
        assert jittered.known == {2}
        if set(jittered.owners.tolist()) != {0, 1}:
            return
    pytest.fail("no window cut a class away")


def test_window_without_boxes_is_not_used(draw):
    corner = Scene(
        draw(60, 40), np.array([[0, 0, 1, 1]], dtype=np.float32), np.array([0]), scores=np.ones(1)
    )
    for seed in range(30):
        assert len(jitter_scale(corner, (4.0, 4.0), 60, Random(seed)).boxes) == 1


def test_mosaic_puts_four_scenes_around_a_point(draw):
    def one(colour, owner):
        return Scene(
            draw(20, 10, (0, 0, 19, 9, colour)),
            np.array([[0, 0, 19, 9]], dtype=np.float32),
            np.array([owner]),
            known=frozenset({0, 1, 2, 3} - {owner}),
        )

    scenes = [one("red", 0), one("blue", 1), one("blue", 2), one("red", 3)]
    joined = mosaic(scenes, 100, Random(1))
    assert joined.image.size == (100, 100)
    assert joined.owners.tolist() == [0, 1, 2, 3]
    pixels = np.asarray(joined.image)
    for box, colour in zip(joined.boxes, ("red", "blue", "blue", "red"), strict=True):
        x1, y1, x2, y2 = box.round().astype(int)
        inside = Image.fromarray(pixels[y1 : y2 + 1, x1 : x2 + 1])
        wanted = {"red": (255, 0, 0), "blue": (0, 0, 255)}[colour]
        assert {inside.getpixel((x, y)) for x in (0, x2 - x1) for y in (0, y2 - y1)} == {wanted}
    # Upper left ends where lower right begins, at the point.
    assert joined.boxes[3, 0] - joined.boxes[0, 2] < 3
    assert joined.boxes[3, 1] - joined.boxes[0, 3] < 3


def test_mosaic_knows_only_what_all_four_know(draw):
    def one(owner, known):
        box = np.array([[0, 0, 9, 9]], dtype=np.float32)
        return Scene(draw(10, 10), box, np.array([owner]), known=frozenset(known))

    joined = mosaic([one(0, {1, 2}), one(0, {1, 2}), one(0, {1, 2}), one(1, {2})], 64, Random(0))
    # Class 0 may be, unlabelled, in the last scene, so its boxes go; 1 and 2 are known everywhere.
    assert joined.owners.tolist() == [1]
    assert joined.known == {2}


def test_mosaic_keeps_how_far_boxes_are_trusted(draw):
    def one(owner, score):
        box = np.array([[0, 0, 9, 9]], dtype=np.float32)
        scores = None if score is None else np.array([score], dtype=np.float32)
        known = frozenset({0, 1} - {owner})
        return Scene(draw(10, 10), box, np.array([owner]), known=known, scores=scores)

    joined = mosaic([one(0, 0.5), one(1, None), one(0, 0.25), one(1, 1.0)], 64, Random(0))
    assert joined.scores.tolist() == [0.5, 1, 0.25, 1]
    assert mosaic([one(0, None)] * 4, 64, Random(0)).scores is None


def test_mosaic_that_leaves_nothing_to_ask_for_is_not_made(draw):
    def empty(known):
        none = np.zeros((0, 4), dtype=np.float32)
        return Scene(draw(40, 40), none, np.zeros(0, dtype=np.int64), known=frozenset(known))

    config = AugmentConfig(short_sides=(64,), mosaic=1.0, mosaic_size=64)
    made = augment(empty({1, 2}), config, PixelConfig(), Random(0), lambda: empty({2, 3}))
    assert made.known == {2}
    left = augment(empty({1, 2}), config, PixelConfig(), Random(0), lambda: empty({3}))
    assert left.known == {1, 2}


def test_mosaic_happens_as_often_as_asked_and_not_with_captions(scene):
    config = AugmentConfig(short_sides=(64,), mosaic=0.5, mosaic_size=64)
    square = [
        augment(scene, config, PixelConfig(), Random(s), lambda: scene).image.size == (64, 64)
        for s in range(200)
    ]
    assert 70 < sum(square) < 130
    captions = captioned(scene, "red box", "red", "box")
    always = AugmentConfig(short_sides=(64,), mosaic=1.0, mosaic_size=64)
    changed = augment(captions, always, PixelConfig(), Random(0), lambda: captions)
    assert changed.image.size == (96, 64)


def test_colours_change_and_geometry_does_not(scene):
    config = AugmentConfig(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1)
    changed = jitter_colours(scene, config, Random(0))
    assert changed.image.tobytes() != scene.image.tobytes()
    assert changed.boxes is scene.boxes
    assert jitter_colours(scene, AugmentConfig(), Random(0)).image is scene.image


def test_same_seed_same_scene(scene):
    config = AugmentConfig(jitter=(0.1, 2.0), mosaic=0.5, hue=0.2, brightness=0.3)
    one, two = (augment(scene, config, PixelConfig(), Random(3), lambda: scene) for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.boxes.tolist() == two.boxes.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_sides": ()}, "short_sides"),
        ({"short_sides": (2000,), "long_side": 1333}, "long_side 1333"),
        ({"flip": 1.5}, r"flip must lie in \[0, 1\]"),
        ({"hue": 0.7}, "hue must lie"),
        ({"jitter": (2, 1)}, "jitter"),
        ({"mosaic_size": 3}, r"mosaic_size must lie in \[32, 16384\], got 3"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**options)
