"""Samples, batches and their order."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from glip.config import PixelConfig
from glip.data.augment import AugmentConfig
from glip.data.caption_packing import CaptionPacker, PackingConfig
from glip.data.formats.coco import read_detection
from glip.data.formats.mdetr import parse_grounding
from glip.data.loader import TrainingSet, collate, training_loader
from glip.data.mixture import Draw, MixtureSampler
from glip.data.packed import Packed
from glip.data.pictures import PictureFolder
from glip.data.records import DetectionData, DetectionRecord, GroundingData, GroundingRecord
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource, GroundingSource
from glip.data.transforms import RawPixels
from glip.errors import DataError
from glip.text.prompt import reads_as
from glip.text.tokenizer import Tokenizer

PIXELS = PixelConfig(short_side=32, long_side=64)
PLAIN = AugmentConfig(short_sides=(80,), long_side=200, flip=0)
BUSY = AugmentConfig(
    short_sides=(32, 48), long_side=96, mosaic=0.3, mosaic_size=64, brightness=0.2, hue=0.1
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.bert_uncased()


@pytest.fixture
def detection(coco, tokenizer):
    return DetectionSource(
        read_detection(coco), PictureFolder(coco.parent), tokenizer, SamplingConfig()
    )


@pytest.fixture
def mdetr():
    return {
        "images": [
            {
                "id": 1,
                "file_name": "a.png",
                "width": 60,
                "height": 40,
                "caption": "the left red box and the right blue box",
            }
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [10, 5, 20, 10], "tokens_positive": [[0, 16]]},
            {"id": 2, "image_id": 1, "bbox": [30, 20, 10, 10], "tokens_positive": [[21, 39]]},
        ],
    }


def phrase_of(sample, tokenizer, row):
    """The words that a box is to be found by."""
    ids = [sample.token_ids[t] for t in sample.token_map[row].nonzero()[:, 0].tolist()]
    return tokenizer._tokenizer.decode(ids)


def test_detection_sample_points_boxes_at_their_names(detection, tokenizer):
    dataset = TrainingSet([detection], tokenizer, PIXELS, PLAIN)
    sample = dataset[Draw(0, 0, 5)]
    assert sample.image_id == 10
    assert sample.pixels.shape == (3, 80, 120)
    assert sample.target.boxes.tolist() == [[20, 10, 58, 28], [60, 40, 78, 58]]
    words = [phrase_of(sample, tokenizer, row) for row in sample.target.phrases.tolist()]
    assert words == ["red box", "blue box"]
    assert sample.target.weights is None


def test_scores_of_classes_weigh_boxes_on_request(coco, tokenizer):
    data = read_detection(coco)
    scored = [
        replace(r, scores=np.linspace(0.5, 0.75, len(r.labels), dtype=np.float32))
        for r in data.records
    ]
    data = replace(data, records=Packed(scored))
    for trusted, weights in ((True, [0.5, 0.75]), (False, None)):
        source = DetectionSource(
            data,
            PictureFolder(coco.parent),
            tokenizer,
            SamplingConfig(),
            trust_scores=trusted,
        )
        target = TrainingSet([source], tokenizer, PIXELS, PLAIN)[Draw(0, 0, 5)].target
        assert (None if target.weights is None else target.weights.tolist()) == weights


@pytest.mark.parametrize("workers", [0, 2])
def test_raw_batches_become_those_of_normalised_samples(detection, tokenizer, workers):
    def batches(raw):
        dataset = TrainingSet([detection], tokenizer, PIXELS, BUSY, raw=raw)
        sampler = MixtureSampler([2], batch_size=2, steps=3, seed=5)
        return training_loader(dataset.augmented(BUSY), sampler, workers=workers)

    for plain, raw in zip(batches(False), batches(True), strict=True):
        assert isinstance(raw.pixels, RawPixels) and raw.pixels.cells.dtype == torch.uint8
        moved = raw.to("cpu")
        assert moved.pixels.equal(plain.pixels)
        for one, other in zip(moved.targets, plain.targets, strict=True):
            assert one.equal(other)


def test_no_more_readers_than_processors(detection, tokenizer, monkeypatch):
    monkeypatch.setattr("glip.data.loader.usable", lambda: 2)
    dataset = TrainingSet([detection], tokenizer, PIXELS, PLAIN)
    sampler = MixtureSampler([2], batch_size=2, steps=1, seed=5)
    readers = [training_loader(dataset, sampler, workers=n).num_workers for n in (0, 1, 99)]
    assert readers == [0, 1, 2]


def test_flipped_grounding_sample_keeps_boxes_on_their_words(coco, mdetr, tokenizer):
    source = GroundingSource(parse_grounding(mdetr, coco), PictureFolder(coco.parent))
    always = AugmentConfig(short_sides=(40,), flip=1)
    sample = TrainingSet([source], tokenizer, PIXELS, always)[Draw(0, 0, 1)]
    assert sample.target.boxes.tolist() == [[30, 5, 49, 14], [20, 20, 29, 29]]
    words = [phrase_of(sample, tokenizer, row) for row in sample.target.phrases.tolist()]
    assert words == ["the right red box", "the left blue box"]


def test_teacher_scores_filter_and_weigh(coco, mdetr, tokenizer, tmp_path):
    [record] = parse_grounding(mdetr, coco).records
    scored = replace(record, scores=np.array([0.4, 0.75], dtype=np.float32))
    data = GroundingData(coco, Packed([scored]))
    source = GroundingSource(data, PictureFolder(coco.parent), trust_scores=True)
    sample = TrainingSet([source], tokenizer, PIXELS, PLAIN)[Draw(0, 0, 1)]
    assert sample.target.weights.tolist() == [0.75]
    assert phrase_of(sample, tokenizer, int(sample.target.phrases[0])) == "the right blue box"
    with pytest.raises(DataError, match="has no caption with a box"):
        GroundingSource(data, PictureFolder(coco.parent), min_score=0.9)


def test_phrases_that_a_teacher_only_guesses_at_are_unsure_on_request(coco, mdetr, tokenizer):
    [record] = parse_grounding(mdetr, coco).records

    def unsure(owners=(0, 1), **options):
        scores = np.array([0.4, 0.75], dtype=np.float32)
        scored = replace(record, scores=scores, owners=np.array(owners, dtype=np.int64))
        data = GroundingData(coco, Packed([scored]))
        source = GroundingSource(data, PictureFolder(coco.parent), **options)
        return TrainingSet([source], tokenizer, PIXELS, PLAIN)[Draw(0, 0, 1)].target.unsure

    assert unsure() is None
    assert unsure(ignore_unsure=True).tolist() == [0]
    assert unsure(ignore_unsure=True, min_score=0.3) is None
    assert unsure(owners=(1, 1), ignore_unsure=True) is None  # another box of the phrase is sure


def test_long_caption_is_trained_in_passes_that_fit(coco, mdetr, tokenizer):
    source = GroundingSource(parse_grounding(mdetr, coco), PictureFolder(coco.parent))
    dataset = TrainingSet([source], tokenizer, PIXELS, PLAIN, max_tokens=8)
    seen = set()
    for seed in range(20):
        sample = dataset[Draw(0, 0, seed)]
        assert len(sample.token_ids) <= 8
        assert len(sample.target) == 1
        seen.add(phrase_of(sample, tokenizer, int(sample.target.phrases[0])))
    assert seen == {"the left red box", "the right blue box"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "b.png does not exist"),
        (lambda path: path.write_bytes(b"no picture"), "b.png"),
        (lambda path: path.write_bytes(b""), "b.png"),
        (lambda path: Image.new("RGB", (9, 5)).save(path), "b.png is 9 x 5"),
    ],
)
def test_another_picture_stands_in_for_one_that_cannot_be_used(
    coco, detection, tokenizer, spoil, reason
):
    dataset = TrainingSet([detection], tokenizer, PIXELS, PLAIN)
    assert dataset[Draw(0, 1, 0)].unreadable == ()
    spoil(coco.parent / "b.png")
    sample = dataset[Draw(0, 1, 0)]
    assert sample.image_id == 10  # the other one
    assert all(reason in why for why in sample.unreadable) and sample.unreadable
    again = dataset[Draw(0, 1, 0)]
    assert torch.equal(again.pixels, sample.pixels)
    batch = collate([dataset[Draw(0, 0, 0)], sample])
    assert batch.unreadable == sample.unreadable == batch.to("cpu").unreadable


def test_no_picture_to_stand_in_is_an_error(coco, detection, tokenizer):
    for name in ("a.png", "b.png"):
        (coco.parent / name).unlink()
    with pytest.raises(DataError, match=r"20 pictures in a row cannot be used.*does not exist"):
        TrainingSet([detection], tokenizer, PIXELS, PLAIN)[Draw(0, 1, 0)]


def test_batch_pads_pictures_and_prompts(detection, tokenizer):
    dataset = TrainingSet([detection], tokenizer, PIXELS, PLAIN)
    batch = collate([dataset[Draw(0, 0, 1)], dataset[Draw(0, 1, 2)]], tokenizer.pad_id)
    assert batch.pixels.shape == (2, 3, 128, 128)
    assert batch.tokens.ids.shape[0] == 2
    assert batch.targets.judged.equal(batch.tokens.mask)
    assert not (batch.targets.words & ~batch.tokens.mask[:, None]).any()
    assert batch.image_ids == [10, 11]


def flat(batch):
    return [batch.pixels, *batch.tokens, *batch.targets]


def test_batches_are_the_same_with_any_number_of_workers(detection, coco, mdetr, tokenizer):
    grounding = GroundingSource(parse_grounding(mdetr, coco), PictureFolder(coco.parent))
    dataset = TrainingSet([detection, grounding], tokenizer, PIXELS, BUSY)

    def batches(workers, start=0):
        sampler = MixtureSampler([2, 1], batch_size=2, steps=6, seed=3, start=start)
        return list(training_loader(dataset, sampler, workers=workers))

    alone, shared, resumed = batches(0), batches(2), batches(2, start=4)
    assert len(alone) == len(shared) == 6 and len(resumed) == 2
    for one, two in zip(alone + alone[4:], shared + resumed, strict=True):
        assert one.image_ids == two.image_ids
        for a, b in zip(flat(one), flat(two), strict=True):
            assert torch.equal(a, b)


def test_packed_caption_keeps_its_boxes_on_their_words(coco, mdetr, tokenizer):
    entry = {"id": 2, "file_name": "b.png", "width": 40, "height": 60}
    mdetr["images"].append({**entry, "caption": "a disc under a tree"})
    mdetr["annotations"].append(
        {"id": 3, "image_id": 2, "bbox": [1, 1, 9, 9], "tokens_positive": [[0, 6]]}
    )
    config = PackingConfig(captions=5, none_probability=0)
    source = GroundingSource(
        parse_grounding(mdetr, coco),
        PictureFolder(coco.parent),
        packer=CaptionPacker(tokenizer, config),
    )
    dataset = TrainingSet([source], tokenizer, PIXELS, PLAIN)
    texts = set()
    for seed in range(20):
        sample = dataset[Draw(0, 0, seed)]
        words = [phrase_of(sample, tokenizer, row) for row in sample.target.phrases.tolist()]
        assert words == ["the left red box", "the right blue box"]
        texts.add(sample.token_ids)
    own, other = mdetr["images"][0]["caption"] + ".", "a disc under a tree."
    both = {tuple(tokenizer.encode(text).ids) for text in (f"{own} {other}", f"{other} {own}")}
    assert both < texts


def test_other_captions_of_a_picture_are_no_negatives(coco, mdetr, tokenizer):
    mdetr["images"].append({**mdetr["images"][0], "id": 2, "caption": "a blue box on the right"})
    mdetr["annotations"].append(
        {"id": 3, "image_id": 2, "bbox": [30, 20, 10, 10], "tokens_positive": [[0, 10]]}
    )
    packer = CaptionPacker(tokenizer, PackingConfig(captions=5, none_probability=0))
    source = GroundingSource(
        parse_grounding(mdetr, coco), PictureFolder(coco.parent), packer=packer
    )
    dataset = TrainingSet([source], tokenizer, PIXELS, replace(PLAIN, flip=0.5))
    assert all(len(dataset[Draw(0, 0, seed)].token_ids) < 12 for seed in range(20))


def test_caption_that_cannot_be_read_is_left_out_and_named(coco, mdetr, tokenizer):
    words = "a " + "very " * 60 + "long box"
    mdetr["images"].append(
        {"id": 2, "file_name": "b.png", "width": 40, "height": 60, "caption": words}
    )
    mdetr["annotations"].append(
        {"id": 3, "image_id": 2, "bbox": [0, 0, 40, 60], "tokens_positive": [[0, len(words)]]}
    )
    source = GroundingSource(parse_grounding(mdetr, coco), PictureFolder(coco.parent))
    dataset = TrainingSet([source], tokenizer, PIXELS, PLAIN, max_tokens=40)
    sample = dataset[Draw(0, 1, 3)]
    assert sample.image_id == 1
    assert all("image 2: phrase 0" in reason for reason in sample.unreadable) and sample.unreadable


NAMES = (
    "cat",
    "Cat",
    "left hand",
    "right hand",
    "bow_(ribbon)",
    "(x)",
    "\u732b",
    "!! cup",
    "myleft",
)
SIZES_HW = [(1, 500), (500, 1), (40, 60), (120, 30), (3, 7), (64, 64)]


def odd_pictures(folder, rng):
    """One to four pictures, all but the first of odd sizes, with boxes inside, across and outside
    their borders.
    """
    for number in range(rng.randint(1, 4)):
        height, width = rng.choice(SIZES_HW) if number else (64, 64)
        Image.new("RGB", (width, height), rng.choice(["red", "grey"])).save(
            folder / f"{number}.png"
        )
        corners = [
            (rng.uniform(-5, width), rng.uniform(-5, height)) for _ in range(rng.choice([1, 2, 6]))
        ]
        boxes = [
            (x, y, x + rng.uniform(0, width), y + rng.choice([0.5, height])) for x, y in corners
        ]
        yield number, f"{number}.png", (height, width), np.array([(0, 0, width, height), *boxes])


def odd_classes(folder, rng, tokenizer, max_tokens):
    """A source of pictures with crowds, classes of which not all is known, and names that agree."""
    names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
    records = []
    for image_id, file_name, image_hw, boxes in odd_pictures(folder, rng):
        labels = np.array([rng.randrange(len(names)) for _ in boxes])
        crowd = np.array([False, *(rng.random() < 0.2 for _ in boxes[1:])])
        rest = set(range(len(names))) - set(labels.tolist())
        absent = rng.choice([None, tuple(row for row in rest if rng.random() < 0.5)])
        records.append(DetectionRecord(image_id, file_name, image_hw, boxes, labels, crowd, absent))
    data = DetectionData(folder, tuple(names), tuple(range(len(names))), Packed(records))
    sampling = SamplingConfig(
        rng.choice(["sampled", "all"]),
        max_negatives=rng.choice([1, 85]),
        partial_probability=rng.choice([0.0, 0.5, 1.0]),
        shuffle=rng.random() < 0.5,
        wordings={name: [rng.choice(NAMES)] for name in names if rng.random() < 0.3},
    )
    return DetectionSource(
        data, PictureFolder(folder), tokenizer, sampling, max_tokens=max_tokens, keep_empty=True
    )


def odd_captions(folder, rng, tokenizer, max_tokens):
    """A source of captions, some longer than the encoder takes, with spans twice and in pieces."""
    records = []
    for image_id, file_name, image_hw, boxes in odd_pictures(folder, rng):
        words = [rng.choice(NAMES) for _ in range(rng.choice([1, 4, 30]))]
        starts = [sum(len(word) + 1 for word in words[:place]) for place in range(len(words))]
        spans = [(start, start + len(w)) for start, w in zip(starts, words, strict=True)]
        phrases = [*((span,) for span in spans), (spans[0],), tuple(spans[:3])]
        owners = np.array([rng.randrange(len(phrases)) for _ in boxes])
        scores = np.array([1.0, *(rng.random() for _ in boxes[1:])], dtype=np.float32)
        records.append(
            GroundingRecord(
                image_id,
                file_name,
                image_hw,
                " ".join(words),
                tuple(phrases),
                boxes,
                owners,
                scores,
            )
        )
    packer = CaptionPacker(tokenizer, PackingConfig(rng.choice([0, 5])), max_tokens=max_tokens)
    return GroundingSource(
        GroundingData(folder, Packed(records)),
        PictureFolder(folder),
        min_score=0.1,
        trust_scores=True,
        ignore_unsure=True,
        packer=packer,
    )


@pytest.mark.parametrize("make", [odd_classes, odd_captions])
@pytest.mark.parametrize("seed", range(4))
def test_any_draw_of_any_data_makes_a_sound_sample(make, seed, tmp_path, tokenizer):
    rng = Random(seed)
    source = make(tmp_path, rng, tokenizer, max_tokens=40)
    augmentation = replace(BUSY, jitter=rng.choice([None, (0.3, 2.0)]), jitter_size=64)
    dataset = TrainingSet([source], tokenizer, PIXELS, augmentation, max_tokens=40)
    for _ in range(4):
        draw = Draw(0, rng.randrange(len(source)), rng.getrandbits(63))
        sample, again = dataset[draw], dataset[draw]
        assert not sample.unreadable and len(sample.token_ids) <= 40
        assert sample.token_map.any(1).all()
        assert sample.pixels.isfinite().all() and torch.equal(sample.pixels, again.pixels)
        assert sample.token_ids == again.token_ids
        boxes, phrases = sample.target.boxes, sample.target.phrases
        assert torch.equal(boxes, again.target.boxes)
        assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.isfinite().all()
        assert ((phrases >= 0) & (phrases < len(sample.token_map))).all()


@pytest.mark.parametrize("seed", range(8))
def test_no_prompt_asks_for_what_may_be_there_as_absent(seed, tmp_path, tokenizer):
    rng = Random(seed)
    source = odd_classes(tmp_path, rng, tokenizer, 256)
    wordings = source.sampling.wordings

    def words(row):
        name = source.data.names[row]
        return {reads_as(word) for word in (name, *wordings.get(name, ()))}

    for index in range(len(source)):
        _, scene = source.scene(index)
        for _ in range(8):
            worded = source.worded(scene, rng)
            assert worded is not None
            pairs = zip(scene.owners.tolist(), worded.phrases.tolist(), strict=True)
            asked = {phrase: owner for owner, phrase in pairs if phrase >= 0}
            there = {word for row in scene.doubtful for word in words(row)}
            for phrase, name in enumerate(worded.prompt.names):
                if phrase in asked:
                    assert reads_as(name) in words(asked[phrase])
                else:
                    assert reads_as(name) not in there
