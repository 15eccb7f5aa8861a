"""Pictures through a model into a journal: read, detect and store at the same time.

Threads read pictures ahead of the model, one more stores records behind it. Several processes share
the pictures by their names, so that none has to tell another which are its own. Knows nothing about
what is looked for: the caller turns pictures into records.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

from glip import distributed
from glip.errors import ImageError, StorageError
from glip.images import unusable_name
from glip.jobs.batches import USUAL, Pace, in_order, through_model
from glip.jobs.journal import Journal, Row
from glip.progress import Progress, Step

logger = logging.getLogger(__name__)

ROUND_SECONDS = 30.0
"""How long each process works before all tell each other how far they are. Rounds of equal length
keep any of them from waiting longer than the others' patience for it."""
MOST_UNSTORED = 256
"""Records that wait for the disk before the model waits, too."""

Tally = Counter[str]
"""How many items there are of each status."""


class Sized(Protocol):
    """A picture that is ready for a model, of whatever make."""

    @property
    def padded_hw(self) -> tuple[int, int]:
        """Height and width with its padding: pictures that share it can share a batch."""


class Read(NamedTuple):
    """A picture that is ready for the model."""

    key: str
    picture: Any
    """What `prepare` made."""


class Settled(NamedTuple):
    """An item whose record needs no model."""

    status: str
    record: Any


Answer = Callable[[Sequence[Read]], Sequence[tuple[str, Any]]]
"""For pictures of one padded size the (status, record) of each."""

Source = TypeVar("Source")
"""What an item is read from: a picture, or whatever `prepare` understands."""


def file_mark(path: str | os.PathLike[str]) -> str:
    """What tells one content of a file from another: its size and when it was last written."""
    try:
        state = os.stat(path)
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"


def work_through(
    items: Iterable[tuple[str, Source]],
    answer: Answer,
    prepare: Callable[[Source], Sized | Settled],
    journal: Journal,
    *,
    batch_size: int = 1,
    pace: Pace = USUAL,
    mark: Callable[[Source], str] | None = None,
    what: str = "pictures",
    total: int | None = None,
    before: int = 0,
    progress: Progress | None = None,
) -> None:
    """Take every item that the journal does not have through the model and store its record.

    An item whose picture cannot be used is stored as "rejected" with the reason. In a job of
    several processes each calls this with the same items, takes its own share, and returns when all
    are through. Stopped at any moment, by whatever means, the next call goes on where it was.

    Args:
        items: name of each, and what it is read from; run through once. Names are unique.
        answer: makes the records, see there; called from as many threads as the pace says.
        prepare: reads one picture, or says that this item needs no model; called from several
            threads.
        journal: of this process.
        batch_size: most pictures that `answer` gets at a time; all of one padded size.
        pace: threads that read pictures, and that ask `answer`.
        mark: what tells one state of a source from another, such as a file's size and time. An
            item that the journal has with another mark is done anew. None: no state matters.
        what, total, before: for `progress`: what is done, how many there are, and how many of them
            earlier runs have done.
        progress: told now and then, on each process, what all processes have done.
    Raises:
        ConfigError: `batch_size` or a number of the pace is not a whole number from 1.
        StorageError: the journal cannot be written, for example because the disk is full.
    """
    rank, world = distributed.rank(), distributed.world_size()
    marks: dict[str, str] = {}  # of the items that are under way

    def own() -> Iterator[tuple[str, Source]]:
        for key, source in items:
            if zlib.crc32(key.encode("utf-8", "surrogatepass")) % world != rank:
                continue
            state = None if mark is None else mark(source)
            if not journal.is_done(key, state):
                marks[key] = state or ""
                yield key, source

    def tell(tally: Tally) -> None:
        if progress is not None:
            progress(Step(what, before + sum(tally.values()), total, tally=dict(tally)))

    tally = Tally()
    tell(tally)
    round_end = time.monotonic() + ROUND_SECONDS
    with _Store(journal) as store:
        done = answers(own(), answer, prepare, batch_size=batch_size, pace=pace)
        for key, status, record in done:
            store.add(Row(key, status, record, marks.pop(key)))
            tally[status] += 1
            if world == 1:
                tell(tally)
            elif time.monotonic() >= round_end:
                tell(_over_all(tally, busy=True)[0])
                round_end = time.monotonic() + ROUND_SECONDS
    busy = world > 1
    while busy:  # others may need more rounds
        all_of_them, busy = _over_all(tally, busy=False)
        tell(all_of_them)


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
    prepare: Callable[[Source], Sized | Settled],
    *,
    batch_size: int,
    pace: Pace,
) -> Iterator[tuple[str, str, Any]]:
    """(key, status, record) of all items as they are ready; not in their order.

    Args:
        items, answer, prepare, batch_size, pace: see `work_through`.
    Raises:
        ConfigError: `batch_size` or a number of the pace is not a whole number from 1.
    """

    def read(item: tuple[str, Source]) -> Sized | Settled:
        key, source = item
        if (fault := unusable_name(key)) is not None:
            raise ImageError(fault)
        return prepare(source)

    def ask(batch: Sequence[tuple[str, Sized | Settled]]) -> list[Settled]:
        pictures = [Read(key, one) for key, one in batch if not isinstance(one, Settled)]
        return [Settled(*record) for record in answer(pictures)]

    results = through_model(
        ((item[0], item) for item in items),
        read,
        ask,
        size_of=lambda one: None if isinstance(one, Settled) else one.padded_hw,
        batch_size=batch_size,
        pace=pace,
    )
    for key, result in results:
        if isinstance(result, ImageError):
            yield key, "rejected", str(result)
        else:
            assert isinstance(result, Settled)
            yield key, *result


