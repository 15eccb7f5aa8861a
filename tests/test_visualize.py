"""Boxes and labels on pictures: their place, their colour, and what must not break them."""

import dataclasses
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glip import visualize
from glip.errors import ConfigError, ImageError
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.visualize import PALETTE, draw, phrase_colour

GREY = (128, 128, 128)


def detections(
    boxes: list[list[float]],
    names: list[str],
    *,
    size: tuple[int, int],
    ids: list[int] | None = None,
) -> Detections:
    """One detection per box, scores falling from 0.9, phrases in turn; size is (width, height)."""
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.1, count),
        phrase_ids=torch.tensor(
            ids or [row % len(names) for row in range(count)], dtype=torch.int64
        ),
        prompt=Prompt("thing", (((0, 5),),) * len(names), tuple(names)),
        image_hw=(size[1], size[0]),
    )


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def drawn_on(picture: Image.Image) -> np.ndarray:
    """(H, W) bool: is the pixel no longer grey?"""
    return (np.asarray(picture) != GREY).any(-1)


def test_a_box_is_an_outline_whose_edges_lie_inside_it() -> None:
    found = detections([[2, 3, 10, 9]], ["cat"], size=(20, 15))
    changed = drawn_on(draw(blank(20, 15), found, labels=False, line_width=2))
    expected = np.zeros((15, 20), bool)
    expected[3:9, 2:10] = True
    expected[5:7, 4:8] = False
    assert np.array_equal(changed, expected)


def test_the_picture_handed_in_stays_as_it_was() -> None:
    picture = blank(200, 100)
    draw(picture, detections([[10, 40, 90, 90]], ["cat"], size=(200, 100)))
    assert not drawn_on(picture).any()


def test_no_detections_draw_nothing() -> None:
    assert not drawn_on(draw(blank(50, 40), detections([], ["cat"], size=(50, 40)))).any()


def test_the_better_box_is_drawn_over_the_worse_one() -> None:
    found = detections([[0, 0, 9, 9], [0, 0, 9, 9]], ["cat", "dog"], size=(20, 20))
    for order in ([0, 1], [1, 0]):
        assert draw(blank(20, 20), found[order], labels=False).getpixel((0, 0)) == phrase_colour(0)


def test_the_colour_belongs_to_the_phrase() -> None:
    boxes = [[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]
    found = detections(boxes, ["cat", "dog"], size=(60, 20), ids=[1, 0, 1])
    picture = draw(blank(60, 20), found, labels=False)
    colours = [picture.getpixel((x, 0)) for x in (0, 20, 40)]
    assert colours == [phrase_colour(1), phrase_colour(0), phrase_colour(1)]


def test_the_first_hundred_colours_differ() -> None:
    colours = [phrase_colour(row) for row in range(100)]
    assert colours[: len(PALETTE)] == list(PALETTE)
    assert len(set(colours)) == 100
    for one, next_one in pairwise(colours):
        assert np.abs(np.subtract(one, next_one)).sum() > 100


@pytest.mark.parametrize("row", range(40))
def test_text_contrasts_with_its_label(row: int) -> None:
    def luminance(colour: tuple[int, int, int]) -> float:
        parts = np.array(colour) / 255
        return float(np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (
            0.2126, 0.7152, 0.0722
        ))  # fmt: skip

    colour = phrase_colour(row)
    dark, light = sorted([luminance(colour), luminance(visualize.text_colour(colour))])
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2, level AA


def test_a_label_stands_above_its_box_and_widens_with_the_score() -> None:
    found = detections([[50, 60, 150, 90]], ["cat"], size=(200, 100))
    plain = drawn_on(draw(blank(200, 100), found, labels=False))
    short = drawn_on(draw(blank(200, 100), found, scores=False)) & ~plain
    long = drawn_on(draw(blank(200, 100), found)) & ~plain
    for changed in (short, long):
        ys, xs = changed.nonzero()
        assert ys.max() == 59
        assert xs.min() == 50
    assert long.sum() > short.sum() > 0


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 300, 200],
        [0, 0, 5, 5],
        [295, 0, 300, 5],
        [295, 195, 300, 200],
        [0, 195, 5, 200],
        [299.6, 199.6, 300, 200],
    ],
)
def test_labels_stay_inside_the_picture(box: list[float]) -> None:
    label = visualize._place(visualize._pixels(box, 300, 200), 80, 20, (300, 200), [])
    assert label.right - label.left == 80
    assert label.bottom - label.top == 20
    assert 0 <= label.left <= label.right <= 300
    assert 0 <= label.top <= label.bottom <= 200


