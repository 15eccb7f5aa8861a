"""Files that are written whole or not at all, and read only if they are files.

What is no regular file (a device, a pipe) is written to and never replaced; a link keeps pointing
where it does, and what it points to is replaced. Read is no such thing: a pipe would be waited for
without end, and some devices have none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
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
FILM_SUFFIX = ".glip.mp4"
"""Ends those of annotated films."""
OPEN_ALREADY = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""Names of what a program was started with, such as the output of another: it has somebody at the
other end, and may be what it likes."""
LONGEST_NAME = 240
"""Bytes of a name that is made here from others, less than the 255 of most disks: labels beside a
picture have longer suffixes, and numbers are added to names that are taken."""
MOST_BYTES = 64 * 2**20
"""Of a text that people or programs write about a model or a job."""


def fitting(stem: str, suffix: str) -> str:
    """A file name that disks take: a longer one is cut, with a mark that keeps it from others.

    Args:
        stem: Of the name, such as that of a picture.
        suffix: What stays behind it.
    """
    content, end = os.fsencode(stem), os.fsencode(suffix)
    if len(content) + len(end) <= LONGEST_NAME:
        return stem + suffix
    mark = hashlib.sha256(content).hexdigest()[:8]
    cut = content[: LONGEST_NAME - len(end) - len(mark) - 1].decode("utf-8", errors="ignore")
    return f"{cut}-{mark}{suffix}"


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse to open what is no file.

    Raises:
        OSError: A folder, a device, a pipe, missing, or a name that no file can have.
    """
    name = os.fsdecode(path)
    if name.startswith(OPEN_ALREADY):
        return
    try:
        mode = os.stat(name).st_mode
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name", name) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", name)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", name)


def why_missing(path: str | os.PathLike[str]) -> str:
    """Why a path leads to nothing, as the end of a message: "does not exist" or what is in the way.

    Whether it does is asked with `os.path.exists` and its like. Those of `pathlib` raise what the
    system says of a name that is too long or a folder that may not be entered.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        return "is a link to nothing" if os.path.islink(path) else "does not exist"
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    except ValueError:  # a null character, or half of a surrogate pair
        return "cannot be opened (no file can have this name)"
    return "is no regular file"


def read_bytes(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The content of a file.

    Raises:
        OSError: As `check_regular`, or more than `most` bytes.
    """
    check_regular(path)
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fsdecode(path))
    return content


def read_text(path: str | os.PathLike[str], most: int = MOST_BYTES) -> str:
    """The content of a file in UTF-8, with or without a byte order mark.

    Raises:
        OSError: As `read_bytes`.
        UnicodeDecodeError: Not UTF-8.
    """
    return read_bytes(path, most).decode("utf-8-sig")


def parsed_json(text: str | bytes) -> Any:
    """Content of a text in JSON.

    Raises:
        ValueError: It is none, has integers of thousands of digits, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: str | os.PathLike[str], most: int = MOST_BYTES) -> Any:
    """The content of a JSON file.

    Raises:
        OSError, ValueError: As `read_text` and `parsed_json`.
    """
    return parsed_json(read_text(path, most))


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, which tells its content from others of the same name."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_device(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a device, pipe or socket, which have no content to replace."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check_name(path: Path) -> None:
    """Refuse a name that the file system does not take before there is work that it would lose."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)


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
    _check_name(path)
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


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`; it takes the place of what is there when the block ends
    without error.

    Raises:
        StorageError: It cannot be written; nothing is left behind.
    """
    with failing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_name(path)
        unfinished = path.with_name(f".{secrets.token_hex(8)}.part")
        before = unfinished.with_suffix(".old")
        unfinished.mkdir()
        try:
            yield unfinished
            if os.path.exists(path):  # out of the way whole: a kill in between loses neither
                path.replace(before)
            unfinished.replace(path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)


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
