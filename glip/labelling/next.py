"""Which photos a person should look at next, where looking teaches most.

Those whose boxes the model is least sure of, the classes in turn, the one with fewest boxes first:
so that twenty photos are not twenty of the same thing. Memory does not grow with the photos. Knows
nothing about models or files.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

from glip.data.labels import Labelled

COUNT = 20
"""Photos that are named."""


class Doubt(NamedTuple):
    """A photo to look at, and why."""

    picture: str
    name: str
    """Of the class that is in doubt."""
    score: float
    """Of its least sure box."""


def label_next(pictures: Iterable[Labelled], count: int = COUNT) -> list[Doubt]:
    """The photos to look at next, the first one first.

    Args:
        pictures: With their labels; run through once. Labels without a score come from a person
            and are in no doubt.
        count: How many photos at most; each comes once.
    """
    boxes: Counter[str] = Counter()
    doubts: dict[str, list[tuple[float, str]]] = {}  # of each class the least sure, as a heap
    for one in pictures:
        least: dict[str, float] = {}
        for label in one.labels:
            boxes[label.name] += 1
            if label.score is not None:
                least[label.name] = min(label.score, least.get(label.name, label.score))
        for name, score in least.items():
            heap = doubts.setdefault(name, [])
            heapq.heappush(heap, (-score, one.picture))
            if len(heap) > count:
                heapq.heappop(heap)
    by_class = [
        [Doubt(picture, name, -score) for score, picture in sorted(doubts[name], reverse=True)]
        for name in sorted(doubts, key=lambda name: (boxes[name], name))
    ]
    chosen: dict[str, Doubt] = {}
    for row in zip_longest(*by_class):
        for doubt in row:
            if doubt is not None and doubt.picture not in chosen and len(chosen) < count:
                chosen[doubt.picture] = doubt
    return list(chosen.values())
