"""Data sets as training draws from them."""

from random import Random

import numpy as np
import pytest

from glip.config import PixelConfig
from glip.data.augment import AugmentConfig
from glip.data.formats.coco import parse_detection, read_detection
from glip.data.loader import TrainingSet
from glip.data.mixture import Draw
from glip.data.pictures import PictureFolder
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource, repeat_factors
from glip.errors import DataError
from glip.text.tokenizer import Tokenizer

PIXELS = PixelConfig(short_side=32, long_side=64)


PLAIN = AugmentConfig(short_sides=(80,), long_side=200, flip=0)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.bert_uncased()


def test_pictures_without_boxes_are_drawn_only_on_request(coco, tokenizer):
    data, pictures = read_detection(coco), PictureFolder(coco.parent)
    assert len(DetectionSource(data, pictures, tokenizer, SamplingConfig())) == 2
    source = DetectionSource(data, pictures, tokenizer, SamplingConfig(), keep_empty=True)
    assert len(source) == 3
    sample = TrainingSet([source], tokenizer, PIXELS, PLAIN)[Draw(0, 2, 8)]
    assert sample.target.boxes.shape == (0, 4) and len(sample.token_map) >= 1


def test_crowds_and_empty_boxes_are_no_targets(coco, coco_content, tokenizer):
    coco_content["annotations"][0]["iscrowd"] = 1
    coco_content["annotations"][1]["bbox"] = [30, 20, 0, 10]
    data = parse_detection(coco_content, coco)
    source = DetectionSource(data, PictureFolder(coco.parent), tokenizer, SamplingConfig())
    assert len(source) == 1


def test_what_reads_as_a_class_that_may_be_there_is_no_negative(coco, coco_content, tokenizer):
    coco_content["annotations"][0]["iscrowd"] = 1  # nothing but a crowd of "red_box"
    coco_content["categories"] += [{"id": 10, "name": "Red box"}, {"id": 11, "name": "ring"}]
    data = parse_detection(coco_content, coco)
    sampling = SamplingConfig("all", wordings={"ring": ["disc"], "disc (round)": ["red box"]})
    source = DetectionSource(data, PictureFolder(coco.parent), tokenizer, sampling)
    _, scene = source.scene(0)
    names = [source.worded(scene, Random(seed)).prompt.names for seed in range(20)]
    assert {name for one in names for name in one} == {"blue box", "ring", "disc"}


def test_no_boxes_at_all_is_refused(coco, coco_content, tokenizer):
    coco_content["annotations"] = []
    data = parse_detection(coco_content, coco)
    with pytest.raises(DataError, match="has no picture with a box"):
        DetectionSource(data, PictureFolder(coco.parent), tokenizer, SamplingConfig())


def test_repeat_factors_by_hand():
    # Of four pictures, class 0 is in all, class 1 in one, and class 2 in none.
    classes = [np.array([0]), np.array([0, 1]), np.array([0]), np.array([0])]
    assert repeat_factors(classes, 3, 1.0).tolist() == [1, 2, 1, 1]  # sqrt(1 / 0.25)
    assert repeat_factors(classes, 3, 0.16).tolist() == [1, 1, 1, 1]
    empty = [np.array([], dtype=np.int64), np.array([1])]
    assert repeat_factors(empty, 2, 2.0).tolist() == [1, 2]


def test_pictures_of_rare_classes_are_repeated(coco, tokenizer):
    data, pictures = read_detection(coco), PictureFolder(coco.parent)

    def repeats(**options):
        return DetectionSource(data, pictures, tokenizer, SamplingConfig(), **options).repeats()

    assert repeats().tolist() == [1, 1]
    # "red box" is in the first of two pictures, "blue box" in both.
    assert repeats(repeat_threshold=0.72).tolist() == pytest.approx([1.2, 1])
    # A picture without boxes counts among all, and is not repeated itself.
    assert repeats(repeat_threshold=0.72, keep_empty=True).tolist() == pytest.approx(
        [2.16**0.5, 1.08**0.5, 1]
    )
