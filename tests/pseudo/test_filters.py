"""ALIGN's filters, by hand and against plain counting."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from glip.errors import ConfigError, StorageError
from glip.pseudo import filters as module
from glip.pseudo.captions import CaptionSet
from glip.pseudo.filters import (
    FILTERS,
    CaptionFilters,
    HashCounts,
    HashPairs,
    Survey,
    near_duplicates,
    perceptual_hash,
    refuse_picture,
    survey,
)


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes over the disk, in several pieces."""
    monkeypatch.setattr(module, "BUFFERED", 7)


def table(folder: Path, rows: list[tuple[str, str]]) -> CaptionSet:
    for name in {name for name, _ in rows}:
        if not (folder / name).exists():
            Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "x.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in rows))
    return CaptionSet(folder / "x.tsv")


def test_presets():
    web, curated = CaptionFilters.preset("web"), CaptionFilters.preset("curated")
    assert web == CaptionFilters()
    assert (web.max_pictures_per_text, web.min_words, web.max_words) == (10, 3, 20)
    assert (web.min_side, web.max_aspect, web.max_texts_per_picture) == (200, 3, 1000)
    assert web.vocabulary == 10**8 and web.needs_survey
    assert not curated.needs_survey
    assert refuse_picture(curated, (1, 100)) is None
    assert Survey(curated).refuse_caption("dog") is None
    assert Survey(curated).refuse_caption("...") == "blank"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("A Puppy, asleep.", "left_out"),
        ("two puppys and a cat", "left_out"),
        ("a bear of plush", None),
        ("the plush bears sit", "left_out"),
        ("a hush puppyish dog", None),
    ],
)
def test_words_that_are_kept_for_measuring(text, refused):
    filters = replace(CaptionFilters.preset("curated"), leave_out_words=("puppy", "plush bear"))
    assert not filters.needs_survey
    assert Survey(filters).refuse_caption(text) == refused


@pytest.mark.parametrize(
    ("text", "words"),
    [("a dog", 2), ("a - dog !", 2), ("well-known t-shirt, 5 €", 3), ("Ein Hörnchen", 2)],
)
def test_words_hold_a_letter_or_digit(text, words):
    filters = replace(CaptionFilters.preset("curated"), min_words=words)
    assert Survey(filters).refuse_caption(text) is None
    more = replace(filters, min_words=words + 1)
    assert Survey(more).refuse_caption(text) == "short"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("two dogs", "short"),
        ("two brown dogs", None),
        ("word " * 20, None),
        ("word " * 21, "long"),
        (" . ", "blank"),
    ],
)
def test_numbers_of_words(text, refused):
    assert Survey(CaptionFilters()).refuse_caption(text) == refused


@pytest.mark.parametrize(
    ("size", "refused"),
    [
        ((200, 500), "small"),
        ((201, 602), None),
        ((603, 201), "elongated"),
        ((640, 480), None),
    ],
)
def test_form_of_pictures(size, refused):
    assert refuse_picture(CaptionFilters(), size) == refused


def test_texts_of_many_pictures_and_pictures_of_many_texts(tmp_path):
    rows = [(f"{n}.png", "Click to  enlarge") for n in range(3)]
    rows += [("0.png", "click to enlarge")] * 5  # the same pair again
    rows += [(f"{n}.png", "a fine old boat") for n in range(2)]
    rows += [("7.png", f"one of {n} texts") for n in range(4)]
    options = CaptionFilters(max_pictures_per_text=2, max_texts_per_picture=3, vocabulary=None)
    captions = table(tmp_path, rows)
    seen = survey(captions, options, tmp_path / "survey")
    assert seen.refuse_caption("CLICK TO ENLARGE") == "shared"
    assert seen.refuse_caption("a fine old boat") is None
    refused = {entry.picture: seen.refuse_entry(entry) for entry in captions}
    assert refused == {"0.png": None, "1.png": None, "2.png": None, "7.png": "many_texts"}
    assert not list((tmp_path / "survey").glob("texts*"))


def test_rare_words_and_pairs(tmp_path):
    rows = [
        ("a.png", "a red car"),
        ("b.png", "a red bus"),
        ("a.png", "a red car."),
        ("b.png", "red a car"),
    ]
    # Words: a 4, red 4, car 3, bus 1. Pairs: "a red" 3, "red car" 2, the others 1.
    seen = survey(table(tmp_path, rows), CaptionFilters(vocabulary=5), tmp_path / "survey")
    assert seen.refuse_caption("a red car") is None
    assert seen.refuse_caption("a red bus") == "rare"
    assert seen.refuse_caption("red a car") == "rare"
    all_known = survey(table(tmp_path, rows), CaptionFilters(vocabulary=9), tmp_path / "other")
    assert all_known.refuse_caption("an unheard-of thing") is None  # nothing was rare: ALIGN's rule


