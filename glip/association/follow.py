"""Detections frame by frame -> the same with tracks, one look later, in constant memory.

Not every frame need be looked at. A result comes when the next look is done: by then it is known
which boxes were the beginning of a track, and where a thing was in the frames between, on the
straight line from one look to the next. Letters: N boxes of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from glip.association.byte_track import Tracker
from glip.structures import Detections

Item = TypeVar("Item")
"""Whatever a frame is told apart by."""


class _Look(NamedTuple):
    found: Detections
    keys: npt.NDArray[np.int64]
    """(N,) of the tracks, as the tracker has them."""
    ids: npt.NDArray[np.int64]
    """(N,) as far as they had begun by then."""


def follow(
    frames: Iterable[tuple[Item, Detections | None]], tracker: Tracker
) -> Iterator[tuple[Item, Detections]]:
    """Every frame with what is tracked in it, each box with its track's id.

    Args:
        frames: In their order; None where nobody looked. Of the frames before the first look and
            after the last one nothing is known, so look at both ends.
        tracker: Of this clip.
    """
    before: _Look | None = None
    waiting: list[Item] = []
    for item, found in frames:
        if found is None:
            waiting.append(item)
            continue
        since = len(waiting) if before is not None else 1
        keys = tracker.step(found.boxes, found.scores, found.phrase_ids, frames=since)
        now = _Look(found, keys, tracker.ids(keys))
        if before is None:
            nothing = _tracked(found[:0], keys[:0])
            yield from ((early, nothing) for early in waiting)
        else:
            yield from _stretch(waiting, before, now, tracker.ids(before.keys))
        before, waiting = now, [item]
    if before is not None:
        yield waiting[0], _tracked(before.found, before.ids)
        nothing = _tracked(before.found[:0], before.ids[:0])
        yield from ((late, nothing) for late in waiting[1:])


def _stretch(
    items: list[Item], before: _Look, now: _Look, ids: npt.NDArray[np.int64]
) -> Iterator[tuple[Item, Detections]]:
    """The frames from one look up to the next.

    Args:
        items: Of the frames, the first of which was looked at.
        before, now: The two looks.
        ids: (N,) of the tracks of the first look, as they are known now.
    """
    ids = np.maximum(ids, before.ids)  # those that have ended since had begun before
    yield items[0], _tracked(before.found, ids)
    again = {key: row for row, key in enumerate(now.keys.tolist()) if key >= 0}
    rows = [row for row, key in enumerate(before.keys.tolist()) if key in again and ids[row]]
    later = now.found[[again[int(before.keys[row])] for row in rows]]
    both, ids = before.found[rows], ids[rows]
    for number, item in enumerate(items[1:], start=1):
        share = np.float32(number / len(items))
        between = replace(
            both,
            boxes=both.boxes + share * (later.boxes - both.boxes),
            scores=both.scores + share * (later.scores - both.scores),
            source=None,  # another picture
        )
        yield item, _tracked(between, ids)


def _tracked(found: Detections, ids: npt.NDArray[np.int64]) -> Detections:
    """The boxes of tracks, by their ids."""
    rows = np.nonzero(ids)[0]
    rows = rows[np.argsort(ids[rows], kind="stable")]
    return replace(found[rows], track_ids=ids[rows])


def looks(items: Iterable[Item], every: int) -> Iterator[tuple[Item, bool]]:
    """Each item, and whether to look at it: every n-th from the first on, and the last."""
    held: tuple[Item, bool] | None = None
    for number, item in enumerate(items):
        if held is not None:
            yield held
        held = item, number % every == 0
    if held is not None:
        yield held[0], True
