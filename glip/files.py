"""Files that are written whole or not at all.

What is no regular file (a device, a pipe) is written to and never replaced; a link keeps pointing
where it does, and what it points to is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from glip.errors import GlipError, StorageError

RESULT_SUFFIX = ".glip.jpg"
"""Ends the names of annotated pictures, which are no pictures to look at again."""


def is_device(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a device, pipe or socket, which have no content to replace."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextlib.contextmanager
def whole_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file beside `path` to write to, for writers that want a name and not a file.

    What was written takes the place of `path` when the block ends without error; else it is
    removed. A device or pipe gets it as its input. Errors are the block's own, or the `OSError` of
    the renaming.
    """
    if is_device(path):
        with tempfile.TemporaryDirectory() as folder:
            unfinished = Path(folder, "content")
            unfinished.touch()
            yield unfinished
            with unfinished.open("rb") as content, open(path, "wb") as device:
                shutil.copyfileobj(content, device)
        return
    path = Path(os.path.realpath(path))
    unfinished = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(mode)  # some writers make files that nobody else may read
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """A text file to write to; it takes the place of an old one when the block ends without error.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    path = Path(path)
    with failing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name that is no Unicode keeps its bytes as escapes.
        with (
            whole_path(path) as unfinished,
            unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            yield file


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Content as JSON for people to read, whole or not at all.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False)
    with whole_file(path) as file:
        file.write(text + "\n")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """A folder that can be written into, made if it is not there.

    Long work asks for it before it begins.

    Raises:
        StorageError: It cannot be made or written into.
    """
    path = Path(path)
    with failing_disk(path):
        path.mkdir(parents=True, exist_ok=True)
        trial = path / f".{secrets.token_hex(8)}.part"
        trial.touch()
        trial.unlink()
    return path


@contextlib.contextmanager
def failing_disk(path: Path) -> Iterator[None]:
    """What the system says when `path` is written, with the way out."""
    try:
        yield
    except GlipError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{path} cannot be written: the disk is full; make room and run the same command "
                "again"
            ) from error
        culprit = f" ({error.filename})" if error.filename else ""
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}{culprit}"
        ) from error