def test_survey_is_made_once_and_whole(tmp_path, monkeypatch):
    captions = table(tmp_path, [("a.png", "a red car")] * 3)
    folder = tmp_path / "survey"

    def break_off(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HashPairs, "crowded", break_off)
        with pytest.raises(KeyboardInterrupt):
            survey(captions, CaptionFilters(), folder)
    assert not folder.exists()
    assert survey(captions, CaptionFilters(), folder).entries == 1
    monkeypatch.setattr(module, "_Surveyor", break_off)
    assert survey(captions, CaptionFilters(), folder).entries == 1
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(StorageError, match="cannot be written"):
        survey(captions, CaptionFilters(), tmp_path / "file" / "survey")


def test_counting_on_disk_equals_counting_in_memory(tmp_path):
    rng = random.Random(0)
    values = [rng.getrandbits(64) for _ in range(40)]
    drawn = [(rng.choice(values), rng.choice(values)) for _ in range(600)]
    pairs, counts = HashPairs(tmp_path / "pairs"), HashCounts(tmp_path / "counts")
    partners = defaultdict(set)
    for first, second in drawn:
        pairs.add(first, second)
        counts.add([first])
        partners[first].add(second)
    frequent = Counter(first for first, _ in drawn)
    expected = sorted(value for value, others in partners.items() if len(others) > 12)
    assert expected and pairs.crowded(12).tolist() == expected
    line = sorted(frequent.values(), reverse=True)[9]
    known = counts.most_frequent(10)
    assert known.tolist() == sorted(value for value, count in frequent.items() if count >= line)
    assert not any((tmp_path / name).exists() for name in ("pairs", "counts"))


def photo(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


def distance(left: Image.Image, right: Image.Image) -> int:
    return (perceptual_hash(left) ^ perceptual_hash(right)).bit_count()


def test_perceptual_hash_survives_what_copies_suffer(tmp_path):
    picture = photo(0)
    picture.save(tmp_path / "x.jpg", quality=30)
    copies = [
        Image.open(tmp_path / "x.jpg"),
        picture.resize((97, 71)),
        picture.convert("L"),
        picture.filter(ImageFilter.GaussianBlur(2)),
        picture.point(lambda value: value * 0.8 + 10),
    ]
    assert max(distance(picture, copy) for copy in copies) <= 4
    assert min(distance(picture, photo(seed)) for seed in range(1, 40)) > 15


@pytest.mark.parametrize("bits", [0, 1, 3, 7])
def test_near_duplicates_equal_a_comparison_of_all_with_all(bits):
    rng = random.Random(bits)
    prints = [rng.getrandbits(64) for _ in range(60)] + [0] * 3
    for _ in range(120):
        value = rng.choice(prints)
        for _ in range(rng.randrange(6)):
            value ^= 1 << rng.randrange(64)
        prints.append(value)
    expected = [
        any((value ^ earlier).bit_count() <= bits for earlier in prints[:row])
        for row, value in enumerate(prints)
    ]
    assert near_duplicates(np.array(prints, dtype=np.uint64), bits).tolist() == expected
    assert 0 < sum(expected) < len(prints)


def test_copies_and_test_pictures_go(tmp_path):
    for name, seed in (("a.png", 0), ("b.png", 1), ("c.png", 2)):
        photo(seed).save(tmp_path / name)
    photo(0).resize((160, 120)).save(tmp_path / "copy.png")
    rows = [("a.png", "x"), ("b.png", "x"), ("copy.png", "x"), ("c.png", "x"), ("a.png", "again")]
    options = CaptionFilters(vocabulary=None, near_duplicates=3)
    captions = table(tmp_path, rows)
    seen = survey(captions, options, tmp_path / "survey", leave_out=[photo(2)])
    refused = [seen.refuse_entry(entry) for entry in captions]
    assert refused == [None, None, "duplicate", "duplicate", None]
    others = survey(
        captions, options, tmp_path / "survey", leave_out=[photo(1)], left_out=["others"]
    )
    refused = [others.refuse_entry(entry) for entry in captions]
    assert refused == [None, "duplicate", "duplicate", None, None]


def test_every_filter_is_described():
    assert set(FILTERS) == {"blank", "short", "long", "left_out", "shared", "rare", "many_texts",
                            "small", "elongated", "duplicate"}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_pictures_per_text": 0}, "max_pictures_per_text must be at least 1, got 0"),
        ({"min_words": 5, "max_words": 4}, "no caption could pass"),
        ({"near_duplicates": 30}, r"lie in \[0, 15\], got 30; .* of 64 bits"),
        ({"max_aspect": 0.5}, "max_aspect must be at least 1"),
        ({"leave_out_words": ("a teddy bear",)}, "'a teddy bear' is not a word or two"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=message):
        CaptionFilters(**options)
