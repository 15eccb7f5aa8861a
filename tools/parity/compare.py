"""How far our numbers may be from recorded ones. numpy only.

A recorded tensor comes with its spread and with the noise that float32 itself caused in the
official run; the allowed error is ten times that noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parity.recipe import sample_indices

NOISE_FACTOR = 10.0
BOX_LIMIT = 0.1  # pixels
SCORE_LIMIT = 2e-4


class Row(NamedTuple):
    """One comparison."""

    name: str
    error: float
    limit: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is a number and within the limit."""
        return bool(self.error <= self.limit)


def stored_part(name: str, array: NDArray[Any], stored: str) -> NDArray[Any]:
    """What a case records of a full tensor: all of it, or the values at its sampled indices.

    Args:
        name: Of the tensor; it seeds the indices.
        array: The full tensor.
        stored: "full" or "samples:<count>".
    """
    if stored == "full":
        return array
    return array.reshape(-1)[sample_indices(name, array.size, int(stored.split(":")[1]))]


def real_tokens(array: NDArray[Any], counts: Sequence[int], axis: int) -> NDArray[Any]:
    """A batched text tensor cut to each prompt's real tokens, one prompt after the other, flat.

    Args:
        array: (B, ...).
        counts: Real tokens of each of the B prompts.
        axis: Where the tokens lie, counted without the batch.
    """
    return np.concatenate(
        [row.take(range(n), axis).reshape(-1) for row, n in zip(array, counts, strict=True)]
    )


def _kind(name: str) -> str:
    """Tensors of one kind at all levels of a pyramid share their noise."""
    stem, _, last = name.split("@")[0].rpartition(".")
    return stem if last[:1] in "pc" and last[1:].isdigit() else name.split("@")[0]


def compare_tensor(
    name: str, array: NDArray[Any], tensors: Mapping[str, Any], golden: Mapping[str, NDArray[Any]]
) -> Row:
    """Compare a tensor with a recorded one.

    Args:
        name: Of the tensor.
        array: Ours, in full.
        tensors: The case's facts of all its tensors: shape, std, absmax, noise_max, stored.
        golden: The recorded arrays.
    """
    facts = tensors[name]
    if list(array.shape) != facts["shape"]:
        return Row(name, np.inf, 0, f"shape {list(array.shape)}, expected {facts['shape']}")
    # A tiny level alone can show little noise by luck, so the worst of the kind counts.
    noise = facts["std"] * max(
        t["noise_max"] / t["std"] for other, t in tensors.items() if _kind(other) == _kind(name)
    )
    got = stored_part(name, array, facts["stored"]).astype(np.float64)
    error = np.abs(got - golden[name].astype(np.float64)).max()
    return Row(name, float(error), NOISE_FACTOR * noise + 2e-6 * facts["absmax"])


def compare_array(
    name: str, array: NDArray[Any], golden: NDArray[Any], relative: float = 1e-5
) -> Row:
    """Compare an array with a recorded one: the largest difference against the largest value."""
    if array.shape != golden.shape:
        return Row(name, np.inf, 0, f"shape {array.shape}, expected {golden.shape}")
    if golden.size == 0:
        return Row(name, 0, 0)
    difference = np.abs(array.astype(np.float64) - golden.astype(np.float64))
    return Row(name, float(difference.max()), relative * float(np.abs(golden).max()))


def compare_exact(name: str, got: object, wanted: object) -> Row:
    """Compare things that are equal or not."""
    if got == wanted:
        return Row(name, 0, 0)
    return Row(name, np.inf, 0, f"{str(got)[:80]} instead of {str(wanted)[:80]}")


def compare_detections(
    name: str, got: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]
) -> Row:
    """Compare two sets of detections, each a dict of boxes (N, 4), scores (N,) and labels (N,).

    Every wanted one takes the nearest free box of its label whose score agrees.

    Returns:
        The error counts what is missing and what is too many; none is allowed.
    """
    free = np.ones(len(got["boxes"]), dtype=bool)
    missing = 0
    worst = 0.0
    for box, score, label in zip(wanted["boxes"], wanted["scores"], wanted["labels"], strict=True):
        distance = np.abs(got["boxes"] - box).max(1, initial=0)
        fits = free & (got["labels"] == label) & (distance <= BOX_LIMIT)
        fits &= np.abs(got["scores"] - score) <= SCORE_LIMIT
        if not fits.any():
            missing += 1
            continue
        nearest = np.where(fits, distance, np.inf).argmin()
        free[nearest] = False
        worst = max(worst, float(distance[nearest]))
    extra = int(free.sum())
    note = f"{len(wanted['boxes'])} wanted, {missing} missing, {extra} extra, {worst:.4f} px"
    return Row(name, missing + extra, 0, note)
