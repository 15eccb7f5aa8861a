"""Each loss alone, their normalisers, and the sums that the released code recorded."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from launches import count_losses
from parity import recipe
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from glip.boxes import decode_boxes, encode_boxes, giou, iou_matrix
from glip.data.batch import Target, Targets
from glip.model.anchors import grid_anchors
from glip.model.head import HeadOutput
from glip.training.assigner import CANDIDATES_PER_LEVEL, CENTRE_MARGIN
from glip.training.losses import Criterion, alignment_loss, box_loss, centerness_targets
from tests.uploads import Uploads

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {key: torch.tensor(value) for key, value in np.load(FOLDER / "losses.npz").items()}


def losses_of(output, targets, token_maps, mask):
    return Criterion()(output, Targets.pad(targets, token_maps, mask))


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
    targets = torch.from_numpy(recipe.tensor("unit.loss.targets", (2, 30, 16)) > 1)
    total = sum(
        alignment_loss(logits[row, :, :tokens], targets[row, :, :tokens])
        for row, tokens in enumerate((9, 13))
    )
    close(total, GOLDEN["loss.token_focal"])


def test_alignment_loss_by_hand():
    # p = 1/2 everywhere: a hit costs 0.25 · 0.5² · log 2, a miss 0.75 · 0.5² · log 2.
    loss = alignment_loss(torch.zeros(1, 3), torch.tensor([[True, False, False]]))
    assert loss.item() == pytest.approx((0.25 + 2 * 0.75) * 0.25 * math.log(2), rel=1e-6)


def test_losses_of_one_positive_by_hand():
    output = an_output(ANCHORS)
    box = torch.tensor([[5.0, 0, 14, 9]])  # equal to the second anchor, the only positive
    losses = losses_of(output, [Target(box, torch.tensor([0]))], [MAP], MASK)
    wanted = torch.zeros(4, 4, dtype=torch.bool)
    wanted[1, 1:3] = True
    close(losses["alignment"], alignment_loss(output.logits[0], wanted))
    assert centerness_targets(box, ANCHORS[1:2]).item() == 1  # so the normaliser is 1
    positive = output.deltas[0, 1:2]
    close(losses["box"], 2 * box_loss(positive, ANCHORS[1:2], box, torch.ones(1)))
    logit = output.centerness[0, 1]
    close(losses["centerness"], F.binary_cross_entropy_with_logits(logit, torch.tensor(1.0)))


def test_picture_without_boxes_trains_only_the_alignment():
    output = an_output(ANCHORS)
    nothing = Target(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    losses = losses_of(output, [nothing], [MAP], MASK)
    assert losses["box"] == losses["centerness"] == 0
    close(
        losses["alignment"], alignment_loss(output.logits[0], torch.zeros(4, 4, dtype=torch.bool))
    )
    sum(losses.values()).backward()
    assert output.logits.grad.abs().sum() > 0
    assert output.deltas.grad.abs().sum() == output.centerness.grad.abs().sum() == 0


def test_padding_tokens_cost_nothing():
    output = an_output(ANCHORS, tokens=6)
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    mask = torch.tensor([[True] * 4 + [False] * 2])
    padded = losses_of(output, [target], [MAP], mask)
    cut = losses_of(output._replace(logits=output.logits[..., :4]), [target], [MAP], MASK)
    close(padded, cut)


def test_normalisers_are_those_of_the_whole_batch():
    one, two = an_output(ANCHORS, seed=1), an_output(ANCHORS, seed=2)
    both = HeadOutput(
        *(torch.cat(pair) for pair in zip(one[:3], two[:3], strict=True)), ANCHORS, (4,)
    )
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    apart = [losses_of(output, [target], [MAP], MASK) for output in (one, two)]
    together = losses_of(both, [target, target], [MAP, MAP], MASK)
    for name, value in together.items():
        close(value, (apart[0][name] + apart[1][name]) / 2)


def test_weight_of_zero_removes_a_box_and_what_it_claimed():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    losses = losses_of(output, [Target(boxes, phrases, torch.zeros(1))], [MAP], MASK)
    others = alignment_loss(output.logits[0, [0, 2, 3]], torch.zeros(3, 4, dtype=torch.bool))
    close(losses["alignment"], others)
    assert losses["box"] == losses["centerness"] == 0


def test_weights_of_one_change_nothing():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    plain = losses_of(output, [Target(boxes, phrases)], [MAP], MASK)
    weighted = losses_of(output, [Target(boxes, phrases, torch.ones(1))], [MAP], MASK)
    for name, value in plain.items():
        close(weighted[name], value)


def test_words_of_an_unsure_phrase_teach_nothing():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    unsure = Target(boxes, phrases, unsure=torch.tensor([1]))
    losses = losses_of(output, [unsure], [MAP[:, :4]], MASK)
    cut = output._replace(logits=output.logits[..., :3])  # the last token is the second phrase
    known = losses_of(cut, [Target(boxes, phrases)], [MAP[:1, :3]], MASK[:, :3])
    close(losses, known)
    losses["alignment"].backward()
    assert output.logits.grad[..., 3].abs().sum() == 0


def test_a_word_of_a_sure_phrase_counts_though_an_unsure_one_has_it_too():
    output = an_output(ANCHORS)
    boxes, phrases = torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0])
    nested = torch.stack([MAP[0], MAP[0] | MAP[1]])
    losses = losses_of(output, [Target(boxes, phrases, unsure=torch.tensor([1]))], [nested], MASK)
    plain = losses_of(
        output._replace(logits=output.logits[..., :3]),
        [Target(boxes, phrases)],
        [MAP[:1, :3]],
        MASK[:, :3],
    )
    close(losses, plain)


def test_losses_are_float32_under_autocast():
    output = an_output(ANCHORS)
    half = output._replace(**{n: getattr(output, n).bfloat16() for n in ("logits", "deltas")})
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(half, [target], [MAP], MASK)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


# ----------------------------------------------------------------------------- without reading back


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
def test_large_batch_launches_what_a_small_one_does_and_a_gpu_is_waited_for_nowhere():
    with Uploads() as uploads:
        small, large = (count_losses((256, 256), batch=n, boxes=2 * n) for n in (2, 16))
    assert small.operators == large.operators
    assert small.total <= 160
    assert not uploads.found


def test_way_back_reads_nothing_either():
    # The operators are those of a GPU, for which autograd would want a real one.
    output, targets, token_maps, mask = a_case(0)
    padded = Targets.pad(targets, token_maps, mask)
    with FakeTensorMode() as fake:
        parts = [fake.from_tensor(part) for part in output[:3]]
        pretended = HeadOutput(*parts, fake.from_tensor(output.anchors), output.level_sizes)
        losses = Criterion()(pretended, Targets(*map(fake.from_tensor, padded)))
        gradients = torch.autograd.grad(sum(losses.values()), parts)
    assert [one.shape for one in gradients] == [one.shape for one in parts]


# -------------------------------------------------------------------- against one picture at a time


def positives(boxes, anchors, level_sizes):
    """{anchor: box} as the paper has it, box by box."""
    best = {}
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    for row, box in enumerate(boxes):
        distance = (centres - (box[:2] + box[2:]) / 2).square().sum(1).sqrt()
        candidates, start = [], 0
        for size in level_sizes:
            nearest = distance[start : start + size].topk(
                min(size, CANDIDATES_PER_LEVEL), largest=False
            )
            candidates += (nearest.indices + start).tolist()
            start += size
        overlaps = iou_matrix(anchors[candidates], box[None])[:, 0]
        threshold = overlaps.mean() + overlaps.std()
        for anchor, overlap in zip(candidates, overlaps, strict=True):
            sides = torch.cat([centres[anchor] - box[:2], box[2:] - centres[anchor]])
            claimed = overlap >= threshold and sides.min() > CENTRE_MARGIN
            if claimed and overlap > best.get(anchor, (-1, 0))[0]:
                best[anchor] = overlap, row
    return {anchor: row for anchor, (_, row) in best.items()}


def plain_losses(output, targets, token_maps, mask):
    """The sum of all losses, from one positive anchor after the other."""
    alignment, box, centerness, count, total = 0, 0, 0, 0, 0
    for index, (target, token_map) in enumerate(zip(targets, token_maps, strict=True)):
        trust = torch.ones(len(target)) if target.weights is None else target.weights
        words = {t for t in range(mask.shape[1]) if mask[index, t]}
        if target.unsure is not None:
            sure = token_map[target.phrases].any(0)
            unsure = token_map[target.unsure].any(0).nonzero()[:, 0].tolist()
            words -= {token for token in unsure if not sure[token]}
        words = sorted(words)
        found = positives(target.boxes, output.anchors, output.level_sizes)
        wanted = torch.zeros(len(output.anchors), mask.shape[1])
        factors = torch.ones(len(output.anchors))
        for anchor, row in found.items():
            wanted[anchor, : token_map.shape[1]] = token_map[target.phrases[row]].float()
            factors[anchor] = trust[row]
            square, truth = output.anchors[anchor], target.boxes[row]
            central = centerness_targets(truth, square)
            predicted = decode_boxes(output.deltas[index, anchor], square)
            box = box + (1 - giou(predicted, truth)) * central * trust[row]
            logit = output.centerness[index, anchor]
            centerness = centerness + trust[row] * F.binary_cross_entropy_with_logits(
                logit, central
            )
            count, total = count + trust[row], total + central * trust[row]
        each = sigmoid_focal_loss(output.logits[index][:, words], wanted[:, words], 0.25, 2)
        alignment = alignment + (each.sum(1) * factors).sum()
    count = max(1, count)
    return (alignment + centerness) / count + 2 * box / max(1e-6, total)


def a_case(seed):
    """Predictions for one to four pictures of 0 to 6 boxes, and all that targets may have."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    shapes = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
    sizes = tuple(height * width for height, width in shapes)
    anchors = grid_anchors(shapes, (8, 16, 32, 64, 128))
    pictures, tokens = int(whole(1, 5)), int(whole(3, 9))
    output = HeadOutput(
        *(
            (2 * random(pictures, len(anchors), *last)).requires_grad_()
            for last in ((tokens,), (4,), ())
        ),
        anchors,
        sizes,
    )
    targets, token_maps, lengths = [], [], []
    for _ in range(pictures):
        count, length, phrases = int(whole(0, 7)), int(whole(2, tokens + 1)), int(whole(1, 4))
        corners = whole(0, 80, count, 2).float()
        boxes = torch.cat([corners, corners + whole(0, 48, count, 2)], 1)
        if count > 1:
            boxes[1] = boxes[0]  # a tie
        weights = torch.rand(count, generator=generator) if whole(0, 2) else None
        unsure = whole(0, phrases, int(whole(0, 3))) if whole(0, 2) else None
        targets.append(Target(boxes, whole(0, phrases, count), weights, unsure))
        token_maps.append(whole(0, 3, phrases, length) == 0)
        lengths.append(length)
    mask = torch.arange(tokens) < torch.tensor(lengths)[:, None]
    return output, targets, token_maps, mask


