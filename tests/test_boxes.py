"""Box arithmetic by hand: pixels counted inclusively, deltas, GIoU, suppression."""

import math

import pytest
import torch
from torch import Tensor

from glip.boxes import clip_boxes, decode_boxes, encode_boxes, giou, iou_matrix, nms_per_label


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def some_boxes(count: int, seed: int, side: float = 60) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    near = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([near, near + 1 + torch.rand(count, 2, generator=generator) * side], 1)


def close(found: Tensor, expected: object) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-4, atol=1e-4)


def test_decoding_undoes_encoding() -> None:
    wanted, anchors = some_boxes(50, 0), some_boxes(50, 1)
    close(decode_boxes(encode_boxes(wanted, anchors), anchors), wanted)


def test_deltas_by_hand() -> None:
    # Sides 10 x 10 and 20 x 10 by inclusive counting; centres (4.5, 4.5) and (14.5, 4.5).
    found = encode_boxes(boxes((5, 0, 24, 9)), boxes((0, 0, 9, 9)))
    close(found, [[10.0, 0.0, 5 * math.log(2), 0.0]])


def test_box_grows_at_most_a_thousand_sixteenths() -> None:
    anchor = boxes((0, 0, 15, 15))  # 16 wide around 7.5, so at most 1000 wide
    found = decode_boxes(torch.tensor([[0.0, 0, 100, 0]]), anchor)
    close(found, [[-492.0, 0.0, 507.0, 15.0]])


def test_one_row_of_deltas_serves_many_anchors() -> None:
    anchors = some_boxes(7, 2)
    close(decode_boxes(torch.zeros(4), anchors), anchors)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-5, -5, 30, 30), (0, 0, 19, 9)),
        ((3, 4, 5, 6), (3, 4, 5, 6)),
        ((25, 12, 30, 15), (19, 9, 19, 9)),  # outside: a point on the border
    ],
)
def test_boxes_end_at_the_border_pixels(box: tuple, expected: tuple) -> None:
    assert clip_boxes(boxes(box), (10, 20)).tolist() == [list(expected)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 9, 9), 1.0),
        ((5, 0, 14, 9), 50 / 150),
        ((9, 0, 18, 9), 10 / 190),  # they share one column of pixels
        ((10, 0, 19, 9), 0.0),
        ((3, 3, 3, 3), 1 / 100),
    ],
)
def test_iou_counts_pixels_inclusively(other: tuple, expected: float) -> None:
    close(iou_matrix(boxes((0, 0, 9, 9)), boxes(other)), [[expected]])


@pytest.mark.parametrize(
    ("box", "target", "expected"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (2, 2, 6, 6), 4 / 28 - 8 / 36),
        ((0, 0, 1, 1), (3, 0, 4, 1), -2 / 4),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),  # they touch: no overlap, and the hull is full
        ((4, 4, 0, 0), (2, 2, 6, 6), 0.0),  # crossed corners: the point (4, 4), inside the target
        ((8, 0, 0, 4), (0, 0, 4, 4), 16 / 16 - 1 - 16 / 32),  # crossed in x only: a line at x = 8
    ],
)
def test_giou_by_hand(box: tuple, target: tuple, expected: float) -> None:
    assert giou(boxes(box), boxes(target)).item() == pytest.approx(expected, abs=1e-5)


def test_giou_of_degenerate_boxes_has_finite_gradients() -> None:
    crossed = boxes((4, 4, 0, 0), (3, 3, 3, 3)).requires_grad_()
    giou(crossed, boxes((2, 2, 6, 6), (3, 3, 3, 3))).sum().backward()
    assert crossed.grad is not None and crossed.grad.isfinite().all()


# ---------------------------------------------------------------------------------- suppression

PAIR = boxes((0, 0, 9, 9), (0, 0, 9, 4))  # 50 of 100 pixels are shared; 36 of 81 without plus one
SCORES = torch.tensor([0.9, 0.8])
SAME = torch.zeros(2, dtype=torch.int64)


def plain_nms(found: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        rivals = [other for other in kept if labels[other] == labels[index]]
        overlaps = iou_matrix(found[index][None], found[rivals])
        if not (overlaps > threshold).any():
            kept.append(index)
    return kept


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [0, 1]), (0.48, [0])])
def test_only_overlap_strictly_above_the_threshold_suppresses(
    threshold: float, expected: list[int]
) -> None:
    assert nms_per_label(PAIR, SCORES, SAME, threshold).tolist() == expected


def test_labels_do_not_touch_each_other() -> None:
    assert nms_per_label(PAIR, SCORES, torch.tensor([0, 1]), 0.1).tolist() == [0, 1]


def test_survivors_come_best_first() -> None:
    found = boxes((0, 0, 9, 9), (50, 0, 59, 9), (90, 0, 99, 9))
    order = nms_per_label(found, torch.tensor([0.2, 0.9, 0.5]), torch.zeros(3).long(), 0.5)
    assert order.tolist() == [1, 2, 0]


def test_thousands_of_labels_stay_apart_and_keep_their_digits() -> None:
    # Every label has a pair that overlaps a little more, and one a little less, than allowed.
    one = boxes((1000, 1000, 1099, 1099), (1000, 1000, 1099, 1059.5), (1300, 1000, 1399, 1099),
                (1300, 1000, 1399, 1058.5))  # fmt: skip
    labels = torch.arange(5000).repeat_interleave(4)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6]).repeat(5000)
    kept = nms_per_label(one.repeat(5000, 1), scores, labels, 0.6)
    assert kept.sort().values.view(-1, 3).remainder(4).unique(dim=0).tolist() == [[0, 2, 3]]
    assert len(kept) == 15000


def test_equals_plain_greedy_suppression() -> None:
    found, generator = some_boxes(150, 3), torch.Generator().manual_seed(4)
    scores = torch.rand(150, generator=generator)
    labels = torch.randint(3, (150,), generator=generator)
    expected = plain_nms(found, scores, labels, 0.4)
    assert 0 < len(expected) < 150
    assert nms_per_label(found, scores, labels, 0.4).tolist() == expected


def test_nothing_survives_of_nothing() -> None:
    kept = nms_per_label(torch.empty(0, 4), torch.empty(0), torch.empty(0).long(), 0.5)
    assert kept.shape == (0,) and kept.dtype == torch.int64
