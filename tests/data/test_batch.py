"""What the model is trained on."""

import functools

import pytest
import torch
from launches import FAKE, counted

from glip.config import PixelConfig
from glip.data import transforms
from glip.data.batch import Batch, Target, Targets
from glip.data.transforms import RawPixels
from glip.model.text_encoder import Tokens
from tests.uploads import Uploads

BOXES = torch.tensor([[0.0, 0, 9, 9], [1, 2, 3, 4]])


MAP = torch.tensor([[False, True, True, False], [False, False, False, True]])


def test_targets_of_pictures_with_fewer_boxes_are_filled_up():
    targets = [
        Target(BOXES, torch.tensor([1, 0]), torch.tensor([1.0, 0.5])),
        Target(BOXES[1:], torch.tensor([0])),
    ]
    mask = torch.tensor([[True] * 4 + [False], [True] * 3 + [False] * 2])
    padded = Targets.pad(targets, [MAP, MAP[:, :3]], mask)
    assert padded.boxes.equal(torch.stack([BOXES, torch.stack([BOXES[1], torch.zeros(4)])]))
    assert padded.words.int().tolist() == [
        [[0, 0, 0, 1, 0], [0, 1, 1, 0, 0]],
        [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]],
    ]
    assert padded.trust.tolist() == [[1, 0.5], [1, 1]]
    assert padded.judged.equal(mask)


def test_words_of_unsure_phrases_are_not_judged_but_those_of_sure_ones_are():
    nested = torch.stack([MAP[0], MAP[0] | MAP[1]])
    target = Target(BOXES[:1], torch.tensor([0]), unsure=torch.tensor([1]))
    padded = Targets.pad([target, target], [nested, MAP], torch.ones(1, 5, dtype=torch.bool))
    assert padded.judged.int().tolist() == [[1, 1, 1, 0, 1]] * 2


def test_pictures_without_boxes_make_targets():
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    padded = Targets.pad([nothing] * 2, [MAP] * 2, torch.ones(1, 4, dtype=torch.bool))
    assert [tuple(part.shape) for part in padded] == [(2, 1, 4), (2, 1, 4), (2, 1), (2, 4)]
    assert not padded.boxes.any() and not padded.words.any()


def test_targets_move_with_all_their_parts():
    target = Target(BOXES, torch.tensor([0, 1]))
    padded = Targets.pad([target], [MAP], torch.ones(1, 4, dtype=torch.bool))
    for moved, part in zip(padded.to("meta"), padded, strict=True):
        assert (moved.device.type, moved.dtype) == ("meta", part.dtype)


def test_nothing_is_a_target():
    assert len(Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))) == 0


@pytest.mark.parametrize(
    ("boxes", "phrases", "weights"),
    [
        (BOXES[:, :3], torch.tensor([0, 1]), None),
        (BOXES, torch.tensor([0]), None),
        (BOXES, torch.tensor([0, 1]), torch.ones(3)),
    ],
)
def test_parts_have_one_row_for_each_box(boxes, phrases, weights):
    with pytest.raises(AssertionError):
        Target(boxes, phrases, weights)


# ------------------------------------------------------------------------------------- to a GPU


def a_batch(count):
    tokens = Tokens.pad([(1, 2, 3, 4)] * count)
    pictures = [torch.zeros(3, 40, 50 + row, dtype=torch.uint8) for row in range(count)]
    target = Target(BOXES, torch.tensor([0, 1]))
    return Batch(
        RawPixels.of(pictures, PixelConfig()),
        tokens,
        Targets.pad([target] * count, [MAP] * count, tokens.mask),
        list(range(count)),
    )


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
def test_upload_waits_for_nothing_and_a_large_batch_takes_as_many_launches_as_a_small_one():
    try:
        with FAKE, Uploads() as uploads:
            a_batch(1).pixels.to("cuda")  # mean and deviation stay there
            uploads.found.clear()
            (_, small), (there, large) = (
                counted("upload", functools.partial(a_batch(count).to, "cuda")) for count in (2, 16)
            )
    finally:
        transforms._channels.cache_clear()  # of a GPU that is not there
    assert small.operators == large.operators
    assert not uploads.found
    assert there.pixels.device.type == there.targets.boxes.device.type == "cuda"