@pytest.mark.parametrize("seed", range(25))
def test_batch_equals_its_pictures_one_by_one(seed):
    output, targets, token_maps, mask = a_case(seed)
    total = torch.stack(list(losses_of(output, targets, token_maps, mask).values())).sum()
    expected = plain_losses(output, targets, token_maps, mask)
    close(total, expected)
    parts = output[:3]
    wanted = torch.autograd.grad(expected, parts, allow_unused=True)
    for part, found, gradient in zip(parts, torch.autograd.grad(total, parts), wanted, strict=True):
        close(found, torch.zeros_like(part) if gradient is None else gradient)


def test_what_is_said_of_negative_regions_reaches_no_loss_of_boxes():
    output = an_output(ANCHORS)
    target = Target(torch.tensor([[5.0, 0, 14, 9]]), torch.tensor([0]))
    plain = losses_of(output, [target], [MAP], MASK)
    others = torch.tensor([0, 2, 3])
    for value in (math.inf, -math.inf, math.nan, 1e30):
        deltas, centerness = output.deltas.detach().clone(), output.centerness.detach().clone()
        deltas[0, others], centerness[0, others] = value, value
        wild = output._replace(
            deltas=deltas.requires_grad_(), centerness=centerness.requires_grad_()
        )
        losses = losses_of(wild, [target], [MAP], MASK)
        close(losses, plain)
        (losses["box"] + losses["centerness"]).backward()
        for gradient in (deltas.grad, centerness.grad):
            assert gradient[0, others].abs().sum() == 0 and gradient.isfinite().all()


def test_batch_without_any_box_has_gradients():
    output = an_output(ANCHORS)
    nothing = Target(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    pair = output._replace(
        **{
            name: getattr(output, name).expand(2, *[-1] * (getattr(output, name).dim() - 1))
            for name in ("logits", "deltas", "centerness")
        }
    )
    losses = losses_of(pair, [nothing, nothing], [MAP, MAP], MASK)
    sum(losses.values()).backward()
    assert all(part.grad.isfinite().all() for part in output[:3])
