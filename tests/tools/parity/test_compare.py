"""Comparisons pass what is near and, above all, miss what is not."""

import numpy as np
import pytest
from parity.compare import (
    Row,
    compare_array,
    compare_detections,
    compare_exact,
    compare_tensor,
    real_tokens,
    stored_part,
)
from parity.recipe import sample_indices

FULL = np.linspace(-2, 2, 24).reshape(2, 3, 4)


def facts(name: str = "fpn.p3", noise: float = 1e-6, stored: str = "full") -> dict:
    return {
        name: {"shape": [2, 3, 4], "std": 1.0, "absmax": 2.0, "noise_max": noise, "stored": stored}
    }


def detections(*rows: tuple[list[float], float, int]) -> dict[str, np.ndarray]:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes": np.array(boxes, dtype=np.float64).reshape(-1, 4),
        "scores": np.array(scores),
        "labels": np.array(labels),
    }


def test_row_of_an_error_that_is_no_number_does_not_pass() -> None:
    assert Row("x", 1.0, 1.0).passed
    assert not Row("x", 1.1, 1.0).passed
    assert not Row("x", float("nan"), 1.0).passed


# noise 1e-6, ten times that, and 2e-6 of the largest value: 1.4e-5.
@pytest.mark.parametrize(("change", "passed"), [(0, True), (1.3e-5, True), (1.5e-5, False)])
def test_tensor_may_differ_by_ten_times_the_noise(change: float, passed: bool) -> None:
    ours = FULL.copy()
    ours[1, 2, 3] += change
    row = compare_tensor("fpn.p3", ours, facts(), {"fpn.p3": FULL})
    assert row.passed == passed
    assert row.error == pytest.approx(change) and row.limit == pytest.approx(1.4e-5)


def test_noise_of_the_worst_level_counts_for_all() -> None:
    tensors = {**facts(), **facts("fpn.p7", noise=5e-6), **facts("backbone.c3", noise=1.0)}
    row = compare_tensor("fpn.p3", FULL, tensors, {"fpn.p3": FULL})
    assert row.limit == pytest.approx(5.4e-5)


def test_tensor_of_another_shape_or_of_nan_is_missed() -> None:
    golden = {"fpn.p3": FULL}
    row = compare_tensor("fpn.p3", FULL[:1], facts(), golden)
    assert not row.passed and row.note == "shape [1, 3, 4], expected [2, 3, 4]"
    assert not compare_tensor("fpn.p3", FULL * np.nan, facts(), golden).passed


def test_sampled_tensor_is_compared_at_its_samples() -> None:
    stored = "samples:4"
    golden = {"fpn.p3": FULL.flatten()[sample_indices("fpn.p3", 24, 4)]}
    tensors = facts(stored=stored)
    assert compare_tensor("fpn.p3", FULL, tensors, golden).passed
    assert not compare_tensor("fpn.p3", -FULL, tensors, golden).passed
    assert stored_part("fpn.p3", FULL, stored).tolist() == golden["fpn.p3"].tolist()
    assert stored_part("fpn.p3", FULL, "full") is FULL


@pytest.mark.parametrize(("change", "passed"), [(1.9e-5, True), (2.1e-5, False)])
def test_array_may_differ_by_a_share_of_the_largest_value(change: float, passed: bool) -> None:
    assert compare_array("x", FULL + change, FULL).passed == passed


def test_array_of_another_shape_is_missed_and_an_empty_one_is_not() -> None:
    assert not compare_array("x", FULL[0], FULL).passed
    assert compare_array("x", np.empty((0, 4)), np.empty((0, 4))).passed


def test_exact_things_are_equal_or_missed() -> None:
    assert compare_exact("x", [1, 2], [1, 2]).passed
    row = compare_exact("x", [1, 2], [1, 3])
    assert not row.passed and row.note == "[1, 2] instead of [1, 3]"


def test_real_tokens_of_each_prompt_lie_one_after_the_other() -> None:
    states = np.arange(12).reshape(2, 3, 2)
    assert real_tokens(states, [1, 2], axis=0).tolist() == [0, 1, 6, 7, 8, 9]
    assert real_tokens(states, [1, 2], axis=1).tolist() == [0, 2, 4, 6, 7, 8, 9, 10, 11]


ONE = ([0.0, 0, 10, 10], 0.5, 1)


@pytest.mark.parametrize(
    ("other", "error"),
    [
        (([0.05, 0, 10, 10], 0.5001, 1), 0),
        (([0.11, 0, 10, 10], 0.5, 1), 2),  # one is missing and one too many
        (([0.0, 0, 10, 10], 0.5003, 1), 2),
        (([0.0, 0, 10, 10], 0.5, 2), 2),
        (([float("nan"), 0, 10, 10], 0.5, 1), 2),
    ],
)
def test_detection_must_agree_in_box_score_and_label(other: tuple, error: int) -> None:
    row = compare_detections("x", detections(other), detections(ONE))
    assert row.error == error and row.passed == (error == 0)


def test_detections_are_sets() -> None:
    two = ([5.0, 5, 9, 9], 0.4, 2)
    assert compare_detections("x", detections(two, ONE), detections(ONE, two)).passed
    assert compare_detections("x", detections(), detections()).passed


def test_each_detection_counts_once() -> None:
    twice = detections(ONE, ONE)
    assert compare_detections("x", detections(ONE), twice).error == 1
    assert compare_detections("x", twice, detections(ONE)).error == 1
    assert compare_detections("x", twice, twice).passed


def test_nearest_of_several_that_fit_is_taken() -> None:
    near = ([0.02, 0, 10, 10], 0.5, 1)
    row = compare_detections("x", detections(near, ONE), detections(ONE, near))
    assert row.passed and "0.0000 px" in row.note
