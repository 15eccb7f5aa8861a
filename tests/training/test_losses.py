"""Each loss alone, their normalisers, and the sums that the released code recorded."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import recipe
from torch.nn import functional as F

from glip.boxes import encode_boxes
from glip.data.batch import Target
from glip.model.head import HeadOutput
from glip.training.assigner import Assignment
from glip.training.losses import (
    Criterion,
    alignment_loss,
    box_loss,
    centerness_targets,
    token_targets,
)

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {key: torch.tensor(value) for key, value in np.load(FOLDER / "losses.npz").items()}


def close(value, expected, tolerance=1e-5):
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def an_output(anchors, tokens=4, seed=0):
    """A single level of random predictions."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, requires_grad=True)

    count = len(anchors)
    return HeadOutput(
        random(1, count, tokens), random(1, count, 4), random(1, count), anchors, (count,)
    )


ANCHORS = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9], [10, 0, 19, 9], [40, 0, 49, 9]])
MASK = torch.ones(1, 4, dtype=torch.bool)
MAP = torch.tensor([[False, True, True, False], [False, False, False, True]])


def test_box_loss_equals_the_recorded_sums():
    deltas, anchors, boxes = GOLDEN["loss.pred"], GOLDEN["boxes.anchor"], GOLDEN["boxes.gt"]
    close(box_loss(deltas, anchors, boxes, torch.ones(40)), GOLDEN["loss.giou_sum"])
    weighted = box_loss(deltas, anchors, boxes, GOLDEN["loss.weight"])
    close(weighted, GOLDEN["loss.giou_weighted"])


def test_perfect_boxes_cost_nothing():
    anchors, boxes = GOLDEN["boxes.anchor"], GOLDEN["boxes.gt"]
    exact = encode_boxes(boxes, anchors)
    assert box_loss(exact, anchors, boxes, torch.ones(40)) == pytest.approx(0, abs=1e-3)


def test_centerness_targets_equal_the_recorded_ones():
    anchors = GOLDEN["boxes.anchor"]
    boxes = anchors + torch.tensor([-7.3, -3.1, 2.2, 9.9])
    close(centerness_targets(boxes, anchors), GOLDEN["loss.centerness_target"])


def test_centerness_is_one_in_the_middle_and_falls_towards_the_border():
    anchors = torch.tensor([[4.0, 4, 6, 6], [1, 4, 3, 6]])  # centres (5, 5) and (2, 5)
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 2)
    close(centerness_targets(boxes, anchors), torch.tensor([1.0, math.sqrt(2 / 8)]))


def test_alignment_loss_equals_the_recorded_sum():
    logits = torch.from_numpy(recipe.tensor("unit.loss.logits", (2, 30, 16), -1, 2))
    targets = torch.from_numpy(recipe.tensor("unit.loss.targets", (2, 30, 16)) > 1).float()
    total = sum(
        alignment_loss(logits[row, :, :tokens], targets[row, :, :tokens])
        for row, tokens in enumerate((9, 13))
    )
    close(total, GOLDEN["loss.token_focal"])


def test_alignment_loss_by_hand():
    # p = 1/2 everywhere: a hit costs 0.25 · 0.5² · log 2, a miss 0.75 · 0.5² · log 2.
    loss = alignment_loss(torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]]))
    assert loss.item() == pytest.approx((0.25 + 2 * 0.75) * 0.25 * math.log(2), rel=1e-6)


def test_token_targets_are_ones_at_the_tokens_of_the_phrase():
    target = Target(torch.zeros(2, 4), torch.tensor([1, 0]))
    assignment = Assignment(torch.tensor([0, 2]), torch.tensor([1, 0]))
    found = token_targets(assignment, target, MAP, anchors=3, tokens=5)
    assert found.tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]


