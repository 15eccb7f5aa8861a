"""The real data packs, for those who have them."""

import pytest

from glip.config import PixelConfig
from glip.data.augment import AugmentConfig
from glip.data.formats.recognise import read_annotated
from glip.data.loader import TrainingSet, training_loader
from glip.data.mixture import MixtureSampler
from glip.data.pictures import PictureTar
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource
from glip.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    ("name", "pictures", "boxes"),
    [
        ("general/train.json", 2391, 10951),
        ("general/val.json", 324, 1518),
        ("odinw/bccd/val.json", 72, 945),
        ("odinw/raccoon/train.json", 153, 166),
        ("odinw/playing_cards/val.json", 67, 143),
    ],
)
def test_detection_packs_are_read_straight_from_their_tar(shared_packs, name, pictures, boxes):
    annotated = read_annotated(shared_packs / name)
    assert isinstance(annotated.pictures, PictureTar)
    assert len(annotated.data) == pictures
    assert sum(len(record.boxes) for record in annotated.data.records) == boxes
    record = annotated.data.records[-1]
    assert annotated.pictures.size_hw(record.file_name) == record.image_hw


@pytest.mark.parametrize(
    ("name", "sentences"),
    [("captions/flickr8k_1000/captions_val.json", 500), ("general/captions_train.json", 1745)],
)
def test_caption_packs(shared_packs, name, sentences):
    annotated = read_annotated(shared_packs / name)
    assert len(annotated.data) == sentences
    assert annotated.data.records[0].file_name in annotated.pictures


def test_general_pack_is_federated(shared_packs):
    data = read_annotated(shared_packs / "general" / "train.json").data
    assert {name: len(rows) for name, rows in data.vocabularies.items()} == {
        "coco": 80,
        "fashion": 50,
        "tools": 31,
        "objects": 40,
    }
    for record in data.records:
        asked = set(data.vocabulary(record))
        assert set(record.labels.tolist()) <= asked
        assert set(data.absent(record)) <= asked


def test_training_batches_of_the_general_pack(shared_packs):
    annotated = read_annotated(shared_packs / "general" / "train.json")
    tokenizer = Tokenizer.bert_uncased()
    source = DetectionSource(annotated.data, annotated.pictures, tokenizer, SamplingConfig())
    dataset = TrainingSet(
        [source], tokenizer, PixelConfig(), AugmentConfig(short_sides=(160,), long_side=320)
    )
    sampler = MixtureSampler([len(source)], batch_size=4, steps=3, is_tall=[source.is_tall()])
    for batch in training_loader(dataset, sampler, workers=2):
        assert len(batch) == 4
        assert batch.tokens.ids.shape[1] <= 256
        assert batch.targets.words.any(2).any(1).all()