def test_labels_of_equal_boxes_do_not_cover_one_another() -> None:
    box, placed = visualize.Rectangle(100, 100, 300, 300), []
    for _ in range(8):
        placed.append(visualize._place(box, 90, 20, (400, 400), placed))
    assert all(visualize._overlap(a, b) == 0 for a, b in combinations(placed, 2))


def test_overlap_is_counted_in_pixels() -> None:
    a = visualize.Rectangle(0, 0, 10, 10)
    assert visualize._overlap(a, visualize.Rectangle(8, 7, 20, 20)) == 6
    assert visualize._overlap(a, visualize.Rectangle(10, 0, 20, 10)) == 0


def test_a_long_phrase_is_shortened_and_keeps_its_score() -> None:
    font = visualize._own_font(12)
    phrase = "a very long phrase " * 20
    text = visualize._shortened(phrase, " 0.87", font, 200)
    assert text.startswith("a very long")
    assert text.endswith("… 0.87")
    assert 180 < font.getlength(text) <= 200
    assert visualize._shortened("cat", " 0.87", font, 200) == "cat 0.87"
    assert visualize._shortened("cat", " 0.87", font, 10) == ""


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 400), (400, 8), (3000, 20)])
def test_pictures_of_any_shape_are_drawn_on(size: tuple[int, int]) -> None:
    width, height = size
    found = detections([[0, 0, width, height]], ["an ordinary phrase"], size=size)
    assert draw(blank(*size), found).getpixel((0, 0)) == phrase_colour(0)


@pytest.mark.parametrize(
    "box",
    [[5, 5, 5, 5], [9, 9, 5, 5], [-50, -50, -10, -10], [90, 90, 99, 99], [-1e9, -1e9, 1e9, 1e9]],
    ids=["empty", "reversed", "left of it", "right of it", "around it"],
)
def test_boxes_of_any_kind_are_drawn(box: list[float]) -> None:
    found = detections([box], ["cat"], size=(40, 30))
    assert drawn_on(draw(blank(40, 30), found, line_width=50, labels=False)).any()


@pytest.mark.parametrize(
    "name",
    [
        "Straße",
        "кошка",
        "猫",
        "قطة",
        "🐱 cat",
        "two\nlines\tand a tab",
        "nul\0",
        "half \ud83d",
        " ",
    ],
)
def test_phrases_in_any_script_are_written(name: str) -> None:
    found = detections([[10, 40, 90, 90]], ["x"], size=(200, 100))
    object.__setattr__(found.prompt, "names", (name,))  # past the prompt's own checks
    without = draw(blank(200, 100), found, labels=False)
    assert np.asarray(draw(blank(200, 100), found)).sum() != np.asarray(without).sum()


def test_letters_are_told_from_the_box_that_stands_for_unknown_ones() -> None:
    font = visualize._own_font(16)
    assert visualize._has_all(font, "a cat.")
    assert not visualize._has_all(font, "a 猫")


def test_sizes_follow_the_picture() -> None:
    widths = []
    for size in (100, 1000, 2000):
        found = detections([[0, 0, size, size]], ["cat"], size=(size, size))
        column = drawn_on(draw(blank(size, size), found, labels=False))[size // 2]
        widths.append(int(column[: size // 2].sum()))
    assert widths == [1, 4, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line_width": 0}, "line_width must be at least 1 pixel, got 0"),
        ({"font_size": -2}, "font_size must be at least 1 pixel, got -2"),
        ({"font": "no/such/font.ttf"}, "font no/such/font.ttf cannot be read"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        draw(blank(99, 99), detections([[0, 0, 9, 9]], ["cat"], size=(99, 99)), **options)
    assert message in str(caught.value)


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ttf").write_text("not a font")
    found = detections([[0, 0, 9, 9]], ["cat"], size=(99, 99))
    with pytest.raises(ConfigError, match=r"x\.ttf cannot be read"):
        draw(blank(99, 99), found, font=tmp_path / "x.ttf")


def test_a_picture_of_another_size_is_refused() -> None:
    found = detections([[0, 0, 9, 9]], ["cat"], size=(40, 30))
    with pytest.raises(ImageError, match="is 30x40 pixels, the detections are of one of 40x30"):
        draw(blank(30, 40), found)


def test_boxes_of_tracks_have_the_colours_of_their_tracks() -> None:
    found = detections([[2, 2, 10, 10], [20, 2, 28, 10]], ["cat"], size=(40, 20))
    tracked = dataclasses.replace(found, track_ids=np.array([3, 1], np.int64))
    plain, named = (draw(blank(40, 20), one, labels=False) for one in (found, tracked))
    assert plain.getpixel((2, 2)) == plain.getpixel((20, 2)) == phrase_colour(0)
    assert named.getpixel((2, 2)) == phrase_colour(2)
    assert named.getpixel((20, 2)) == phrase_colour(0)
