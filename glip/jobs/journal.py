"""What a long run over many items has done so far, kept so that a kill loses next to nothing.

One SQLite file for each process, in one folder: a transaction is on disk or it is not, whatever
happens to the process, and nothing is held in memory. Knows nothing about what the records mean.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

from glip.errors import ConfigError, StorageError
from glip.files import failing_disk
from glip.jobs.folder import check_same, locked

LAYOUT = 2
"""Number of the tables below, SQLite's `user_version` of each file; 0 is a file without tables."""
PATIENCE = 60.0
"""Seconds to wait while another process of the job is inside a transaction."""
ROWS_AT_A_TIME = 256
"""Rows that `read` holds of each file. No query stays open between them, as that would keep the
process whose file it is from writing."""

_TABLES = (
    "CREATE TABLE job (settings BLOB NOT NULL)",
    "CREATE TABLE records (key BLOB PRIMARY KEY, status TEXT NOT NULL, record BLOB NOT NULL, "
    "mark TEXT NOT NULL)",
    "CREATE INDEX by_status ON records (status, key)",
)


class Row(NamedTuple):
    """What is kept of an item."""

    key: str
    """Its name."""
    status: str
    """A word such as "done" or "rejected"."""
    record: Any
    """Anything that JSON can hold."""
    mark: str = ""
    """The state of the item's source, see `Journal.is_done`."""


