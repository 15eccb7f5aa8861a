"""What a run is fed: which records each step sees, and the batches that are made of them.

Knows nothing about losses, weights or files of a run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import torch

from glip.data.batch import Batch
from glip.data.loader import TrainingSet, training_loader
from glip.data.mixture import MixtureSampler
from glip.data.sources import Source
from glip.detector import Detector
from glip.distributed import rank, world_size
from glip.errors import ConfigError, DataError, GlipError
from glip.training.features import CachedBatches, CachedPyramids, FeatureCache
from glip.training.run_config import RunConfig

logger = logging.getLogger(__name__)

FEWEST = 100
"""The share of unreadable pictures is one of at least so many, or of all there are."""


class Feed:
    """The batches of a run, of this process, from any step on.

    Args:
        config: The run.
        sources: What it draws from.
        detector: Of its model, with what is learned in it.
        device: Of this process.
    Raises:
        ConfigError: A batch that cannot be divided, or a cache for a model that is.
    """

    def __init__(
        self,
        config: RunConfig,
        sources: Sequence[Source],
        detector: Detector,
        device: torch.device,
    ) -> None:
        self._config, self._sources, self._device = config, sources, device
        self._model = detector.model
        self.accumulate = config.accumulate
        """Batches of one step."""
        self._pictures, rest = divmod(config.batch_size, world_size() * config.accumulate)
        if rest or not self._pictures:
            raise ConfigError(
                f"batch_size {config.batch_size} cannot be divided among {world_size()} processes "
                f"and {config.accumulate} batches of each"
            )
        self._cache: FeatureCache | None = None
        if config.data.cache:
            if config.strategy == "fsdp" and world_size() > 1:
                raise ConfigError(
                    "data.cache runs parts of the model by themselves, which strategy: fsdp has "
                    "divided; use strategy: ddp, or data.cache=false"
                )
            self._cache = FeatureCache(config.data.cache_gib)
            # Pictures one by one, see `glip.training.features`.
            self._pictures, self.accumulate = 1, self._pictures * self.accumulate
        self._samples = TrainingSet(
            sources,
            detector.tokenizer,
            detector.config.pixels,
            config.data.augment,
            max_tokens=detector.config.text.max_tokens,
            passes=None if detector.task is None else detector.task.passes,
            raw=device.type == "cuda" and self._cache is None,
        )

    @property
    def epoch(self) -> float:
        """Steps of the optimizer in an epoch."""
        return self._draws(0, 0).steps_per_epoch / self.accumulate

    def encode_image(self) -> CachedPyramids | None:
        """What evaluations see pictures with, if the backbone's features are kept."""
        return None if self._cache is None else CachedPyramids(self._model, self._cache)

    def batches(self, steps: int, start: int, resting: Sequence[str]) -> Iterable[Batch]:
        """Batches of all steps but the first ones.

        Args:
            steps: Of the whole run.
            start: How many of them are done.
            resting: Modules that rest, from `glip.training.freezing.freeze`.
        Raises:
            ConfigError: Nothing can be cached.
            DataError: While they are read: too many pictures cannot be.
        """
        draws = self._draws(steps, start)
        batches: Iterable[Batch]
        if self._cache is not None:
            batches = CachedBatches(
                self._samples, draws, self._model, resting, self._cache, self._device
            )
        else:
            batches = training_loader(
                self._samples,
                draws,
                workers=self._config.data.workers,
                pin_memory=self._device.type == "cuda",
            )
        # Begun here, as a loader then draws from the global generators, which a resumed run sets
        # to where they were before it takes the first batch.
        return readable(iter(batches), len(self._samples), self._config.data.max_unreadable)

    def _draws(self, steps: int, start: int) -> MixtureSampler:
        grouped = self._config.data.group_by_shape and self._pictures > 1
        return MixtureSampler(
            [len(source) for source in self._sources],
            batch_size=self._pictures,
            steps=steps * self.accumulate,
            seed=self._config.seed,
            weights=[source.weight for source in self._config.data.sources],
            repeats=[source.repeats() for source in self._sources],
            start=start * self.accumulate,
            rank=rank(),
            world_size=world_size(),
            is_tall=[source.is_tall() for source in self._sources] if grouped else None,
        )


def readable(batches: Iterable[Batch], pictures: int, most: float) -> Iterator[Batch]:
    """The batches, as long as nearly all of their pictures can be read.

    Each picture that cannot be is named once.

    Args:
        batches: To go through.
        pictures: How many there are to draw from.
        most: Share of unreadable ones that is borne, of those that were drawn so far.
    Raises:
        DataError: More than that cannot be read.
    """
    unreadable: set[str] = set()
    drawn = 0
    for batch in _with_plain_errors(batches):
        drawn += len(batch)
        for reason in batch.unreadable:
            if reason not in unreadable:
                unreadable.add(reason)
                logger.warning("skipped: %s", reason)
        of = min(pictures, max(drawn, FEWEST))
        if len(unreadable) > most * of:
            raise DataError(
                f"{len(unreadable)} of {of} pictures cannot be read, more than "
                f"{most:.0%}: {reason}; `glip doctor` names them all, data.max_unreadable bears "
                "more"
            )
        yield batch
    if unreadable:
        logger.warning("%d pictures could not be read", len(unreadable))


def _with_plain_errors(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches; errors of other processes say what they said there, without its traceback."""
    try:
        yield from batches
    except GlipError as error:
        # A worker's error has for its message the traceback, whose last line is "kind: message".
        *traceback, last = str(error).strip().splitlines()
        if not traceback:
            raise
        raise type(error)(last.partition(": ")[2]) from error
