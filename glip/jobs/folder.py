"""Going on in a folder of results, or refusing to: one rule for every job that leaves something.

A job begins in a new folder and goes on in its own, as often as it is stopped. Who comes with other
settings is told what differs, and two at a time are refused. Knows nothing about which job it is,
nor how it keeps its settings.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from glip.distributed import on_main
from glip.errors import ConfigError, StorageError
from glip.files import failing_disk
from glip.settings import differences

LOCK = ".glip.lock"
"""An empty file in the folder of a job that stays when the job ends; SQLite puts one beside it."""


def check_same(place: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Whether a job goes on with the settings that it was begun with.

    Args:
        place: The folder of the job, or the file in it that holds the settings.
        before: The settings that are there, as JSON gives them back.
        now: Those of this call; anything that JSON can hold.
    Raises:
        ConfigError: They are not the same; the message names each that differs.
    """
    if changed := differences(before, json.loads(json.dumps(now))):
        raise ConfigError(
            f"{place} holds another job: {'; '.join(changed)}. Take another folder, or the old "
            "settings to go on there"
        )


def is_begun(folder: Path, record: str) -> bool:
    """Whether a job was begun in a folder, which it then goes on in.

    Args:
        folder: Need not exist.
        record: Name of the file that the job writes before anything else.
    Raises:
        ConfigError: No job was, but other files are there, or it is no folder.
        StorageError: It cannot be looked into.
    """
    with failing_disk(folder):
        if os.path.exists(folder / record):
            return True
        if os.path.exists(folder) and (
            not os.path.isdir(folder)
            or not all(path.name.startswith(LOCK) for path in folder.iterdir())
        ):
            raise ConfigError(f"{folder} is a file or holds other files; choose an empty folder")
    return False


@contextlib.contextmanager
def held(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Nobody else works in a folder meanwhile; it is made if need be.

    In a job of several processes all call this together, and the main one asks for all.

    Raises:
        StorageError: Another run is at work there, or the folder cannot be written.
    """
    folder = Path(folder)

    def take() -> contextlib.ExitStack:
        with failing_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(folder / LOCK))
            return stack.pop_all()

    with on_main(take) or contextlib.nullcontext():
        yield


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from whatever a file stands for until the block ends, however it ends.

    SQLite's own lock on an empty file: all systems have it, and a kill releases it.

    Raises:
        StorageError: Another one holds it; the message names its folder. Or it cannot be made.
    """
    try:
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?mode=rwc",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,  # the block may end in another thread than it began
        )
        with contextlib.closing(connection):
            connection.execute("BEGIN EXCLUSIVE")
            yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StorageError(
                f"{path.parent} is in use by another run; wait for its end, or take another folder"
            ) from error
        raise StorageError(f"{path} cannot be used: {error}") from error