def in_turn(
    items: Iterable[tuple[str | None, Source]],
    answer: Answer,
    prepare: Callable[[Source], Sized],
    journal: Journal | None,
    *,
    batch_size: int,
    pace: Pace,
) -> Generator[tuple[Source, Any], None, None]:
    """All items in their order, each with its record: the journal's, or else the model's.

    What the model answers goes into the journal, so stopped at any moment, the next call goes on
    where it was. Close it, as any generator that may be left before its end.

    Args:
        items: Name of each, in the order of names, and what it is read from; run through once, no
            further ahead than batches need. None for a name: not for the model.
        answer, prepare, batch_size, pace: See `work_through`.
        journal: Of the only process; None to keep nothing.
    Yields:
        Item and record; None as its record for an item without a name, or one that could not be
        used, which is "rejected" in the journal.
    Raises:
        ConfigError: `batch_size` or a number of the pace is not a whole number from 1.
        StorageError: The journal cannot be written.
    """
    under_way: dict[int, tuple[str | None, Source]] = {}
    past = _Past(journal)

    def numbered() -> Iterator[tuple[int, tuple[Source, Settled | None]]]:
        for number, (key, source) in enumerate(items):
            under_way[number] = key, source
            yield number, (source, Settled("", None) if key is None else past.of(key))

    def read(item: tuple[Source, Settled | None]) -> Sized | Settled:
        source, settled = item
        return prepare(source) if settled is None else settled

    def ask(batch: Sequence[tuple[int, Sized | Settled]]) -> list[Settled]:
        keys = [under_way[number][0] or "" for number, _ in batch]
        pictures = [Read(key, one) for key, (_, one) in zip(keys, batch, strict=True)]
        records = [Settled(*record) for record in answer(pictures)]
        for key, record in zip(keys, records, strict=True):
            keep(Row(key, *record))
        return records

    with contextlib.ExitStack() as stack:
        keep = (lambda row: None) if journal is None else stack.enter_context(_Store(journal)).add
        results = through_model(
            numbered(),
            read,
            ask,
            size_of=lambda one: None if isinstance(one, Settled) else one.padded_hw,
            batch_size=batch_size,
            pace=pace,
        )
        for number, result in in_order(results):
            key, source = under_way.pop(number)
            if isinstance(result, ImageError):
                logger.warning("%s", result)
                keep(Row(key or "", "rejected", str(result)))
                yield source, None
            else:
                assert isinstance(result, Settled)
                yield source, None if result.status == "rejected" else result.record


class _Past:
    """What a journal had in the beginning, asked for in the order of keys."""

    def __init__(self, journal: Journal | None) -> None:
        self._rows = iter(()) if journal is None else journal.read()
        self._next = next(self._rows, None)

    def of(self, key: str) -> Settled | None:
        while self._next is not None and self._next[0] < key:
            self._next = next(self._rows, None)
        if self._next is None or self._next[0] != key:
            return None
        return Settled(*self._next[1:])


class _Store:
    """Writes records while the model goes on; whatever came meanwhile is the next transaction.

    Any thread may add to it. One that still waits for a model when all has ended adds nothing.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._lock = threading.Lock()
        self._open = True
        self._rows: list[Row] = []
        self._writing: Future[None] | None = None

    def __enter__(self) -> _Store:
        return self

    def add(self, row: Row) -> None:
        """Take over a finished record; raises what became of earlier ones."""
        with self._lock:
            if not self._open:
                return
            self._rows.append(row)
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
        with self._lock:
            self._open = False
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
