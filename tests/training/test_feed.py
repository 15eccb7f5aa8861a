"""Batches go on as long as nearly all pictures can be read."""

import logging
from dataclasses import replace

import pytest
import torch

from glip.data.augment import AugmentConfig
from glip.data.transforms import RawPixels
from glip.detector import Detector
from glip.engine import Engine
from glip.errors import DataError
from glip.samples import copy_samples
from glip.text.tokenizer import Tokenizer
from glip.training.build import training_source
from glip.training.feed import Feed, readable
from glip.training.run_config import DataConfig, RunConfig, SourceConfig
from tests.toy import CONFIG, toy_batch, toy_model


def batches(*reasons):
    for unreadable in reasons:
        yield replace(toy_batch([0, 1]), unreadable=unreadable)


def test_each_unreadable_picture_is_named_once(caplog):
    caplog.set_level(logging.WARNING)
    reasons = (("a.png cannot be decoded",), (), ("a.png cannot be decoded", "b.png is gone"))
    assert len(list(readable(batches(*reasons), 1000, 0.05))) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "skipped: a.png cannot be decoded",
        "skipped: b.png is gone",
        "2 pictures could not be read",
    ]


@pytest.mark.parametrize(
    ("pictures", "most", "bad", "fault"),
    [
        (1000, 0.05, 5, None),
        (1000, 0.05, 6, "6 of 100 pictures cannot be read, more than 5%: 5.png; `glip doctor`"),
        (10, 0.1, 1, None),
        (10, 0.1, 2, "2 of 10 pictures cannot be read, more than 10%"),
        (10, 0.0, 1, "1 of 10 pictures"),
        (10, 1.0, 10, None),
    ],
)
def test_more_than_a_share_ends_the_run(pictures, most, bad, fault):
    unreadable = tuple(f"{number}.png" for number in range(bad))
    stream = readable(batches((), unreadable), pictures, most)
    next(stream)
    if fault is None:
        next(stream)
        return
    with pytest.raises(DataError) as caught:
        next(stream)
    assert str(caught.value).startswith(fault)


@pytest.fixture
def feed_of(tmp_path):
    """Makes a feed of sample pictures for a device."""

    def make(device: str) -> Feed:
        folder = copy_samples(tmp_path / "samples")
        augmentation = AugmentConfig(short_sides=(64,), long_side=96)
        data = DataConfig((SourceConfig(str(folder / "train.json")),), augmentation, workers=0)
        detector = Detector(Engine(toy_model(), CONFIG, Tokenizer.bert_uncased()))
        config = RunConfig(data=data, batch_size=2)
        sources = [training_source(data.sources[0], detector)]
        return Feed(config, sources, detector, torch.device(device))

    return make


def test_batches_draw_nothing_once_a_resumed_run_has_set_the_generators(feed_of):
    batches = iter(feed_of("cpu").batches(4, 2, ()))
    before = torch.get_rng_state()
    assert len(list(batches)) == 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("device", "kind"), [("cpu", torch.Tensor), ("cuda", RawPixels)])
def test_pictures_go_to_a_gpu_in_eight_bits(device, kind, feed_of):
    batch = next(iter(feed_of(device).batches(1, 0, ())))
    assert isinstance(batch.pixels, kind)
    assert batch.to("cpu").pixels.shape[:2] == (2, 3)


def test_error_of_a_worker_is_one_line():
    def worker():
        yield from batches(())
        raise DataError(
            "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent "
            "call last):\n  File x\nglip.errors.DataError: 20 pictures: the last one: a.png\n"
        )

    with pytest.raises(DataError) as caught:
        list(readable(worker(), 10, 0.5))
    assert str(caught.value) == "20 pictures: the last one: a.png"
