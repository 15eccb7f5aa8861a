"""What tracks are worth: MOTA, IDF1 and HOTA of a clip whose true tracks are known.

MOTA of CLEAR MOT (Bernardin and Stiefelhagen 2008) counts what is found, IDF1 (arXiv 1609.01775)
how much of it has the right name throughout, and HOTA (arXiv 2009.07736) both, over overlaps from
0.05 to 0.95. A box answers one of the same name only. Knows nothing about how tracks are made.

Letters: N true boxes of a frame and M found ones, G true tracks and F found ones, L overlaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glip.association.matching import cheapest_pairs, iou

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OVERLAPS = np.arange(0.05, 0.99, 0.05)
"""(L,) the IoUs that HOTA is the mean over."""
RIGHT = 0.5
"""IoU from which a box is right, for MOTA and IDF1."""
EPSILON = float(np.finfo(np.float64).eps)
"""Equal numbers may differ by this, as in the authors' code of HOTA."""


class Tracked(NamedTuple):
    """The boxes of one frame, of tracks."""

    ids: Sequence[Hashable]
    """Of their tracks."""
    boxes: npt.NDArray[np.floating]
    """(N, 4) xyxy, pixels."""
    names: Sequence[str] | None = None
    """What they are; None where all are the same."""


@dataclass(frozen=True)
class TrackMeasures:
    """All in [0, 1] but MOTA, which may be below 0."""

    mota: float
    """1 less the share of misses, false boxes and switches of ids among the true boxes."""
    idf1: float
    """F1 of boxes under the one best naming of whole tracks."""
    hota: float
    """Geometric mean of how well things are found and kept apart."""
    deta: float
    """The former half of HOTA: found."""
    assa: float
    """The latter: kept apart."""
    switches: int
    """How often a true track goes on under another id."""
    misses: int
    """True boxes that were not found."""
    false: int
    """Boxes where there is none."""
    boxes: int
    """True ones."""

    def __str__(self) -> str:
        return (
            f"HOTA {100 * self.hota:.1f} (DetA {100 * self.deta:.1f}, AssA {100 * self.assa:.1f}), "
            f"MOTA {100 * self.mota:.1f}, IDF1 {100 * self.idf1:.1f}; of {self.boxes} boxes "
            f"{self.misses} missed, {self.false} false, {self.switches} switches"
        )


class _Frame(NamedTuple):
    truth: Ints
    """(N,) true track of each box, from 0."""
    found: Ints
    """(M,)"""
    overlaps: Floats
    """(N, M) IoU; 0 between other names."""


def track_measures(truth: Iterable[Tracked], found: Iterable[Tracked]) -> TrackMeasures:
    """Compare tracks with the true ones, frame by frame; the shorter side has empty frames behind.

    Args:
        truth: Every frame of the clip.
        found: The same frames.
    """
    nothing = Tracked([], np.zeros((0, 4)))
    true_ids: dict[Hashable, int] = {}
    found_ids: dict[Hashable, int] = {}
    frames = []
    for here, there in itertools.zip_longest(truth, found, fillvalue=nothing):
        overlaps = iou(np.reshape(here.boxes, (-1, 4)), np.reshape(there.boxes, (-1, 4)))
        if here.names is not None and there.names is not None:
            equal = np.array([[one == other for other in there.names] for one in here.names])
            overlaps = overlaps * equal.reshape(overlaps.shape)
        frames.append(_Frame(_rows(here.ids, true_ids), _rows(there.ids, found_ids), overlaps))
    shape = len(true_ids), len(found_ids)
    hota, deta, assa = _hota(frames, shape)
    true_boxes = sum(len(frame.truth) for frame in frames)
    found_boxes = sum(len(frame.found) for frame in frames)
    right, switches = _clear(frames)
    wrong = true_boxes - right + found_boxes - right + switches
    return TrackMeasures(
        mota=1 - wrong / true_boxes if true_boxes else 0.0,
        idf1=2 * _rightly_named(frames, shape) / max(true_boxes + found_boxes, 1),
        hota=hota,
        deta=deta,
        assa=assa,
        switches=switches,
        misses=true_boxes - right,
        false=found_boxes - right,
        boxes=true_boxes,
    )


def _rows(ids: Sequence[Hashable], known: dict[Hashable, int]) -> Ints:
    return np.array([known.setdefault(one, len(known)) for one in ids], np.int64)


def _clear(frames: Iterable[_Frame]) -> tuple[int, int]:
    """Right boxes, and switches: pairs of the frame before stay together while they are right."""
    last: dict[int, int] = {}  # true track -> the one it was last found as
    before: dict[int, int] = {}  # the same, of the frame before only
    right = switches = 0
    for frame in frames:
        usual = np.array([before.get(track, -1) for track in frame.truth.tolist()], np.int64)
        stays = usual[:, None] == frame.found[None]
        gains = np.where(frame.overlaps >= RIGHT - EPSILON, frame.overlaps + 1000.0 * stays, 0.0)
        pairs = cheapest_pairs(-gains, 0.0)
        now = dict(
            zip(frame.truth[pairs.rows].tolist(), frame.found[pairs.columns].tolist(), strict=True)
        )
        right += len(now)
        switches += sum(last.get(track, other) != other for track, other in now.items())
        last |= now
        before = now
    return right, switches


def _rightly_named(frames: Iterable[_Frame], shape: tuple[int, int]) -> int:
    """Right boxes when each found track answers one true track only, the best way."""
    together = np.zeros(shape)  # (G, F) frames in which they overlap
    for frame in frames:
        rows, columns = np.nonzero(frame.overlaps >= RIGHT - EPSILON)
        np.add.at(together, (frame.truth[rows], frame.found[columns]), 1)
    pairs = cheapest_pairs(-together, 0.0)
    return int(together[pairs.rows, pairs.columns].sum())


def _hota(frames: Sequence[_Frame], shape: tuple[int, int]) -> tuple[float, float, float]:
    """HOTA, DetA and AssA, means over the overlaps."""
    together = np.zeros(shape)
    true_counts, found_counts = np.zeros(shape[0]), np.zeros(shape[1])
    for truth, found, overlaps in frames:
        union = overlaps.sum(0)[None] + overlaps.sum(1)[:, None] - overlaps
        shares = np.divide(overlaps, union, out=np.zeros_like(overlaps), where=union > EPSILON)
        np.add.at(together, (truth[:, None], found[None]), shares)
        true_counts[truth] += 1
        found_counts[found] += 1
    counts = true_counts[:, None] + found_counts[None]
    alike = together / np.maximum(counts - together, EPSILON)  # (G, F)

    right = np.zeros(len(OVERLAPS))
    pairs_of = np.zeros((len(OVERLAPS), *shape))  # (L, G, F)
    for truth, found, overlaps in frames:
        gains = alike[truth[:, None], found[None]] * overlaps
        pairs = cheapest_pairs(-gains, 0.0)
        reached = overlaps[pairs.rows, pairs.columns] >= OVERLAPS[:, None] - EPSILON  # (L, K)
        right += reached.sum(1)
        pairs_of[:, truth[pairs.rows], found[pairs.columns]] += reached
    total = true_counts.sum() + found_counts.sum()
    deta = right / np.maximum(total - right, 1)
    shares = pairs_of * pairs_of / np.maximum(counts - pairs_of, 1)
    assa = shares.sum((1, 2)) / np.maximum(right, 1)
    return float(np.sqrt(deta * assa).mean()), float(deta.mean()), float(assa.mean())
