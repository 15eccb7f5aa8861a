"""Many pictures through a model: threads read ahead of it, and what goes in together has one size.

A picture in a batch of its own padded size gives what it gives alone, so that the order of the
pictures changes no result. Knows nothing about models, files or what is looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from glip.errors import ImageError
from glip.settings import within

WAITING = 4
"""Batches' worth of pictures that wait for others of their size, before the oldest go alone."""

Key = TypeVar("Key")
"""What an item is told apart by."""
Source = TypeVar("Source")
"""What it is read from."""
Read = TypeVar("Read")
"""What the model needs of it."""
Result = TypeVar("Result")


def through_model(
    items: Iterable[tuple[Key, Source]],
    read: Callable[[Source], Read],
    answer: Callable[[Sequence[tuple[Key, Read]]], Sequence[Result]],
    *,
    size_of: Callable[[Read], Hashable],
    batch_size: int = 1,
    workers: int = 2,
) -> Iterator[tuple[Key, Result | Read | ImageError]]:
    """(key, answer) of all items as they are ready, in constant memory; see `in_order`.

    Args:
        items: Key of each, and what it is read from; run through once, as far as is needed.
        read: Makes an item ready for the model; called from several threads. An `ImageError` is
            the answer for that item, any other error ends all.
        answer: The model, for items of one size; called from this thread only.
        size_of: What must be equal in a batch. None: what was read is the answer itself, and needs
            no model.
        batch_size: Most items that `answer` gets at a time.
        workers: Threads that read.
    Raises:
        ConfigError: `batch_size` or `workers` is not a whole number from 1.
    """
    within("batch_size", batch_size, least=1, whole=True)
    within("workers", workers, least=1, whole=True)
    waiting: dict[Hashable, list[tuple[Key, Read]]] = {}  # fewer than a batch of each size

    def answered(size: Hashable) -> Iterator[tuple[Key, Result]]:
        batch = waiting.pop(size)
        for (key, _), result in zip(batch, answer(batch), strict=True):
            yield key, result

    ahead = 2 * batch_size + workers
    with closing(read_ahead(items, read, workers=workers, ahead=ahead)) as contents:
        for key, content in contents:
            size = None if isinstance(content, ImageError) else size_of(content)
            if isinstance(content, ImageError) or size is None:
                yield key, content
                continue
            waiting.setdefault(size, []).append((key, content))
            if len(waiting[size]) == batch_size:
                yield from answered(size)
            elif sum(map(len, waiting.values())) >= WAITING * batch_size:
                yield from answered(next(iter(waiting)))
    while waiting:
        yield from answered(next(iter(waiting)))


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
