"""Pictures through a model into a journal: read, detect and store at the same time.

Threads read pictures ahead of the model, one more stores records behind it. Several processes share
the pictures by their names, so that none has to tell another which are its own. Knows nothing about
what is looked for: the caller turns pictures into records.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from glip import distributed
from glip.detector import Prepared
from glip.errors import ConfigError, ImageError, StorageError
from glip.images import unusable_name
from glip.jobs.journal import Journal
from glip.pixels import padded_hw

ROUND_SECONDS = 30.0
"""How long each process works before all tell each other how far they are. Rounds of equal length
keep any of them from waiting longer than the others' patience for it."""
MOST_UNSTORED = 256
"""Records that wait for the disk before the model waits, too."""

Tally = Counter[str]
"""How many items there are of each status."""


class Read(NamedTuple):
    """A picture that is ready for the model."""

    key: str
    picture: Prepared


class Settled(NamedTuple):
    """An item whose record needs no model."""

    status: str
    record: Any


Answer = Callable[[Sequence[Read]], Sequence[tuple[str, Any]]]
"""For pictures of one padded size the (status, record) of each."""

Source = TypeVar("Source")
"""What an item is read from: a picture, or whatever `prepare` understands."""


def work_through(
    items: Iterable[tuple[str, Source]],
    answer: Answer,
    prepare: Callable[[Source], Prepared | Settled],
    journal: Journal,
    *,
    batch_size: int = 1,
    workers: int = 2,
    progress: Callable[[Tally], object] = lambda tally: None,
) -> None:
    """Take every item that the journal does not have through the model and store its record.

    An item whose picture cannot be used is stored as "rejected" with the reason. In a job of
    several processes each calls this with the same items, takes its own share, and returns when all
    are through. Stopped at any moment, by whatever means, the next call goes on where it was.

    Args:
        items: name of each, and what it is read from; run through once. Names are unique.
        answer: makes the records, see there.
        prepare: reads one picture, or says that this item needs no model; called from several
            threads.
        journal: of this process.
        batch_size: most pictures that `answer` gets at a time; all of one padded size.
        workers: threads that read pictures.
        progress: told now and then, on each process, what all processes have done in this run.
    Raises:
        ConfigError: `batch_size` or `workers` is not a whole number from 1.
        StorageError: the journal cannot be written, for example because the disk is full.
    """
    rank, world = distributed.rank(), distributed.world_size()
    own = (
        (key, source)
        for key, source in items
        if zlib.crc32(key.encode("utf-8", "surrogatepass")) % world == rank
        and not journal.is_done(key)
    )
    tally = Tally()
    round_end = time.monotonic() + ROUND_SECONDS
    with _Store(journal) as store:
        for records in answers(own, answer, prepare, batch_size=batch_size, workers=workers):
            store.add(records)
            tally.update(status for _, status, _ in records)
            if world == 1:
                progress(tally)
            elif time.monotonic() >= round_end:
                progress(_over_all(tally, busy=True)[0])
                round_end = time.monotonic() + ROUND_SECONDS
    if world > 1:
        busy = True
        while busy:  # others may need more rounds
            total, busy = _over_all(tally, busy=False)
            progress(total)
    else:
        progress(tally)


def _over_all(tally: Tally, *, busy: bool) -> tuple[Tally, bool]:
    """The sum of all processes' tallies, and whether any of them is busy. A collective call."""
    total, anyone = Tally(), False
    for one, still in distributed.gather_objects((tally, busy)):
        anyone |= still
        total.update(one)
    return total, anyone


def answers(
    items: Iterable[tuple[str, Source]],
    answer: Answer,
    prepare: Callable[[Source], Prepared | Settled],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[list[tuple[str, str, Any]]]:
    """(key, status, record) of all items, a batch at a time; not in their order.

    Args:
        items, answer, prepare, batch_size, workers: see `work_through`.
    Raises:
        ConfigError: `batch_size` or `workers` is not a whole number from 1.
    """
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number from 1, got {value!r}")
    waiting: dict[tuple[int, int], list[Read]] = {}  # by padded size, fewer than a batch of each
    for key, result in _read_ahead(items, prepare, workers=workers, ahead=2 * batch_size + workers):
        if isinstance(result, ImageError):
            yield [(key, "rejected", str(result))]
            continue
        if isinstance(result, Settled):
            yield [(key, *result)]
            continue
        size = padded_hw(result.resized_hw)
        waiting.setdefault(size, []).append(Read(key, result))
        if len(waiting[size]) == batch_size:
            yield _answered(waiting.pop(size), answer)
        elif sum(map(len, waiting.values())) >= 4 * batch_size:  # sizes that are rare
            yield _answered(waiting.pop(next(iter(waiting))), answer)
    for batch in waiting.values():
        yield _answered(batch, answer)


def _answered(batch: Sequence[Read], answer: Answer) -> list[tuple[str, str, Any]]:
    records = answer(batch)
    return [(read.key, *record) for read, record in zip(batch, records, strict=True)]


def _read_ahead(
    items: Iterable[tuple[str, Source]],
    prepare: Callable[[Source], Prepared | Settled],
    *,
    workers: int,
    ahead: int,
) -> Iterator[tuple[str, Prepared | Settled | ImageError]]:
    """Pictures in order, read by threads; at most `ahead` of them wait."""

    def read(source: Source) -> Prepared | Settled | ImageError:
        try:
            return prepare(source)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    reading: deque[tuple[str, Future[Prepared | Settled | ImageError]]] = deque()
    try:
        for key, source in items:
            fault = unusable_name(key)
            if fault is not None:
                yield key, ImageError(fault)
                continue
            reading.append((key, pool.submit(read, source)))
            if len(reading) > ahead:
                key, future = reading.popleft()
                yield key, future.result()
        while reading:
            key, future = reading.popleft()
            yield key, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Store:
    """Writes records while the model goes on; whatever came meanwhile is the next transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._rows: list[tuple[str, str, Any]] = []
        self._writing: Future[None] | None = None

    def __enter__(self) -> _Store:
        return self

    def add(self, rows: Sequence[tuple[str, str, Any]]) -> None:
        """Take over finished records; raises what became of earlier ones."""
        self._rows += rows
        if self._writing is None or self._writing.done() or len(self._rows) >= MOST_UNSTORED:
            self._write()

    def _write(self) -> None:
        if self._writing is not None:
            self._writing.result()
        self._writing = self._pool.submit(self._journal.write, self._rows)
        self._rows = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Store the rest, also when something else has gone wrong meanwhile."""
        try:
            if not isinstance(error, StorageError):
                self._write()
                assert self._writing is not None
                self._writing.result()
        except StorageError:
            if error is None:
                raise
        finally:
            self._pool.shutdown()