def test_losses_of_one_positive_by_hand():
    output = an_output(ANCHORS)
    box = torch.tensor([[5.0, 0, 14, 9]])  # equal to the second anchor, the only positive
    losses = Criterion()(output, [Target(box, torch.tensor([0]))], [MAP], MASK)
    wanted = torch.zeros(4, 4)
    wanted[1, 1:3] = 1
    close(losses["alignment"], alignment_loss(output.logits[0], wanted))
    assert centerness_targets(box, ANCHORS[1:2]).item() == 1  # so the normaliser is 1
    positive = output.deltas[0, 1:2]
    close(losses["box"], 2 * box_loss(positive, ANCHORS[1:2], box, torch.ones(1)))
    logit = output.centerness[0, 1]
    close(losses["centerness"], F.binary_cross_entropy_with_logits(logit, torch.tensor(1.0)))


def test_picture_without_boxes_trains_only_the_alignment():
    output = an_output(ANCHORS)
    nothing = Target(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    losses = Criterion()(output, [nothing], [MAP], MASK)
    assert losses["box"] == losses["centerness"] == 0
    close(losses["alignment"], alignment_loss(output.logits[0], torch.zeros(4, 4)))
    sum(losses.values()).backward()
    assert output.logits.grad.abs().sum() > 0
    assert output.deltas.grad.abs().sum() == output.centerness.grad.abs().sum() == 0


def test_padding_tokens_cost_nothing():
    output = an_output(ANCHORS, tokens=6)
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    mask = torch.tensor([[True] * 4 + [False] * 2])
    padded = Criterion()(output, [target], [MAP], mask)
    cut = Criterion()(output._replace(logits=output.logits[..., :4]), [target], [MAP], MASK)
    assert padded == cut


def test_normalisers_are_those_of_the_whole_batch():
    one, two = an_output(ANCHORS, seed=1), an_output(ANCHORS, seed=2)
    both = HeadOutput(
        *(torch.cat(pair) for pair in zip(one[:3], two[:3], strict=True)), ANCHORS, (4,)
    )
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    apart = [Criterion()(output, [target], [MAP], MASK) for output in (one, two)]
    together = Criterion()(both, [target, target], [MAP, MAP], MASK)
    for name, value in together.items():
        close(value, (apart[0][name] + apart[1][name]) / 2)


def test_weight_of_zero_removes_a_box_and_what_it_claimed():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    losses = Criterion()(output, [Target(boxes, phrases, torch.zeros(1))], [MAP], MASK)
    others = alignment_loss(output.logits[0, [0, 2, 3]], torch.zeros(3, 4))
    close(losses["alignment"], others)
    assert losses["box"] == losses["centerness"] == 0


def test_weights_of_one_change_nothing():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    plain = Criterion()(output, [Target(boxes, phrases)], [MAP], MASK)
    weighted = Criterion()(output, [Target(boxes, phrases, torch.ones(1))], [MAP], MASK)
    for name, value in plain.items():
        close(weighted[name], value)


def test_words_of_an_unsure_phrase_teach_nothing():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    unsure = Target(boxes, phrases, unsure=torch.tensor([1]))
    losses = Criterion()(output, [unsure], [MAP[:, :4]], MASK)
    cut = output._replace(logits=output.logits[..., :3])  # the last token is the second phrase
    known = Criterion()(cut, [Target(boxes, phrases)], [MAP[:1, :3]], MASK[:, :3])
    assert losses == known
    losses["alignment"].backward()
    assert output.logits.grad[..., 3].abs().sum() == 0


def test_a_word_of_a_sure_phrase_counts_though_an_unsure_one_has_it_too():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    nested = torch.stack([MAP[0], MAP[0] | MAP[1]])
    losses = Criterion()(output, [Target(boxes, phrases, unsure=torch.tensor([1]))], [nested], MASK)
    plain = Criterion()(
        output._replace(logits=output.logits[..., :3]),
        [Target(boxes, phrases)],
        [MAP[:1, :3]],
        MASK[:, :3],
    )
    assert losses == plain


def test_losses_are_float32_under_autocast():
    output = an_output(ANCHORS)
    half = output._replace(**{n: getattr(output, n).bfloat16() for n in ("logits", "deltas")})
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    with torch.autocast("cpu", torch.bfloat16):
        losses = Criterion()(half, [target], [MAP], MASK)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
