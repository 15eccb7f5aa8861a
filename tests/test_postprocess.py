"""From made-up outputs to detections, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from glip.choices import Aggregate
from glip.config import PostprocessOptions
from glip.errors import ConfigError
from glip.model.head import HeadOutput
from glip.postprocess import (
    Found,
    cap,
    first_token,
    mean_weights,
    merge,
    phrase_probabilities,
    rescale,
    select_candidates,
    select_on_device,
    suppress,
    tokens_of_phrases,
)
from tests.uploads import Uploads

SURE = 20.0  # a logit whose probability is one


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def logits(*rows: tuple[float, ...]) -> Tensor:
    """(A, T) logits of probabilities."""
    return torch.tensor([[logit(p) for p in row] for row in rows])


def phrases(*rows: tuple[int, ...], tokens: int = 4) -> Tensor:
    token_map = torch.zeros(len(rows), tokens, dtype=torch.bool)
    for row, positions in zip(token_map, rows, strict=True):
        row[list(positions)] = True
    return token_map


def an_output(
    scores: Tensor, sizes: tuple[int, ...] | None = None, centerness: Tensor | None = None
) -> HeadOutput:
    """One picture whose anchors, ten wide, lie side by side and are the boxes."""
    count = len(scores)
    left = 20.0 * torch.arange(count)
    anchors = torch.stack([left, torch.zeros(count), left + 9, torch.full((count,), 9.0)], 1)
    if centerness is None:
        centerness = torch.full((count,), SURE)
    return HeadOutput(
        scores[None], torch.zeros(1, count, 4), centerness[None], anchors, sizes or (count,)
    )


def a_random_output(seed: int, tokens: int = 12) -> HeadOutput:
    generator = torch.Generator().manual_seed(seed)
    sizes = (96, 24, 6)
    near = torch.rand(126, 2, generator=generator) * 80
    return HeadOutput(
        torch.randn(1, 126, tokens, generator=generator) * 2 - 2,
        torch.randn(1, 126, 4, generator=generator),
        torch.randn(1, 126, generator=generator),
        torch.cat([near, near + 30], 1),
        sizes,
    )


def equal(found: Found, expected: Found) -> bool:
    return all(one.equal(other) for one, other in zip(found, expected, strict=True))


WIDE = (100, 10**6)


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("mean", [0.5, 0.2]), ("max", [0.8, 0.2]), ("first", [0.5, 0.2])]
)
def test_probability_of_a_phrase_by_hand(aggregate: str, expected: list[float]) -> None:
    found = phrase_probabilities(logits((0.9, 0.5, 0.2, 0.8)), phrases((1, 2, 3), (2,)), aggregate)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_score_is_the_root_of_probability_times_centerness() -> None:
    output = an_output(logits((0.64,)), centerness=logits((0.25,))[0])
    found = select_candidates(output, 0, phrases((0,), tokens=1), WIDE, PostprocessOptions())
    assert found.scores.item() == pytest.approx(0.8 * 0.5, abs=1e-6)


def test_threshold_is_strict_and_before_centerness() -> None:
    scores = torch.tensor([[0.0], [1e-4]])  # exactly a half, and a little more
    output = an_output(scores, centerness=torch.tensor([SURE, -8.0]))
    options = PostprocessOptions(probability=0.5)
    found = select_candidates(output, 0, phrases((0,), tokens=1), WIDE, options)
    assert found.boxes[:, 0].tolist() == [20.0]
    assert found.scores.item() < 0.02


def test_best_pairs_of_region_and_phrase_of_each_level_stay() -> None:
    scores = logits((0.9, 0.8), (0.3, 0.7), (0.2, 0.1), (0.4, 0.3))
    output = an_output(scores, sizes=(2, 2))
    options = PostprocessOptions(candidates_per_level=3)
    found = select_candidates(output, 0, phrases((0,), (1,), tokens=2), WIDE, options)
    pairs = list(zip((found.boxes[:, 0] / 20).long().tolist(), found.labels.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 1), (3, 0), (3, 1), (2, 0)]


def test_boxes_are_clipped_to_the_picture_and_empty_ones_kept() -> None:
    output = an_output(logits((0.9,), (0.9,), (0.9,)))
    found = select_candidates(output, 0, phrases((0,), tokens=1), (5, 25), PostprocessOptions())
    expected = [[0, 0, 9, 4], [20, 0, 24, 4], [24, 0, 24, 4]]
    assert found.boxes.sort(0).values.tolist() == expected


def test_logits_behind_the_token_map_are_padding() -> None:
    scores = torch.cat([logits((0.3,)), torch.full((1, 5), SURE)], 1)
    found = select_candidates(
        an_output(scores), 0, phrases((0,), tokens=1), WIDE, PostprocessOptions()
    )
    assert found.scores.item() == pytest.approx(math.sqrt(0.3), abs=1e-6)


def test_nothing_above_the_threshold_is_an_empty_result() -> None:
    output = an_output(torch.full((3, 1), -SURE))
    options = PostprocessOptions()
    found = suppress(select_candidates(output, 0, phrases((0,), tokens=1), WIDE, options), options)
    assert [part.shape for part in found] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("score", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_score_option_equals_filtering_afterwards(score: float, seed: int) -> None:
    output, token_map = a_random_output(seed), phrases((1,), (2, 3), (4, 5, 6), tokens=12)
    size = (100, 120)
    all_of_them, above = (
        PostprocessOptions(score=value, max_detections=10**6) for value in (0.0, score)
    )
    everything = suppress(select_candidates(output, 0, token_map, size, all_of_them), all_of_them)
    found = suppress(select_candidates(output, 0, token_map, size, above), above)
    kept = everything.scores > score
    assert kept.any()
    assert equal(found, Found(*(part[kept] for part in everything)))


def test_cap_keeps_the_best_and_what_equals_the_last_of_them() -> None:
    scores = torch.tensor([0.9, 0.8, 0.8, 0.8, 0.7])
    found = Found(torch.zeros(5, 4), scores, torch.arange(5))
    assert [len(cap(found, limit).scores) for limit in (1, 2, 3, 4, 5, 9)] == [1, 4, 4, 4, 5, 5]


def test_merged_passes_equal_one_pass() -> None:
    output, options = a_random_output(9), PostprocessOptions(max_detections=40)
    token_map = phrases((1,), (2, 3), (4, 5, 6), (8,), tokens=12)
    size = (100, 120)

    def detect(rows: list[int], limit: int) -> Found:
        single = PostprocessOptions(max_detections=limit)
        found = suppress(select_candidates(output, 0, token_map[rows], size, single), single)
        return found._replace(labels=torch.tensor(rows)[found.labels])

    whole = suppress(select_candidates(output, 0, token_map, size, options), options)
    assert len(whole.scores) == 40
    assert equal(merge([detect([0, 2], 40), detect([1, 3], 40)], 40), whole)


def test_boxes_are_scaled_in_each_direction() -> None:
    found = rescale(torch.tensor([[1.0, 2, 3, 4]]), (10, 10), (20, 50))
    assert found.tolist() == [[5, 4, 15, 8]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"probability": 1.5}, r"probability must lie in \[0, 1\], got 1.5"),
        ({"score": -0.1}, r"threshold must lie in \[0, 1\]"),
        ({"score": float("nan")}, r"threshold must lie in \[0, 1\]"),
        ({"nms": "0.5"}, r"nms must lie in \[0, 1\], got '0.5'"),
        ({"max_detections": 0}, "max_detections must be a whole number from 1, got 0"),
        ({"candidates_per_level": 2.5}, "candidates_per_level must be a whole number"),
        ({"aggregate": "sum"}, "aggregate must be one of .*'mean'.*, got 'sum'"),
    ],
)
def test_options_out_of_range_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PostprocessOptions(**values)


# ----------------------------------------------------------------------------- without reading back


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU")
@pytest.mark.parametrize("aggregate", ["mean", "max", "first"])
@pytest.mark.parametrize("rows", [(0, 0, 0), (0, 1, 0), (0, 1, 2)])
def test_selection_on_a_device_waits_for_nothing(
    rows: tuple[int, ...], aggregate: Aggregate
) -> None:
    with FakeTensorMode(), torch.device("cuda"):
        output = HeadOutput(
            torch.empty(3, 30, 12),
            torch.empty(3, 30, 4),
            torch.empty(3, 30),
            torch.empty(30, 4),
            (24, 6),
        )
        kind = torch.int64 if aggregate == "max" else torch.float32
        prompts = [torch.empty(2, 12, dtype=kind) for _ in range(3)]
        with Uploads() as uploads:
            tokens = [prompts[row] for row in rows]
            selection = select_on_device(output, tokens, PostprocessOptions(aggregate=aggregate))
    assert uploads.found == []
    assert [len(own) for own, _ in selection.groups] == [rows.count(row) for row in {*rows}]


@pytest.mark.parametrize("aggregate", ["mean", "max", "first"])
@pytest.mark.parametrize("shared", [True, False])
def test_selection_on_a_device_equals_that_of_each_picture(
    aggregate: Aggregate, shared: bool
) -> None:
    parts = [a_random_output(seed) for seed in range(3)]
    output = parts[0]._replace(
        **{
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("logits", "deltas", "centerness")
        }
    )
    first, other = phrases((1,), (2, 3), (5,), tokens=12), phrases((4, 6), tokens=9)
    maps = [first] * 3 if shared else [first, other, first]
    options = PostprocessOptions(aggregate=aggregate, candidates_per_level=7, score=0.3)
    sizes = [(20, 30), (90, 80), (64, 64)]
    tokens = {id(one): tokens_of_phrases(one, options.aggregate) for one in maps}
    selection = select_on_device(output, [tokens[id(one)] for one in maps], options)
    assert len(selection.groups) == (1 if shared else 2)
    found = selection.candidates(selection.numbers, sizes)
    assert found is not None
    for index, own in enumerate(found):
        expected = select_candidates(output, index, maps[index], sizes[index], options)
        assert len(expected.scores) > 0 and own.labels.equal(expected.labels)
        torch.testing.assert_close(own, expected)


def test_output_that_is_not_finite_is_told_apart() -> None:
    output = a_random_output(0)
    output.deltas[0, 0, 0] = float("nan")
    tokens = tokens_of_phrases(phrases((1,), tokens=12))
    selection = select_on_device(output, [tokens], PostprocessOptions())
    assert selection.candidates(selection.numbers, [(20, 30)]) is None


def test_tokens_of_phrases_by_hand() -> None:
    mapped = phrases((1, 2, 3), (2,))
    assert tokens_of_phrases(mapped, "max").tolist() == [[1, 2, 3], [2, 2, 2]]
    assert tokens_of_phrases(mapped, "first").tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    assert tokens_of_phrases(mapped).equal(mean_weights(mapped))


def test_weights_of_mean_and_first_token() -> None:
    mapped = torch.tensor([[False, True, True, False], [False, False, False, False]])
    assert mean_weights(mapped).tolist() == [[0, 0.5, 0.5, 0], [0, 0, 0, 0]]
    assert first_token(mapped).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert mean_weights(mapped.expand(3, 2, 4)).shape == (3, 2, 4)
    assert mean_weights(mapped).dtype == first_token(mapped).dtype == torch.float32