class Journal:
    """Crash-safe store of one record for each input item.

    A kill at any moment loses at most the transaction that is open; memory does not grow with the
    number of items. Every method may be called from any thread.

    Each process of a job has a `Journal` of its own on the same folder: it writes to its own file
    and sees the records of all of them, also of processes that an earlier run had and this one has
    not. Nothing keeps two processes from taking up the same item: the caller shares them out.

    Attributes:
        folder: where the files lie.
        job: the settings, as JSON gives them back.
    """

    def __init__(
        self, folder: str | os.PathLike[str], job: Mapping[str, Any], *, rank: int = 0
    ) -> None:
        """Create the journal, or continue it.

        Args:
            folder: made if it does not exist; holds nothing but the journal's files.
            job: all that the records depend on, such as settings, ontology, fingerprint of the
                weights and version of the program; anything that JSON can hold.
            rank: number of this process, which no other running process of the job has.
        Raises:
            ConfigError: the folder holds another job; the message names the settings that differ.
            StorageError: the folder or a file in it cannot be used, or is in use by another run.
        """
        self.folder = Path(folder)
        self.job: dict[str, Any] = json.loads(json.dumps(job))
        self._path = self.folder / f"journal-{rank:05d}.sqlite"
        self._mutex = threading.Lock()
        self._others: dict[Path, sqlite3.Connection] = {}
        self._open_files = contextlib.ExitStack()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "it is a file" if os.path.isfile(self.folder) else error.strerror
            raise StorageError(f"folder {folder} cannot be made: {reason}") from error
        try:
            # Other processes stay away from this rank's file.
            self._open_files.enter_context(locked(self._path.with_suffix(".lock")))
            self._own = self._connect(self._path, "rwc")
            with _naming(self._path):
                self._prepare()
            self._refresh()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; what was written stays."""
        self._open_files.close()
        self._others = {}

    def is_done(self, key: str, mark: str | None = None) -> bool:
        """Whether any process of the job, in this run or an earlier one, has written this item.

        Whatever its status. Files that processes of this run have made since this journal was
        opened are seen after the next `read` or `count`.

        Args:
            key: of the item.
            mark: the state of its source now. A record of another state is dropped, so that the
                item is done anew. None: any state will do.
        """
        name = _encode(key)
        with self._mutex:
            for path, connection in self._all():
                with _naming(path):
                    query = "SELECT mark FROM records WHERE key = ?"
                    known = connection.execute(query, (name,)).fetchone()
                    if known is not None and mark in (None, *known):
                        return True
                    if known is not None:
                        _drop(connection, [name])
        return False

    def write(self, rows: Iterable[Row | tuple[str, str, Any]]) -> None:
        """Store records, all of them or none, in one transaction; they are on disk on return.

        Args:
            rows: an item that this process wrote before is replaced. Three parts of a row are
                enough where no item has a mark.
        Raises:
            StorageError: the disk is full or fails. What was written before stays, and can be read.
        """
        values = [
            (_encode(row.key), row.status, _dumps(row.record), row.mark)
            for row in (Row(*row) for row in rows)
        ]
        assert all(value[0] for value in values), "an item needs a name"
        with self._mutex, _naming(self._path), _transaction(self._own) as cursor:
            cursor.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", values)

    def read(self, status: str | None = None) -> Iterator[tuple[str, str, Any]]:
        """(key, status, record) of every item, ordered by key, in constant memory.

        Records may be written meanwhile; those that sort before what was read last are left out.

        Args:
            status: only the items of this status.
        Raises:
            StorageError: a file is damaged.
        """
        with self._mutex:
            self._refresh()
            files = self._all()
        yield from _merged(files, status, self._mutex)

    def count(self, status: str | None = None) -> int:
        """How many items were written, or how many with this status."""
        where, values = ("", ()) if status is None else (" WHERE status = ?", (status,))
        total = 0
        with self._mutex:
            self._refresh()
            for path, connection in self._all():
                with _naming(path):
                    query = f"SELECT count(*) FROM records{where}"
                    total += connection.execute(query, values).fetchone()[0]
        return total

    def forget(self, status: str) -> int:
        """Drop the items of a status, so that they are done anew; returns how many.

        In the files of all processes, so only while this is the one that runs.
        """
        dropped = 0
        with self._mutex:
            self._refresh()
            for path, connection in self._all():
                with _naming(path), _transaction(connection) as cursor:
                    cursor.execute("DELETE FROM records WHERE status = ?", (status,))
                    dropped += cursor.rowcount
        return dropped

    def forget_changed(self, now: Callable[[str], str]) -> int:
        """Drop the items whose source is no longer as it was, so that they are done anew.

        In the files of all processes, so only while this is the one that runs.

        Args:
            now: from the mark of an item, which says what its source is, that of the same source
                now; an empty one says nothing.
        Returns:
            How many items were dropped.
        """
        dropped = 0
        with self._mutex:
            self._refresh()
            for path, connection in self._all():
                with _naming(path):
                    rows = connection.execute("SELECT key, mark FROM records")
                    changed = [key for key, mark in rows if mark and now(mark) not in ("", mark)]
                    _drop(connection, changed)
                    dropped += len(changed)
        return dropped

    def _all(self) -> list[tuple[Path, sqlite3.Connection]]:
        return [(self._path, self._own), *self._others.items()]

    def _connect(self, path: Path, mode: str) -> sqlite3.Connection:
        connection = _open(path, mode)
        self._open_files.callback(connection.close)
        return connection

    def _prepare(self) -> None:
        """Make the tables of a new file, check the job of an old one."""
        # A rollback journal, not a write-ahead log: that one needs memory shared between the
        # processes, which a network file system does not have.
        self._own.execute("PRAGMA journal_mode = TRUNCATE").fetchall()
        if _layout(self._own) == 0:
            # No other process may have begun another job here.
            self._refresh()
            with _transaction(self._own) as cursor:
                for statement in _TABLES:
                    cursor.execute(statement)
                cursor.execute("INSERT INTO job VALUES (?)", (_dumps(self.job),))
                cursor.execute(f"PRAGMA user_version = {LAYOUT}")
        self._check_job(self._path, self._own)

    def _check_job(self, path: Path, connection: sqlite3.Connection) -> None:
        _check_layout(path, connection)
        (settings,) = connection.execute("SELECT settings FROM job").fetchone()
        if connection.execute("SELECT 1 FROM records LIMIT 1").fetchall():
            check_same(self.folder, json.loads(_decode(settings)), self.job)
        else:  # nothing depends on them yet, as after an error at the start
            with _transaction(connection) as cursor:
                cursor.execute("UPDATE job SET settings = ?", (_dumps(self.job),))

    def _refresh(self) -> None:
        """Take in the files of other processes that have come since."""
        for path in sorted(self.folder.glob("journal-*.sqlite")):
            if path == self._path or path in self._others:
                continue
            # Also to read: what a killed process left half written is rolled back by who comes.
            connection = self._connect(path, "rw")
            with _naming(path):
                if _layout(connection) != 0:  # else its process is about to make the tables
                    self._check_job(path, connection)
                    self._others[path] = connection


def check_spared(folder: Path, places: Iterable[Path]) -> None:
    """Refuse to begin a job that would replace what it has not made.

    Args:
        folder: Of its journal; whoever goes on with one replaces only what is its own.
        places: Files and folders that the job replaces; empty folders are nobody's.
    Raises:
        ConfigError: One is there, and no journal.
        StorageError: It cannot be looked into.
    """
    with failing_disk(folder):
        if any(folder.glob("journal-*.sqlite")):
            return
        for place in places:
            if os.path.exists(place) and (not os.path.isdir(place) or any(place.iterdir())):
                raise ConfigError(
                    f"{place} is not of this job and would be replaced; choose another folder for "
                    "the results"
                )


def read_journal(
    folder: str | os.PathLike[str], status: str | None = None
) -> Iterator[tuple[str, str, Any]]:
    """What any job has left in a folder, as `Journal.read` gives it; nothing if it is no journal.

    Raises:
        StorageError: a file is damaged, or was written by another version.
    """
    with contextlib.ExitStack() as opened:
        files = []
        for path in sorted(Path(folder).glob("journal-*.sqlite")):
            connection = opened.enter_context(contextlib.closing(_open(path, "rw")))
            with _naming(path):
                if _layout(connection) != 0:  # else nothing was written yet
                    _check_layout(path, connection)
                    files.append((path, connection))
        yield from _merged(files, status, threading.Lock())


def _merged(
    files: Iterable[tuple[Path, sqlite3.Connection]], status: str | None, mutex: threading.Lock
) -> Iterator[tuple[str, str, Any]]:
    """The records of several files, ordered by key."""
    streams = [_rows(path, connection, status, mutex) for path, connection in files]
    for key, word, record in heapq.merge(*streams):
        yield _decode(key), word, json.loads(_decode(record))


def _rows(
    path: Path, connection: sqlite3.Connection, status: str | None, mutex: threading.Lock
) -> Iterator[tuple[bytes, str, bytes]]:
    """The rows of one file by key."""
    where, values = ("", ()) if status is None else (" AND status = ?", (status,))
    query = (
        f"SELECT key, status, record FROM records WHERE key > ?{where} "
        f"ORDER BY key LIMIT {ROWS_AT_A_TIME}"
    )
    last = b""
    while True:
        with mutex, _naming(path):
            rows = connection.execute(query, (last, *values)).fetchall()
        yield from rows
        if len(rows) < ROWS_AT_A_TIME:
            return
        last = rows[-1][0]


def _open(path: Path, mode: str) -> sqlite3.Connection:
    with _naming(path):
        return sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,  # `_transaction` begins and ends them
            check_same_thread=False,  # the mutex keeps threads apart
        )


def _check_layout(path: Path, connection: sqlite3.Connection) -> None:
    layout = _layout(connection)
    if layout != LAYOUT:
        raise StorageError(
            f"{path} was written by another version of glip (layout {layout}, here {LAYOUT}); "
            "finish with that version, or start anew in another folder"
        )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield cursor
        cursor.execute("COMMIT")
    except BaseException:
        # SQLite itself has rolled back after some failures, such as a full disk.
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
        raise


def _drop(connection: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    with _transaction(connection) as cursor:
        cursor.executemany("DELETE FROM records WHERE key = ?", [(key,) for key in keys])


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What SQLite complains of, with the file and the way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(_failure(path, error)) from error


def _failure(path: Path, error: sqlite3.Error) -> str:
    reason = str(error)
    if "full" in reason:
        return (
            f"{path} cannot be written: the disk is full. All that was done before is kept; make "
            "room and run the same command again"
        )
    if "not a database" in reason or "malformed" in reason:
        return f"{path} is damaged ({reason}); start anew in another folder"
    return f"{path} cannot be used: {reason}"


def _layout(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def _dumps(value: Any) -> bytes:
    return _encode(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def _encode(text: str) -> bytes:
    """Bytes in the order of the text; a file name that is no Unicode keeps what Python made of
    it.
    """
    return text.encode("utf-8", "surrogatepass")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
