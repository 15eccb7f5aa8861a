"""Arrays go the road of tensors: the same candidates, the same detections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glip import postprocess as tensors
from glip.config import PostprocessOptions
from glip.model.anchors import grid_anchors
from glip.model.fpn import LEVEL_STRIDES
from glip.model.head import HeadOutput
from glip.runtime import postprocess as arrays
from glip.runtime.sessions import RegionOutput

SHAPES = ((8, 6), (4, 3), (2, 2), (1, 1), (1, 1))
MAP = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 1, 1, 0, 1]], dtype=torch.bool)


@pytest.fixture
def output() -> HeadOutput:
    generator = torch.Generator().manual_seed(3)
    sizes = tuple(height * width for height, width in SHAPES)
    regions = sum(sizes)
    return HeadOutput(
        2 * torch.randn(1, regions, 5, generator=generator),
        torch.randn(1, regions, 4, generator=generator),
        torch.randn(1, regions, generator=generator),
        grid_anchors(SHAPES, LEVEL_STRIDES),
        sizes,
    )


def test_anchors_are_those_of_the_model() -> None:
    np.testing.assert_array_equal(
        arrays.anchors_of(SHAPES), grid_anchors(SHAPES, LEVEL_STRIDES).numpy()
    )


@pytest.mark.parametrize(
    "options",
    [
        PostprocessOptions(),
        PostprocessOptions(score=0.4, nms=0.3),
        PostprocessOptions(aggregate="max", candidates_per_level=7),
        PostprocessOptions(aggregate="first", max_detections=5),
    ],
)
def test_the_same_is_found(output: HeadOutput, options: PostprocessOptions) -> None:
    candidates = tensors.select_candidates(output, 0, MAP, (60, 44), options)
    expected = tensors.suppress(candidates, options)
    region = RegionOutput(*(part.numpy() for part in output[:3]))
    selected = arrays.select(region, 0, SHAPES, MAP.numpy(), (60, 44), options)
    found = arrays.suppress(selected, options)
    assert len(found.scores) == len(expected.scores) > 0
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-6)
    # Which of equal scores comes first is nobody's promise.
    rows, others = (
        sorted(
            zip(one.scores.round(5).tolist(), one.labels.tolist(), one.boxes.tolist(), strict=True)
        )
        for one in (found, arrays.Found(*(part.numpy() for part in expected)))
    )
    for (_, label, box), (_, wanted, corners) in zip(rows, others, strict=True):
        assert label == wanted
        np.testing.assert_allclose(box, corners, atol=1e-3)


def test_negatives_and_exclusive_boxes(output: HeadOutput) -> None:
    options = PostprocessOptions(exclusive=True)
    found = tensors.suppress(tensors.select_candidates(output, 0, MAP, (60, 44), options), options)
    own = arrays.Found(*(part.numpy() for part in found))
    for one, other in (
        (tensors.one_phrase_each(found, options), arrays.one_phrase_each(own, options)),
        (tensors.without_negatives(found, 2, 0.5), arrays.without_negatives(own, 2, 0.5)),
        (tensors.cap(found, 3), arrays.cap(own, 3)),
    ):
        assert 0 < len(other.scores) < len(own.scores)
        np.testing.assert_array_equal(other.labels, one.labels.numpy())
        np.testing.assert_allclose(other.boxes, one.boxes.numpy(), atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_what_is_far_from_any_word_scores_nothing_without_a_warning() -> None:
    output = RegionOutput(*(np.full((1, 1, n), -200, np.float32) for n in (1, 4)), np.zeros((1, 1)))
    found = arrays.select(
        output, 0, ((1, 1), *[(0, 0)] * 4), np.ones((1, 1), bool), (8, 8), PostprocessOptions()
    )
    assert len(found.scores) == 0


def test_nothing_stays_nothing() -> None:
    nothing = arrays.Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert len(arrays.suppress(nothing, PostprocessOptions()).scores) == 0
    assert arrays.edges(nothing.boxes, (3, 4)).shape == (0, 4)
