"""Pictures by name, from a folder or straight from an uncompressed tar.

A name never leads out of its folder or tar: those with `..` or a drive, and absolute ones, name no
picture. (Links in a folder are followed: they were put there by whoever owns it.) Nothing is held
open between two reads, so one object serves any number of threads and worker processes, forked or
spawned. Knows nothing about annotations.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Protocol

from PIL import ExifTags, Image

from glip.errors import DataError, ImageError
from glip.files import check_regular, why_missing
from glip.images import FORMATS, ImageLike, describe, list_images, load_image

TAR_ERRORS = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, struct.error)
"""What the versions of `tarfile` raise of archives that are broken off, damaged or lying."""

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic", ".heif")
)
"""What the names of pictures end in, whether or not this machine can decode them."""

LARGEST = 1 << 30
"""Bytes of a picture file inside a tar; a larger one is refused unread."""

_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


class Pictures(Protocol):
    """Named pictures; a name is the `file_name` of an annotation file, with "/" between folders."""

    @property
    def root(self) -> Path:
        """The folder or tar they come from."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a picture of this name."""

    def names(self) -> list[str]:
        """All names, sorted."""

    def source(self, name: str) -> ImageLike:
        """What `glip.images.load_image` and `Detector.predict` can read.

        Raises:
            ImageError: there is no such picture.
        """

    def read(self, name: str) -> Image.Image:
        """The picture, upright and RGB.

        Raises:
            ImageError: it is missing or cannot be decoded; the message names folder or tar.
        """

    def size_hw(self, name: str) -> tuple[int, int]:
        """Height and width of the upright picture, from its header alone.

        Raises:
            ImageError: it is missing or its header cannot be read.
        """

    def identity(self, name: str) -> str:
        """What is another one when the picture is: the path, bytes and time of change of its file.

        Raises:
            OSError: there is no such file.
        """


