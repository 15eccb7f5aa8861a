"""Many pictures through a model: threads read ahead of it, and what goes in together has one size.

A picture in a batch of its own padded size gives what it gives alone, so that the order of the
pictures changes no result. Knows nothing about models, files or what is looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Generic, NamedTuple, TypeVar

from glip.errors import ImageError
from glip.processors import usable
from glip.settings import within

WAITING = 4
"""Batches' worth of pictures that wait for others of their size, before the oldest go alone."""
MOST_READERS = 8
"""Threads that read for a GPU: more than it can be fed by, on all but the smallest models."""

Key = TypeVar("Key")
"""What an item is told apart by."""
Source = TypeVar("Source")
"""What it is read from."""
Read = TypeVar("Read")
"""What the model needs of it."""
Result = TypeVar("Result")


class Pace(NamedTuple):
    """How many threads there are around a model."""

    workers: int = 2
    """That read pictures ahead of it."""
    at_once: int = 1
    """That ask it, with a batch each; one is the thread that wants the answers."""

    @classmethod
    def on_gpu(cls, at_once: int) -> Pace:
        """For a model that leaves the processors to those who read for it, and is faster."""
        return cls(max(2, min(MOST_READERS, usable() // 2)), at_once)

    def with_workers(self, workers: int | None) -> Pace:
        """So many threads that read; for None as it is."""
        return self if workers is None else self._replace(workers=workers)


USUAL = Pace()
"""On a CPU, which threads that ask would only share."""


def through_model(
    items: Iterable[tuple[Key, Source]],
    read: Callable[[Source], Read],
    answer: Callable[[Sequence[tuple[Key, Read]]], Sequence[Result]],
    *,
    size_of: Callable[[Read], Hashable],
    batch_size: int = 1,
    pace: Pace = USUAL,
) -> Iterator[tuple[Key, Result | Read | ImageError]]:
    """(key, answer) of all items as they are ready, in constant memory; see `in_order`.

    Pictures flow through threads that read them, then batches of them through threads that ask the
    model, and their answers to the caller, in the order of the batches. What was answered before an
    error is handed over before it is raised.

    Args:
        items: Key of each, and what it is read from; run through once, as far as is needed.
        read: Makes an item ready for the model; called from several threads. An `ImageError` is
            the answer for that item, any other error ends all.
        answer: The model, for items of one size; called from this thread only, unless the pace
            says otherwise.
        size_of: What must be equal in a batch. None: what was read is the answer itself, and needs
            no model.
        batch_size: Most items that `answer` gets at a time.
        pace: How many threads read, and how many ask.
    Raises:
        ConfigError: `batch_size` or a number of the pace is not a whole number from 1.
    """
    within("batch_size", batch_size, least=1, whole=True)
    within("workers", pace.workers, least=1, whole=True)
    within("at_once", pace.at_once, least=1, whole=True)
    waiting: dict[Hashable, list[tuple[Key, Read]]] = {}  # fewer than a batch of each size
    ahead = 2 * batch_size + pace.workers
    with (
        closing(read_ahead(items, read, workers=pace.workers, ahead=ahead)) as contents,
        closing(_Asked(answer, pace.at_once)) as asked,
    ):
        try:
            for key, content in contents:
                size = None if isinstance(content, ImageError) else size_of(content)
                if isinstance(content, ImageError) or size is None:
                    yield key, content
                    continue
                waiting.setdefault(size, []).append((key, content))
                if len(waiting[size]) == batch_size:
                    yield from asked.of(waiting.pop(size))
                elif sum(map(len, waiting.values())) >= WAITING * batch_size:
                    yield from asked.of(waiting.pop(next(iter(waiting))))
            while waiting:
                yield from asked.of(waiting.pop(next(iter(waiting))))
        except Exception:
            yield from asked.rest()
            raise
        yield from asked.rest()


class _Asked(Generic[Key, Read, Result]):
    """A model that is asked by so many threads, a batch each; by none but the caller's for one.

    Closed, it waits for nobody, and forgets what nobody has come for.
    """

    def __init__(
        self, answer: Callable[[Sequence[tuple[Key, Read]]], Sequence[Result]], at_once: int
    ) -> None:
        self._answer = answer
        self._most = at_once
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="ask") if at_once > 1 else None
        self._under_way: deque[tuple[list[Key], Future[Sequence[Result]]]] = deque()

    def of(self, batch: Sequence[tuple[Key, Read]]) -> Iterator[tuple[Key, Result]]:
        """Ask for a batch; gives the answers of the oldest one, if as many are under way."""
        keys = [key for key, _ in batch]
        if self._pool is None:
            yield from zip(keys, self._answer(batch), strict=True)
            return
        self._under_way.append((keys, self._pool.submit(self._answer, batch)))
        if len(self._under_way) > self._most:
            yield from self._oldest()

    def rest(self) -> Iterator[tuple[Key, Result]]:
        """All answers that are under way."""
        while self._under_way:
            yield from self._oldest()

    def _oldest(self) -> Iterator[tuple[Key, Result]]:
        keys, future = self._under_way.popleft()
        try:
            results = future.result()
        except Exception:
            self.close()  # those behind it are not told before it, nor in its place
            raise
        yield from zip(keys, results, strict=True)

    def close(self) -> None:
        self._under_way.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)  # see `read_ahead`


def read_ahead(
    items: Iterable[tuple[Key, Source]],
    read: Callable[[Source], Read],
    *,
    workers: int,
    ahead: int,
) -> Generator[tuple[Key, Read | ImageError], None, None]:
    """Items in their order, read by threads; at most `ahead` of them wait."""

    def attempt(source: Source) -> Read | ImageError:
        try:
            return read(source)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    reading: deque[tuple[Key, Future[Read | ImageError]]] = deque()
    try:
        for key, source in items:
            reading.append((key, pool.submit(attempt, source)))
            if len(reading) > ahead:
                key, future = reading.popleft()
                yield key, future.result()
        while reading:
            key, future = reading.popleft()
            yield key, future.result()
    finally:
        # Never waits: what is left half read may be collected in the middle of anything, also of
        # the start of another thread, which would then wait for itself.
        pool.shutdown(wait=False, cancel_futures=True)


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[tuple[int, Result]]:
    """Results by their numbers, which count from 0 without a gap and come nearly in order."""
    early: dict[int, Result] = {}
    due = 0
    for number, result in results:
        early[number] = result
        while due in early:
            yield due, early.pop(due)
            due += 1
