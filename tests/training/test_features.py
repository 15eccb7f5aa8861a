from dataclasses import replace

import pytest
import torch

from glip.data.augment import AugmentConfig
from glip.data.caption_packing import PackingConfig
from glip.data.formats.coco import read_detection
from glip.data.loader import TrainingSet, collate
from glip.data.mixture import MixtureSampler
from glip.data.pictures import PictureFolder
from glip.data.sampling import SamplingConfig
from glip.data.sources import DetectionSource
from glip.detector import load
from glip.errors import ConfigError
from glip.model.glip import Fused, Pyramid
from glip.model.text_encoder import Words
from glip.text.prompt import Prompt
from glip.training.features import (
    CachedBatches,
    CachedPyramids,
    FeatureCache,
    FromFeatures,
    check_cacheable,
    depth,
)
from glip.training.freezing import FreezeConfig, freeze
from glip.training.lora import LoraConfig, add_lora
from glip.training.losses import Criterion
from glip.training.words import as_table

pytestmark = pytest.mark.whole

ONE_SIZE = AugmentConfig(short_sides=(96,), long_side=160, flip=0.5)
ALL = SamplingConfig("all", shuffle=False)
NAMES = ["red square", "green square"]


def prepared(file, mode):
    """A detector with what a mode puts into its model, and the names that rest."""
    detector = load(file, device="cpu")
    if mode == "prompt":
        detector = detector.with_prompt(as_table(detector, Prompt.from_classes(NAMES)))
    if mode == "lora":
        add_lora(detector.model, LoraConfig(rank=2))
    return detector, freeze(detector.model, FreezeConfig(), mode)


def batches(folder, detector, resting, cache, steps=6, augment=ONE_SIZE):
    data = read_detection(folder / "train.json")
    source = DetectionSource(data, PictureFolder(folder), detector.tokenizer, ALL)
    dataset = TrainingSet([source], detector.tokenizer, detector.config.pixels, augment)
    sampler = MixtureSampler([len(source)], batch_size=1, steps=steps)
    return CachedBatches(
        dataset, sampler, detector.model, resting, cache, torch.device("cpu")
    ), dataset


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("full", ("pixels", False)),
        ("head", ("pyramid", True)),
        ("linear_probe", ("fused", True)),
        ("prompt", ("pyramid", False)),
        ("language", ("pyramid", False)),
        ("lora", ("pyramid", False)),
    ],
)
def test_depth_is_the_way_to_the_first_trained_parameter(calm_file, mode, expected):
    detector, resting = prepared(calm_file, mode)
    assert depth(detector.model, resting) == expected


def test_dropout_in_the_head_keeps_its_tower_out(tiny_file):
    detector, resting = prepared(tiny_file, "linear_probe")
    assert depth(detector.model, resting) == ("pyramid", True)


@pytest.mark.parametrize("mode", ["head", "linear_probe", "prompt", "language", "lora"])
def test_losses_and_gradients_are_those_of_pixels(calm_file, squares, mode):
    detector, resting = prepared(calm_file, mode)
    model = detector.model
    augment = replace(ONE_SIZE, flip=0.0)
    cached, dataset = batches(squares, detector, resting, FeatureCache(1), 1, augment)
    (draw,) = next(iter(MixtureSampler([len(dataset)], batch_size=1, steps=1)))
    gradients = []
    for batch in (next(iter(cached)), collate([dataset[draw]])):
        model.zero_grad()
        output = FromFeatures(model)(batch.pixels, batch.tokens)
        losses = Criterion()(output, batch.targets)
        sum(losses.values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_features_are_computed_once_for_each_picture_and_mirror_image(
    calm_file, squares, monkeypatch
):
    detector, resting = prepared(calm_file, "linear_probe")
    seen = []
    encode = detector.model.encode_image
    monkeypatch.setattr(
        detector.model, "encode_image", lambda pixels: seen.append(1) or encode(pixels)
    )
    cache = FeatureCache(1)
    cached, _ = batches(squares, detector, resting, cache, steps=60)
    kinds = {(type(batch.pixels), type(batch.tokens)) for batch in cached}
    assert kinds == {(Fused, Words)}
    assert len(seen) == len(cache) == 2 * 4  # four pictures with boxes


def test_what_does_not_fit_is_computed_each_time(calm_file, squares):
    detector, resting = prepared(calm_file, "prompt")
    cache = FeatureCache(0)
    cached, _ = batches(squares, detector, resting, cache)
    assert all(isinstance(batch.pixels, Pyramid) for batch in cached)
    assert (len(cache), cache.bytes) == (0, 0)


def test_resumed_batches_are_those_of_a_run_that_never_stopped(calm_file, squares):
    detector, resting = prepared(calm_file, "prompt")
    cached, dataset = batches(squares, detector, resting, FeatureCache(1), steps=8)
    whole = [batch.targets.boxes for batch in cached]
    sampler = MixtureSampler([len(dataset)], batch_size=1, steps=8, start=5)
    rest = CachedBatches(
        dataset, sampler, detector.model, resting, FeatureCache(1), torch.device("cpu")
    )
    for one, other in zip(whole[5:], rest, strict=True):
        assert torch.equal(one, other.targets.boxes)


@pytest.mark.parametrize(
    ("augment", "sampling", "message"),
    [
        (AugmentConfig(), ALL, "short_sides to a single size"),
        (replace(ONE_SIZE, jitter=(0.5, 2.0)), ALL, "jitter to null"),
        (replace(ONE_SIZE, mosaic=0.1), ALL, "mosaic to 0"),
        (replace(ONE_SIZE, hue=0.1), ALL, "hue to 0"),
        (ONE_SIZE, SamplingConfig(shuffle=False), "negatives to all"),
        (ONE_SIZE, SamplingConfig("all"), "shuffle to false"),
        (ONE_SIZE, replace(ALL, wordings={"a": ["b"]}), "wordings to none"),
        (ONE_SIZE, replace(ALL, partial_probability=0.3), "partial_probability to 0"),
    ],
)
def test_what_changes_each_time_cannot_be_kept(augment, sampling, message):
    with pytest.raises(ConfigError, match=message):
        check_cacheable(augment, [sampling])


def test_captions_that_are_packed_anew_each_time_cannot_be_kept():
    check_cacheable(ONE_SIZE, [], [PackingConfig()])
    with pytest.raises(ConfigError, match=r"packing\.captions to 0"):
        check_cacheable(ONE_SIZE, [], [PackingConfig(), PackingConfig(captions=20)])


def test_trained_backbone_leaves_nothing_to_keep(calm_file, squares):
    detector, resting = prepared(calm_file, "full")
    with pytest.raises(ConfigError, match=r"freeze them \(freeze.parts\)"):
        batches(squares, detector, resting, FeatureCache(1))


def test_pyramids_of_equal_pixels_are_remembered(tiny_detector):
    cache = FeatureCache(1)
    encode_image = CachedPyramids(tiny_detector.model, cache)
    pixels = torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        first, again, other = (encode_image(p) for p in (pixels, pixels.clone(), pixels + 1))
    assert first is again
    assert len(cache) == 2
    assert not torch.equal(first.levels[0], other.levels[0])