class PictureFolder:
    """Pictures below a folder. A tar in it counts as one more folder, whose pictures are found by
    name: "00000.tar/cat.jpg" is `cat.jpg` in `00000.tar`, as the shards of a web data set are.

    Raises:
        DataError: the folder does not exist.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._tars: dict[str, PictureTar] = {}
        if not os.path.isdir(self.root):
            raise DataError(
                f"picture folder {self.root} {why_missing(self.root)}; pass the one with the "
                "pictures"
            )

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if not is_inside(name):
            return False
        tar, member = self._through(name)
        return os.path.isfile(self.root / name) if tar is None else member in tar

    def names(self) -> list[str]:
        """All names outside tars, sorted."""
        files = filter(os.path.isfile, list_images(self.root))
        return sorted(path.relative_to(self.root).as_posix() for path in files)

    def source(self, name: str) -> Path | Image.Image:
        """What `load_image` reads."""
        tar, member = self._through(self._checked(name))
        return self.root / name if tar is None else tar.source(member)

    def read(self, name: str) -> Image.Image:
        """The picture, upright and RGB."""
        tar, member = self._through(self._checked(name))
        return load_image(self.root / name) if tar is None else tar.read(member)

    def size_hw(self, name: str) -> tuple[int, int]:
        """Height and width of the upright picture."""
        tar, member = self._through(self._checked(name))
        if tar is not None:
            return tar.size_hw(member)
        path = self.root / name
        with _opened(path) as data:
            return _upright_hw(data, str(path))

    def identity(self, name: str) -> str:
        """What is another one when the picture is."""
        tar, member = self._through(self._checked(name))
        return _identity(self.root / name) if tar is None else tar.identity(member)

    def _checked(self, name: str) -> str:
        if not is_inside(name):
            raise ImageError(f"{describe(name)} leads out of the picture folder {self.root}")
        return name

    def _through(self, name: str) -> tuple[PictureTar | None, str]:
        """The tar that a name leads into, if it does, and the rest of the name."""
        stem, into, member = name.partition(".tar/")
        if not into or not os.path.isfile(path := self.root / f"{stem}.tar"):
            return None, name
        if stem not in self._tars:
            self._tars[stem] = PictureTar(path)
        return self._tars[stem], member


class PictureTar:
    """Pictures in an uncompressed tar: indexed once, then read at random with one seek each.

    Raises:
        DataError: the file is missing, no tar, or a compressed one.
    """

    def __init__(self, path: str | Path) -> None:
        self.root = Path(path)
        self._places: dict[str, tuple[int, int]] = {}  # name -> first byte, number of bytes
        try:
            check_regular(self.root)
            end = self.root.stat().st_size
            with (
                self.root.open("rb") as file,
                tarfile.open(fileobj=Bounded(file, end), mode="r:") as archive,
            ):
                for member in archive:
                    name = member.name.removeprefix("./")
                    there = member.offset_data + member.size <= end
                    if member.isreg() and not member.issparse() and there and is_inside(name):
                        self._places[name] = (member.offset_data, member.size)
        except FileNotFoundError as error:
            raise DataError(f"picture archive {self.root} does not exist") from error
        except TAR_ERRORS as error:
            raise DataError(
                f"{self.root} cannot be read as an uncompressed tar ({error}); unpack it, or "
                "pack it again without compression"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def names(self) -> list[str]:
        """All names, sorted."""
        known = {
            suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS
        }
        return sorted(name for name in self._places if Path(name).suffix.lower() in known)

    def source(self, name: str) -> Image.Image:
        """What `load_image` reads."""
        return self.read(name)

    def read(self, name: str) -> Image.Image:
        """The picture, upright and RGB."""
        return decode(self._bytes(name), f"{self.root}: {name}")

    def size_hw(self, name: str) -> tuple[int, int]:
        """Height and width of the upright picture."""
        return _upright_hw(io.BytesIO(self._bytes(name)), f"{self.root}: {name}")

    def identity(self, name: str) -> str:
        """What is another one when the tar is."""
        return f"{_identity(self.root)}\0{name}"

    def _bytes(self, name: str) -> bytes:
        if name not in self._places:
            raise ImageError(f"{self.root} holds no file {name}")
        start, size = self._places[name]
        if size > LARGEST:
            raise ImageError(f"{self.root}: {name} has {size:,} bytes, too many for a picture")
        with self.root.open("rb") as file:
            file.seek(start)
            return file.read(size)


def open_pictures(root: str | Path) -> Pictures:
    """The pictures of a folder or of an uncompressed tar.

    Raises:
        DataError: neither of them.
    """
    return PictureTar(root) if os.path.isfile(root) else PictureFolder(root)


class Bounded(io.RawIOBase):
    """A file that never gives more than it has: a header that lies about a size costs no memory.

    Args:
        file: To read from.
        end: Its number of bytes.
    """

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file = file
        self._end = end

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most the bytes that are left."""
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place it is at."""
        return self._file.tell()


def is_inside(name: str) -> bool:
    """Whether a name stays below the folder it is looked up in."""
    return (
        bool(name)
        and "\0" not in name
        and not name.startswith("/")
        and not PureWindowsPath(name).is_absolute()
        and not os.path.splitdrive(name)[0]  # "a:b.jpg" is a name where there are no drives
        and ".." not in PurePosixPath(name.replace("\\", "/")).parts
    )


def decode(data: bytes, name: str) -> Image.Image:
    """A picture from the bytes of its file, upright and RGB.

    Args:
        data: As in the file.
        name: For messages.
    Raises:
        ImageError: it cannot be decoded.
    """
    try:
        return load_image(Image.open(io.BytesIO(data), formats=_formats()))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:  # readers meet bad bytes with whatever they trip over first
        raise ImageError(f"{name} cannot be decoded: {error}") from error


def missing(pictures: Pictures, names: Iterable[str]) -> list[str]:
    """The names that have no picture, in order, each once."""
    return [name for name in dict.fromkeys(names) if name not in pictures]


def _identity(path: Path) -> str:
    known = path.stat()
    return f"{os.path.abspath(path)}\0{known.st_size}\0{known.st_mtime_ns}"


def _formats() -> list[str]:
    """Pillow's names of the formats that are read here and that it can read."""
    Image.init()
    return [kind for kind in Image.ID if kind in FORMATS]


def _upright_hw(data: IO[bytes], name: str) -> tuple[int, int]:
    """Size from a header, exchanged where EXIF turns the picture by a quarter."""
    (width, height), orientation = _header(data, name)
    return (width, height) if orientation in _TURNED else (height, width)


def is_turned(path: Path) -> bool:
    """Whether EXIF asks to turn or mirror the picture of a file.

    Raises:
        ImageError: it cannot be opened, or decoded so far.
    """
    with _opened(path) as data:
        return _header(data, str(path))[1] not in (0, 1)


def _opened(path: Path) -> IO[bytes]:
    try:
        check_regular(path)
        return path.open("rb")
    except OSError as error:
        raise ImageError(f"{describe(path)} cannot be opened: {error.strerror}") from error


def _header(data: IO[bytes], name: str) -> tuple[tuple[int, int], int]:
    """Width and height as they are stored, and the orientation of EXIF."""
    try:
        with Image.open(data, formats=_formats()) as image:
            return image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # readers meet bad bytes with whatever they trip over first
        raise ImageError(f"{name} cannot be decoded: {error}") from error
