"""ByteTrack (arXiv 2110.06864): which box of a frame goes on with which track.

Tracks are carried on by boxes with high scores first, then by what scores low: a thing half hidden
scores low where a track awaits it, and background does not. Only boxes of one phrase make a track,
so it keeps its phrase. Unlike the authors' code the first round does not weigh overlaps by scores,
which are lower for open words than those it was tuned for. Knows nothing about pictures or models.

Letters: N boxes of a frame, T tracks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glip.association.matching import Pairs, cheapest_pairs, iou
from glip.association.motion import States, begun, corrected, predicted
from glip.settings import within

LEAST_OVERLAP = 0.2
"""IoU of a track, where it should be by now, and a box that goes on with it."""
LEAST_OVERLAP_LOW = 0.5
"""The same for boxes with low scores."""
LEAST_OVERLAP_NEW = 0.3
"""The same for tracks that were seen once."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AssociationOptions:
    """How boxes become tracks."""

    threshold: float = 0.3
    """Boxes that score above this begin tracks."""
    low: float = 0.1
    """Boxes that score above this carry a track on."""
    patience: int = 30
    """Frames for which a track may be out of sight."""

    def __post_init__(self) -> None:
        within("threshold", self.threshold, least=0, most=1)
        within("low", self.low, least=0, most=1)
        within("patience", self.patience, least=0, whole=True)

    @property
    def least(self) -> float:
        """Boxes that do not score above this are of no use."""
        return min(self.low, self.threshold)


class Tracker:
    """The tracks of one clip so far.

    A track begins when it is seen a second time, in the next frame that is looked at; in the first
    frame of all at once.
    """

    def __init__(self, options: AssociationOptions | None = None) -> None:
        self.options = options or AssociationOptions()
        self._states = begun(np.zeros((0, 4)))
        self._keys: Ints = np.zeros(0, np.int64)  # (T,) their names in here, from 0
        self._ids: Ints = np.zeros(0, np.int64)  # (T,) from 1; 0 before they have begun
        self._phrases: Ints = np.zeros(0, np.int64)  # (T,)
        self._unseen: Ints = np.zeros(0, np.int64)  # (T,) frames since they were seen
        self._next_key, self._next_id = 0, 1
        self._is_first = True

    def step(
        self,
        boxes: npt.NDArray[np.floating],
        scores: npt.NDArray[np.floating],
        phrase_ids: Ints,
        *,
        frames: int = 1,
    ) -> Ints:
        """Take in a frame that was looked at.

        Args:
            boxes: (N, 4) xyxy, pixels.
            scores: (N,)
            phrase_ids: (N,)
            frames: How many have gone by since the last one that was looked at.
        Returns:
            (N,) the key of the track that each box is of, -1 for none; see `ids`.
        """
        self._states = predicted(self._states, frames)
        self._unseen = self._unseen + frames
        keys: Ints = np.full(len(boxes), -1, np.int64)
        tracks = np.full(len(self._keys), -1, np.int64)  # (T,) the box that each goes on with

        def join(own: npt.NDArray[np.bool_], free: npt.NDArray[np.bool_], overlap: float) -> None:
            rows, columns = np.nonzero(own & (tracks < 0))[0], np.nonzero(free & (keys < 0))[0]
            costs = 1 - iou(self._states.boxes[rows], np.asarray(boxes)[columns])
            costs[self._phrases[rows][:, None] != phrase_ids[columns]] = np.inf
            pairs: Pairs = cheapest_pairs(costs, 1 - overlap)
            tracks[rows[pairs.rows]] = columns[pairs.columns]
            keys[columns[pairs.columns]] = self._keys[rows[pairs.rows]]

        high = np.asarray(scores) > self.options.threshold
        low = ~high & (np.asarray(scores) > self.options.low)
        started, in_sight = self._ids > 0, self._unseen == frames
        join(started, high, LEAST_OVERLAP)
        join(started & in_sight, low, LEAST_OVERLAP_LOW)
        join(~started, high, LEAST_OVERLAP_NEW)
        self._go_on(tracks, np.asarray(boxes))
        new = np.nonzero(high & (keys < 0))[0]
        keys[new] = self._begin(np.asarray(boxes)[new], phrase_ids[new])
        return keys

    def ids(self, keys: Iterable[int]) -> Ints:
        """(K,) the ids of tracks, from 1 in their order; 0 for those that have not begun or ended.

        Args:
            keys: K of what `step` gave.
        """
        known = dict(zip(self._keys.tolist(), self._ids.tolist(), strict=True))
        return np.array([known.get(int(key), 0) for key in keys], np.int64)

    def _go_on(self, tracks: Ints, boxes: npt.NDArray[np.floating]) -> None:
        """Move the tracks that were seen to their boxes, and let go of those that have ended."""
        seen = tracks >= 0
        now = corrected(self._states.of(seen), boxes[tracks[seen]])
        self._states.mean[seen], self._states.covariance[seen] = now
        self._unseen[seen] = 0
        new = np.nonzero(seen & (self._ids == 0))[0]
        self._ids[new] = self._new_ids(len(new))
        stays = seen | ((self._ids > 0) & (self._unseen <= self.options.patience))
        self._states = self._states.of(stays)
        self._keys, self._ids = self._keys[stays], self._ids[stays]
        self._phrases, self._unseen = self._phrases[stays], self._unseen[stays]

    def _begin(self, boxes: npt.NDArray[np.floating], phrase_ids: Ints) -> Ints:
        """New tracks of (K, 4) boxes; returns their keys."""
        count = len(boxes)
        keys = np.arange(self._next_key, self._next_key + count)
        self._next_key += count
        ids = self._new_ids(count) if self._is_first else np.zeros(count, np.int64)
        self._is_first = False
        states = begun(boxes)
        self._states = States(
            np.concatenate([self._states.mean, states.mean]),
            np.concatenate([self._states.covariance, states.covariance]),
        )
        self._keys = np.concatenate([self._keys, keys])
        self._ids = np.concatenate([self._ids, ids])
        self._phrases = np.concatenate([self._phrases, phrase_ids])
        self._unseen = np.concatenate([self._unseen, np.zeros(count, np.int64)])
        return keys

    def _new_ids(self, count: int) -> Ints:
        self._next_id += count
        return np.arange(self._next_id - count, self._next_id)
