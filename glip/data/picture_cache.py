"""Large pictures, decoded and shrunk once and kept on disk for all later epochs and runs.

Decoding twelve million pixels and shrinking them to one takes some ten times as long as all that
training does with the rest. What is kept is 8-bit RGB at the largest size that any augmentation of
the run may ask for, so that nothing is ever enlarged from it. Pictures that are not much larger
than that are decoded each time, as without a cache.

A picture is known by its path, number of bytes and time of change, and by that largest size. Files
are written whole, and what cannot be read back is made again: any number of processes share a
folder, and a run that was cut off leaves nothing that is wrong. Nothing is thrown out: delete the
folder when it has served. Knows nothing about boxes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from glip.data.augment import Extent
from glip.data.pictures import Pictures
from glip.files import MOST_BYTES, make_folder, read_bytes, whole_path

logger = logging.getLogger(__name__)

WORTH = 2
"""How many times the pixels of its copy a picture must have to be shrunk."""

GIB = 2**30
UNIT = 2**16
"""Bytes that one byte of the file `LEDGER` stands for."""
LEDGER = "size"
"""The file whose length says how much a folder holds: any number of processes may append to it."""

_HEAD = struct.Struct("<8sIIII")  # MAGIC, height and width of the original, of the copy
_SUM = struct.Struct("<Q")
_MAGIC = b"glippic1"


class Shrunk(NamedTuple):
    """A picture as training reads it."""

    image: Image.Image
    """Upright, RGB; as in its file, or smaller."""
    original_hw: tuple[int, int]
    """Height and width in its file, upright."""


class PictureCache:
    """A folder of pictures that were decoded and shrunk.

    Args:
        folder: Made if it is not there.
        gib: What it may hold, with what earlier runs left there; what does not fit is decoded each
            time. Processes that write at the same moment may go beyond it by a picture each.
        extent: The largest that training wants pictures.
    Raises:
        StorageError: The folder cannot be made or written into.
    """

    def __init__(self, folder: str | os.PathLike[str], gib: float, extent: Extent) -> None:
        self.folder = make_folder(folder)
        self._most = int(gib * GIB)
        self._extent = extent
        self._failed = False

    def read(self, pictures: Pictures, name: str) -> Shrunk:
        """A picture, shrunk if it is much larger than training wants it; the same from the cache.

        Raises:
            ImageError: It is missing or cannot be decoded.
        """
        path = self._place(pictures, name)
        kept = None if path is None else _unpacked(path)
        if kept is not None:
            return kept
        image = pictures.read(name)
        original_hw = image.height, image.width
        height, width = self._extent.of(original_hw)
        if image.height * image.width < WORTH * height * width:
            return Shrunk(image, original_hw)
        shrunk = Shrunk(image.resize((width, height), Image.Resampling.BILINEAR), original_hw)
        if path is not None:
            self._keep(path, shrunk)
        return shrunk

    def _place(self, pictures: Pictures, name: str) -> Path | None:
        """Where the copy of a picture is or would be; None if there is no such picture."""
        try:
            known_by = f"{pictures.identity(name)}\0{tuple(self._extent)}"
        except OSError:  # reading it says why
            return None
        digest = hashlib.sha256(known_by.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / digest[:2] / digest[2:40]

    def _keep(self, path: Path, shrunk: Shrunk) -> None:
        """Write a copy, if there is room; the first failure is the last try of this process."""
        if self._failed:
            return
        content = _packed(shrunk)
        units = -(-len(content) // UNIT)
        ledger = self.folder / LEDGER
        try:
            held = os.path.getsize(ledger) if os.path.exists(ledger) else 0
            if len(content) > MOST_BYTES or (held + units) * UNIT > self._most:
                return
            path.parent.mkdir(exist_ok=True)
            with whole_path(path) as unfinished:
                unfinished.write_bytes(content)
            with ledger.open("ab") as file:
                file.write(bytes(units))
        except OSError as error:
            self._failed = True
            logger.warning(
                "%s: no more pictures are kept there, they are decoded each time: %s",
                self.folder,
                error.strerror or error,
            )


def _packed(shrunk: Shrunk) -> bytes:
    """A file: head, pixels row by row up to a multiple of eight bytes, their sum."""
    image = shrunk.image
    pixels = image.tobytes()
    head = _HEAD.pack(_MAGIC, *shrunk.original_hw, image.height, image.width)
    body = head + pixels + bytes(-len(pixels) % 8)
    return body + _SUM.pack(_sum(body))


def _unpacked(path: Path) -> Shrunk | None:
    """What `_packed` put there; None if it is not there, broken off or damaged."""
    try:
        content = read_bytes(path)
    except OSError:
        return None
    if len(content) < _HEAD.size + _SUM.size:
        return None
    magic, original_height, original_width, height, width = _HEAD.unpack_from(content)
    pixels = height * width * 3
    end = _HEAD.size + pixels + -pixels % 8
    if magic != _MAGIC or not pixels or len(content) != end + _SUM.size:
        return None
    body = memoryview(content)[:end]
    if _SUM.unpack_from(content, end)[0] != _sum(body):
        return None
    image = Image.frombytes("RGB", (width, height), body[_HEAD.size : _HEAD.size + pixels])
    return Shrunk(image, (original_height, original_width))


def _sum(body: bytes | memoryview) -> int:
    """Of its 64-bit words: it sees any single damage and costs a tenth of a CRC."""
    return int(np.frombuffer(body, "<u8").sum(dtype=np.uint64))
