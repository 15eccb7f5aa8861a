"""Which records of which sources make the batches of a run.

Everything follows from run seed, epoch and position, so a resumed run draws as one that never
stopped. Knows nothing about what the records are. Letters: S steps of an epoch, B draws of a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from glip.errors import ConfigError


class Draw(NamedTuple):
    """What to make a sample of."""

    source: int
    record: int
    seed: int


class MixtureSampler(Sampler[list[Draw]]):
    """Batches of draws from weighted sources, for any number of epochs and from any step on.

    An epoch holds each record as often as its factor and the weight of its source say (a fraction
    is a chance, drawn anew for every epoch), all sources shuffled together; what is left over after
    the last full batch is dropped. Everything follows from seed and step, so `start` costs nothing.

    Args:
        sizes: Number of records of each source.
        batch_size: Draws of one process for one step.
        steps: Of the whole run; iteration goes from `start` to here.
        seed: Of the run.
        weights: How often an epoch goes through each source; by default once.
        repeats: Of each source and record, a factor of its own; by default 1.
        start: Step to begin with, that is, how many are done.
        rank: Number of this process.
        world_size: How many processes share the batches.
        is_tall: Of each source and record, whether it is higher than wide: a batch then holds tall
            or wide pictures only, but for the last ones of an epoch, which saves padding.
    Raises:
        ConfigError: no records, or a size or weight that is not positive.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        steps: int,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        repeats: Sequence[npt.NDArray[np.float64]] | None = None,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        is_tall: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        weights = [1.0] * len(sizes) if weights is None else list(weights)
        if not sizes or min(sizes) < 1:
            raise ConfigError(f"sources need at least one record each, got {list(sizes)}")
        if len(weights) != len(sizes) or min(weights) <= 0:
            raise ConfigError(f"weights {weights} must be above zero, one for each of {len(sizes)}")
        if batch_size < 1 or not 0 <= start <= steps:
            raise ConfigError(
                f"batch_size {batch_size} must be positive and start {start} lie between 0 "
                f"and {steps}"
            )
        repeats = [np.ones(size) for size in sizes] if repeats is None else repeats
        self._counts, self._shares = [], []
        for weight, factors in zip(weights, repeats, strict=True):
            total = float(factors.sum())
            self._counts.append(max(1, round(weight * total)))
            self._shares.append(factors * (self._counts[-1] / total))
        self._batch = batch_size * world_size
        self._steps, self._start, self._seed = steps, start, seed
        self._rank, self._world_size = rank, world_size
        self._is_tall = is_tall
        self.steps_per_epoch = max(1, sum(self._counts) // self._batch)

    def __len__(self) -> int:
        return self._steps - self._start

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = -1
        plan: npt.NDArray[np.int64] = np.zeros((0, 0, 2), dtype=np.int64)
        for step in range(self._start, self._steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                plan = self._plan(epoch)
            batch = plan[step % self.steps_per_epoch]
            yield [
                Draw(int(source), int(index), _seed_of(self._seed, step, place))
                for place, (source, index) in enumerate(batch)
                if place % self._world_size == self._rank
            ]

    def _plan(self, epoch: int) -> npt.NDArray[np.int64]:
        """(S, B, 2): source and record of each draw of each step of an epoch, over all
        processes.
        """
        rng = np.random.default_rng([self._seed, epoch])
        parts = []
        for source, (shares, count) in enumerate(zip(self._shares, self._counts, strict=True)):
            # Records laid end to end in random order, each as long as its share, and a ruler of
            # unit steps over them: so each is met as often as its share, rounded up or down, and
            # all epochs are equally long.
            order = rng.permutation(len(shares))
            met = shares[order].cumsum().searchsorted(rng.random() + np.arange(count), side="right")
            records = order[np.minimum(met, len(shares) - 1)]
            parts.append(np.stack([np.full(count, source), records], 1))
        draws = rng.permutation(np.concatenate(parts))
        if len(draws) < self._batch:  # a data set smaller than one batch
            draws = np.resize(draws, (self._batch, 2))
        if self._is_tall is None:
            return draws[: self.steps_per_epoch * self._batch].reshape(-1, self._batch, 2)
        tall = np.array([self._is_tall[source][record] for source, record in draws])
        batches, rests = [], []
        for group in (draws[tall], draws[~tall]):
            full = len(group) // self._batch * self._batch
            batches.append(group[:full].reshape(-1, self._batch, 2))
            rests.append(group[full:])
        rest = np.concatenate(rests)
        full = len(rest) // self._batch * self._batch
        batches.append(rest[:full].reshape(-1, self._batch, 2))
        return rng.permutation(np.concatenate(batches))


def _seed_of(seed: int, step: int, place: int) -> int:
    """A seed for one draw of a run, unrelated to that of its neighbours."""
    digest = hashlib.blake2b(f"{seed}/{step}/{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
