"""Exports that come as a zip: unpacked for as long as the program runs, and no longer.

Nothing in an archive decides where a file goes: names that lead out of it and links are passed
over, and what would unpack to far more than it weighs is refused. Knows no format.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from glip.data.pictures import is_inside
from glip.errors import DataError

logger = logging.getLogger(__name__)

LARGEST = 64 << 30
"""Bytes that an archive may unpack to."""
HARMLESS = 1 << 30
"""Bytes below which it does not matter how well it is packed."""
MOST_PACKED = 100
"""Times an archive may unpack to more than it weighs."""

UNUSABLE = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL}
"""What the system says of a name that is too long, or another time that of a folder."""

_unpacked: dict[tuple[str, int, int], tempfile.TemporaryDirectory[str]] = {}


def is_archive(path: Path) -> bool:
    """Whether a path is a zip, whatever its name."""
    return os.path.isfile(path) and path.suffix.lower() == ".zip"


def is_temporary(path: Path) -> bool:
    """Whether a file was unpacked here, so that nothing that stays may refer to it."""
    return any(path.is_relative_to(Path(folder.name)) for folder in _unpacked.values())


def unpacked(path: Path) -> Path:
    """The folder that an archive holds; of an archive that was unpacked before, the same one.

    Raises:
        DataError: it is damaged, locked, or too large.
    """
    known = path.stat()
    key = str(path.absolute()), known.st_mtime_ns, known.st_size
    if key not in _unpacked:
        folder = tempfile.TemporaryDirectory(prefix="glip-")
        try:
            _unpack(path, Path(folder.name, path.name))
        except DataError:
            folder.cleanup()
            raise
        except Exception as error:  # damage shows in whatever the reader trips over first
            folder.cleanup()
            reason = str(error) or "it is broken off"
            raise DataError(f"{path} cannot be unpacked: {reason}") from error
        _unpacked[key] = folder
    return _only_folder(Path(_unpacked[key].name, path.name))


def _unpack(path: Path, folder: Path) -> None:
    """Into a new folder that has the name of the archive, for messages about what is in it."""
    folder.mkdir()
    passed_over = unusable = 0
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        size = sum(member.file_size for member in members)
        if size > LARGEST or size > max(HARMLESS, MOST_PACKED * path.stat().st_size):
            raise DataError(
                f"{path} would unpack to {size:,} bytes; unpack it yourself if you trust it"
            )
        for member in members:
            if not is_inside(member.filename) or stat.S_ISLNK(member.external_attr >> 16):
                passed_over += 1
                continue
            target = folder / member.filename
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file = target.open("wb")
            except OSError as error:
                if error.errno not in UNUSABLE:
                    raise
                unusable += 1
                continue
            with archive.open(member) as packed, file:
                shutil.copyfileobj(packed, file)
    for count, why in ((passed_over, "lead out of it"), (unusable, "no folder can hold")):
        if count:
            logger.warning("%s: passed over %d names that %s", path, count, why)


def _only_folder(folder: Path) -> Path:
    """The folder in a folder that holds nothing else, as many archives have one."""
    inside = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and os.path.isdir(inside[0]) else folder
