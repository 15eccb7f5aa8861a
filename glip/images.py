"""Any picture a user may hand in -> an upright 8-bit RGB image; folders and batches -> flat lists.

This is the border for pixels: whatever cannot be used is refused here, with an `ImageError` that
names the file or array and the way out. Every picture leaves in one form, so that nobody behind
this door asks about palettes, alpha, sixteen bits or EXIF. Knows nothing about resizing,
normalisation or boxes.
"""

import contextlib
import functools
import io
import logging
import os
import re
import threading
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from glob import glob
from importlib import import_module
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile

from glip.arrays import (
    describe_pixels,
    eight_bits,
    from_array,
    from_unbounded,
    is_tensor,
    too_many_pixels,
)
from glip.errors import ConfigError, ImageError, shown
from glip.files import RESULT_SUFFIX, whole_path, why_missing

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | npt.NDArray[Any] | Tensor"
)
"""One picture: a path or URL, the bytes of a file, an open file, a Pillow image, an array
(H, W[, C]) or a tensor ([C,] H, W), as RGB."""

ImageLikes: TypeAlias = "ImageLike | Iterable[ImageLike | Iterable[ImageLike]]"
"""One picture, a folder, a pattern such as "photos/*.jpg", a 4-D batch, or an iterable of any of
them."""

SINGLE = (bytes, bytearray, memoryview, Image.Image, np.ndarray)
"""Types of one picture, besides paths, open files and tensors."""

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded unless told otherwise: as RGB it takes half a gibibyte. Pillow
refuses the same size. The environment variable GLIP_MAX_PIXELS and the argument `max_pixels`
replace it."""

FORMATS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI"}
    | {"TIFF", "WEBP"}
)
"""Pillow's names of the raster formats that are read and written here. The rest of its list is left
out: drawings that start other programs (EPS, WMF), icons, to whose size a saved picture would be
shrunk without a word, and formats so loosely marked that text passes for them. HEIF is read once a
plug-in such as pillow-heif has registered itself."""

MAX_BYTES = 2**30
"""Of a picture that comes from a URL or an open file."""
URL_SECONDS = 30.0
"""How long a server may keep silent."""

HEIF_BRANDS = frozenset(
    b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
)
"""What the first bytes of a phone's HEIC photo say from the fifth on."""
UNREAD = frozenset(
    [
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".dng",
        ".raf",
        ".orf",
        ".rw2",
        ".pef",
        ".srw",
        ".psd",
    ]
)
"""Suffixes of photos, of phones and cameras, that Pillow may not or cannot read."""
FILM_STARTS = (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")
"""First bytes of Matroska and WebM, and of MPEG; MP4 and AVI say so later on."""

MOST_SHOWN = 1000
"""Letters of a path in a message; no system opens a file whose path is four times as long."""

HEIF_INSTALL = "pip install 'glip[heic]'"

_lifting = threading.Lock()

_URL = re.compile(r"^(https?|ftp|s3|gs|file|data):", re.IGNORECASE)
_PATTERN = re.compile(r"[*?\[]")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that undoes it."""


def load_image(source: ImageLike, *, max_pixels: int | None = None) -> Image.Image:
    """One picture in mode RGB, 8 bits a channel, turned as its EXIF orientation asks.

    * Transparency is composited on white, as a browser or a print would show it; dropping the alpha
      channel instead would uncover whatever colours the encoder left under the transparent parts.
    * 16-bit pictures are scaled by their full range, 65535, and never stretched to their own
      extremes, so a dark picture stays dark. Pillow's modes I and F do not say their range: it is
      taken to end at the first of 1 (F only), 255 and 65535 that no pixel exceeds.
    * Of an animation the first frame is read (of an open Pillow image the current one).
    * Float arrays and tensors are taken to lie in [0, 1], as torchvision makes them.

    Args:
        source: a path, a URL (http, https, file or data), the bytes of a file or a file that is
            open in binary mode, a Pillow image, an array or tensor. Arrays have shape (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4), tensors (H, W), (1, H, W), (3, H, W) or (4, H, W);
            both in RGB or RGBA order, uint8, uint16, bool or floating point, on any device.
        max_pixels: largest width times height, checked before a file is decoded; by
            default the environment variable GLIP_MAX_PIXELS, or else `MAX_PIXELS`.
    Returns:
        An image that the caller should not draw on: an upright RGB Pillow image comes back itself.
    Raises:
        ImageError: the picture is missing, unreadable, too large, or has a shape, type or values
            that are none of the above.
        ConfigError: `max_pixels` or GLIP_MAX_PIXELS is not a positive whole number.
    """
    limit = _pixel_limit(max_pixels)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(source, limit)
    if isinstance(source, Image.Image):
        return _decode(source, describe(source), limit)
    if isinstance(source, np.ndarray) or is_tensor(source):
        picture = from_array(source, limit)
        return picture if picture.mode == "RGB" else _to_rgb(picture, describe(source))
    return _decode_bytes(_content(source), describe(source), limit)


def list_images(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[Path]:
    """The pictures of a folder, hidden ones left out, in natural order: 2.png before 10.png.

    Raises:
        ImageError: the folder is missing, cannot be read, or holds no picture.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        is_file = os.path.exists(folder)
        reason = "is a file, not a folder" if is_file else f"{why_missing(folder)}{_tried(folder)}"
        raise ImageError(f"folder {folder} {reason}")
    suffixes = known_suffixes()
    names = _files_below(folder, lambda error: _unreadable(error, folder), recursive=recursive)
    paths = (folder / name for name in names)
    found = [path for path in paths if path.suffix.lower() in suffixes]
    if not found:
        where = "in it or below" if recursive else "directly in it"
        raise ImageError(
            f"folder {folder} holds no picture: no {', '.join(sorted(suffixes))} {where}"
        )
    found.sort(key=_natural_order)
    return [*found]


def list_pictures(root: str | os.PathLike[str], *, without: Path | None = None) -> Iterator[str]:
    """Names of the pictures below a folder, "/" between the parts, in the order of the disk.

    As `list_images` finds them, but one at a time, so that memory does not grow with
    their number.

    Args:
        root: the folder.
        without: a folder below it that is left out, such as that of the results.
    Raises:
        ConfigError: the folder does not exist or cannot be read.
    """
    base = Path(root)
    if not os.path.isdir(base):
        reason = "is a file, not a folder" if os.path.exists(base) else why_missing(base)
        raise ConfigError(f"picture folder {base} {reason}")
    suffixes = known_suffixes()

    def refuse(error: OSError) -> None:
        raise ConfigError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    for name in _files_below(base, refuse, without=without):
        if name.endswith(RESULT_SUFFIX):
            continue  # what `glip predict` has drawn
        if os.path.splitext(name)[1].lower() in suffixes:
            yield name


def warn_of_unread(root: str | os.PathLike[str], *, without: Path | None = None) -> None:
    """Say in the log which photos below a folder are of a kind that is not read here.

    Args:
        root: the folder.
        without: a folder below it that is left out, such as that of the results.
    """
    unread = UNREAD - known_suffixes()
    names = _files_below(Path(root), lambda error: None, without=without)
    counts = Counter(os.path.splitext(name)[1].lower() for name in names)
    left_out = {suffix: number for suffix, number in sorted(counts.items()) if suffix in unread}
    if left_out:
        listed = ", ".join(f"{number} {suffix}" for suffix, number in left_out.items())
        heic = {".heic", ".heif"} & left_out.keys()
        way_out = f"; HEIC is read after {HEIF_INSTALL}" if heic else "; export them as JPEG"
        logger.warning(
            "%s: photos that are not read here are left out: %s%s", root, listed, way_out
        )


def _files_below(
    base: Path,
    unreadable: Callable[[OSError], object],
    *,
    recursive: bool = True,
    without: Path | None = None,
) -> Iterator[str]:
    """Names of the files below a folder that are not hidden, "/" between the parts.

    Links to folders are followed when all that is no link is through, and no folder is entered a
    second time, whatever leads to it: so names do not depend on the order of the disk. Of a folder
    that cannot be read `unreadable` is told.
    """
    entered = set() if without is None else {os.path.realpath(without)}
    folders, links = deque([""]), deque[str]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        real = os.path.realpath(base / folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            for entry in _visible(base / folder):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if not _is_folder(entry):
                    yield name
                elif recursive:
                    (links if entry.is_symlink() else folders).append(name)
        except OSError as error:
            unreadable(error)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or leads to one; a link that leads to itself does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder and not hidden."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def known_suffixes() -> set[str]:
    """Suffixes of the files that are read here, in lower case."""
    register_formats()
    return _suffixes(Image.registered_extensions())


@functools.cache
def register_formats() -> None:
    """Make Pillow know all its formats, and HEIF if the plug-in pillow-heif is installed."""
    Image.init()
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()


def unusable_name(name: str) -> str | None:
    """Why no file of labels could name a picture, or None."""
    kinds = {unicodedata.category(letter) for letter in name}
    if "Cs" in kinds:
        return f"{os.fsencode(name)!r}: its name is not Unicode; rename it"
    if "Cc" in kinds:
        return f"{name!r}: its name has control characters; rename it"
    return None


def expand_sources(images: ImageLikes) -> list[ImageLike]:
    """A flat list of single pictures: folders are listed, 4-D batches split, iterables run through.

    Nothing is decoded, and the pictures keep their order.

    Args:
        images: one picture, the path of a folder, a batch (an array (B, H, W, C) or a tensor
            (B, C, H, W)), or an iterable of any of these; its members may be iterables once more.
    Raises:
        ImageError: something that cannot be a picture, nesting deeper than that, or what
            `list_images` says of a folder.
    """
    if isinstance(images, SINGLE) and getattr(images, "ndim", 0) != 4:
        return [cast(ImageLike, images)]
    return _expand(images, depth=2)


def save_image(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Write a picture whole or not at all: into a temporary file beside it, which is then renamed.

    The suffix decides the format, missing folders are made, and an existing file is replaced.

    Raises:
        ImageError: no or an unknown suffix, a picture that the format cannot hold, a failing disk.
    """
    path = Path(path)
    check_saveable(path)
    kind = Image.registered_extensions()[path.suffix.lower()]
    quality = {"quality": 95} if kind in {"JPEG", "WEBP"} else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Pillow does not see when a file on the disk takes less than it was given.
        content = io.BytesIO()
        picture.save(content, format=kind, **quality)
        with whole_path(path) as unfinished:
            unfinished.write_bytes(content.getbuffer())
    except Exception as error:  # encoders complain of a size or mode in many ways
        raise ImageError(f"cannot save {path}: {_reason(error)}") from error
    return path


def check_saveable(path: Path) -> None:
    """Refuse a name that says no known format.

    Raises:
        ImageError: see above.
    """
    formats = Image.registered_extensions()
    suffixes = _suffixes({s: kind for s, kind in formats.items() if kind in Image.SAVE})
    if path.suffix.lower() not in suffixes:
        got = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ImageError(f"cannot save {path}: {got}; use one of {', '.join(sorted(suffixes))}")


def describe(source: object) -> str:
    """A picture in words, for messages: its path, or else its kind, size and number format."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source)
        most = 80 if _URL.match(name) else MOST_SHOWN
        return name if len(name) <= most else f"{name[:77]}..."
    if isinstance(source, Image.Image):
        file = os.fsdecode(getattr(source, "filename", "")) or "Pillow image"
        return f"{file} ({source.width}x{source.height}, mode {source.mode})"
    if isinstance(source, np.ndarray) or is_tensor(source):
        return describe_pixels(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"picture of {len(source):,} bytes"
    opened = getattr(source, "name", None)
    if _is_file(source) and isinstance(opened, str):
        return opened
    return f"object of type {type(source).__name__}"


def _pixel_limit(max_pixels: int | None) -> int:
    """The argument, else the environment variable, else the default."""
    given = os.environ.get("GLIP_MAX_PIXELS", "").strip() if max_pixels is None else max_pixels
    if given == "":
        return MAX_PIXELS
    is_number = isinstance(given, str) and given.isdecimal() and len(given) < 30
    number = int(given) if is_number else given
    if isinstance(number, Integral) and not isinstance(number, bool) and number > 0:
        return int(number)
    name = "GLIP_MAX_PIXELS" if max_pixels is None else "max_pixels"
    raise ConfigError(f"{name} must be a positive whole number, got {shown(given)}")


def _read_file(source: str | os.PathLike[str], limit: int) -> Image.Image:
    name = os.fsdecode(source)
    shown = describe(name)
    if _URL.match(name):
        return _decode_bytes(_download(name), shown, limit)
    path = Path(name)
    try:
        if not os.path.isfile(path) or path.stat().st_size == 0:
            raise _no_file(name)
        with path.open("rb") as file:
            picture = _decode(_identify(file, shown), shown, limit)
            # A plain copy: Pillow's file image would keep the closed file, and its EXIF, alive.
            return picture.copy() if isinstance(picture, ImageFile.ImageFile) else picture
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ImageError(f"{shown} cannot be opened: {_reason(error)}") from error


def _no_file(name: str) -> ImageError:
    """Why a path is no file to read."""
    path, shown = Path(name), describe(name)
    if not name:
        return ImageError("the path of a picture is empty")
    if os.path.isdir(path):
        return ImageError(f"{shown} is a folder, not a picture; list_images gives its pictures")
    if not os.path.exists(path):
        return ImageError(f"{shown} {why_missing(path)}{_tried(path)}")
    if not os.path.isfile(path):
        return ImageError(f"{shown} is not a regular file; save the picture to one first")
    return ImageError(f"{shown} is empty (0 bytes)")


def _content(source: object) -> bytes:
    """The bytes of a picture that came as bytes or as an open file."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not _is_file(source):
        raise ImageError(_unknown(source))
    name = describe(source)
    try:
        content = source.read(MAX_BYTES + 1)  # type: ignore[attr-defined]
    except Exception as error:  # files of all kinds fail in their own ways
        raise ImageError(f"{name} cannot be read: {_reason(error)}") from error
    if not isinstance(content, bytes):
        raise ImageError(f"{name} gives text; open it in binary mode, 'rb'")
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES:,} bytes; save it and pass its path")
    return content


def _download(url: str) -> bytes:
    """The bytes behind a URL."""
    from http.client import HTTPException  # both take longer than the rest of this file
    from urllib.request import Request, urlopen

    shown = describe(url)
    if _URL.match(url)[1].lower() not in ("http", "https", "file", "data"):  # type: ignore[index]
        raise ImageError(f"{shown} cannot be fetched from here; download it and pass its path")
    try:
        request = Request(url, headers={"User-Agent": "glip"})
        with urlopen(request, timeout=URL_SECONDS) as answer:
            content: bytes = answer.read(MAX_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or _reason(error)
        raise ImageError(
            f"{shown} cannot be fetched ({reason}); download the picture and pass its path"
        ) from error
    if len(content) > MAX_BYTES:
        raise ImageError(f"{shown} has more than {MAX_BYTES:,} bytes; download it, pass its path")
    return content


def _decode_bytes(content: bytes, name: str, limit: int) -> Image.Image:
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    picture = _decode(_identify(io.BytesIO(content), name), name, limit)
    return picture.copy() if isinstance(picture, ImageFile.ImageFile) else picture


def _identify(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Pillow's image of a file with nothing but its header read.

    Does what `PIL.Image.open` does except for its check of the size, whose limit is a global of the
    process: ours is an argument, so it needs a way in that leaves the global, and the other threads
    that rely on it, alone.
    """
    register_formats()
    prefix = file.read(16)
    failures = []
    for kind in (kind for kind in Image.ID if kind in FORMATS):
        factory, accepts = Image.OPEN[kind]
        try:
            accepted = accepts(prefix) if accepts else True
            if isinstance(accepted, str):  # what Pillow, as built here, lacks for this format
                failures.append(accepted)
            elif accepted:
                file.seek(0)
                return factory(file, name)
        except Image.DecompressionBombError as error:  # WebP takes its memory this early
            raise ImageError(
                f"{name} is refused by Pillow: {error} If it can be trusted, raise "
                "PIL.Image.MAX_IMAGE_PIXELS as well as max_pixels"
            ) from error
        except Exception as error:  # readers meet bad bytes with whatever they trip over first
            failures.append(f"as {kind}: {_reason(error)}")
    raise _unknown_format(prefix, name, failures)


def _unknown_format(prefix: bytes, name: str, failures: Sequence[str]) -> ImageError:
    """Why nobody could read the header of a file."""
    if failures:
        return ImageError(
            f"{name} cannot be decoded, it is damaged or incomplete ({'; '.join(failures)})"
        )
    if prefix[4:12] in HEIF_BRANDS:
        return ImageError(f"{name} is a HEIC picture, read with pillow-heif: {HEIF_INSTALL}")
    if prefix[4:8] == b"ftyp" or prefix.startswith(FILM_STARTS) or prefix[8:12] == b"AVI ":
        return ImageError(
            f"{name} is a film by its content; give it as a file whose name says so, such as "
            "clip.mp4"
        )
    kinds = ", ".join(sorted(FORMATS & set(Image.ID)))
    return ImageError(f"{name} is not a picture in a known format; convert it to one of {kinds}")


def _decode(image: Image.Image, name: str, limit: int) -> Image.Image:
    """Decode, turn upright and bring to RGB; `limit` is checked before the first two."""
    width, height = image.size
    if width == 0 or height == 0:
        raise ImageError(f"{name} has no pixels ({width}x{height})")
    if width * height > limit:
        raise ImageError(too_many_pixels(name, width, height, limit))
    try:
        with _beyond_pillows_limit(width * height):
            image.load()
        rgb = _to_rgb(_upright(image, name), name)
    except ImageError:
        raise
    except Exception as error:  # decoders meet bad bytes with whatever they trip over first
        raise ImageError(
            f"{name} cannot be decoded, it is damaged or incomplete: {_reason(error)}"
        ) from error
    if rgb is not image:
        rgb.info = {}  # its EXIF and transparency have been applied: nobody may apply them again
    return rgb


@contextlib.contextmanager
def _beyond_pillows_limit(pixels: int) -> Iterator[None]:
    """Lets Pillow decode as many pixels, which our own limit has allowed.

    TIFF checks once more while it decodes, against a global, so that is lifted: for no picture that
    Pillow is content with, for one thread at a time, and never beyond the end of the block.
    """
    if Image.MAX_IMAGE_PIXELS is None or pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _lifting:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # a damaged note about a picture is no reason to refuse the picture
        logger.warning("%s: its EXIF data is damaged and ignored: %s", name, _reason(error))
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray(eight_bits(np.asarray(image), full=65535)).convert("RGB")
    if image.mode in ("I", "F"):
        return from_unbounded(np.asarray(image), image.mode, name).convert("RGB")
    if image.has_transparency_data:
        # Pillow knows no way from premultiplied La to RGBA and would drop the alpha.
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        canvas = Image.new("RGB", rgba.size, "white")
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _expand(images: Any, depth: int) -> list[ImageLike]:
    """`expand_sources`, with `depth` more iterables allowed to open."""
    if isinstance(images, (str, os.PathLike)):
        return _paths(images)
    pixels = isinstance(images, np.ndarray) or is_tensor(images)
    if pixels and images.ndim == 4 and not _is_nested(images):
        return _members(images)
    if pixels or isinstance(images, SINGLE) or _is_file(images):
        return [images]
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise ImageError(_unknown(images))
    if depth == 0:
        raise ImageError(f"pictures are nested too deeply in {describe(images)}; pass a flat list")
    return [image for member in images for image in _expand(member, depth - 1)]


def _members(batch: Any) -> list[ImageLike]:
    """Of a 4-D array or tensor."""
    try:
        return list(batch)
    except RuntimeError as error:  # quantised, or another kind that torch cannot take apart
        raise ImageError(
            f"{describe(batch)} cannot be split; pass its members one by one"
        ) from error


def _is_nested(images: object) -> bool:
    return is_tensor(images) and images.is_nested


def _paths(path: str | os.PathLike[str]) -> list[ImageLike]:
    """A path as it is, the pictures of a folder, or the files that a pattern fits."""
    name = os.fsdecode(path)
    if name and os.path.isdir(name):
        return list(list_images(name))
    if not _PATTERN.search(name) or _URL.match(name) or os.path.lexists(name):
        return [path]
    found = [Path(one) for one in glob(name, recursive=True) if os.path.isfile(one)]
    if not found:
        raise ImageError(f"no file fits {name}{_tried(Path(name))}")
    found.sort(key=_natural_order)
    return [*found]


def _unknown(source: object) -> str:
    return (
        f"{describe(source)} is no picture; pass a path, a URL, the bytes of a file, an open file, "
        "a Pillow image, a numpy array or a tensor"
    )


def _is_file(source: object) -> bool:
    return hasattr(source, "read")


def _tried(path: Path) -> str:
    """Where a relative path was looked for, as a wrong working directory is the usual reason."""
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unreadable(error: OSError, folder: Path) -> None:
    """What `os.walk` meets: fatal for the folder asked for, a warning for one below it."""
    if Path(error.filename) == folder:
        raise ImageError(f"folder {folder} cannot be read: {_reason(error)}") from error
    logger.warning("folder %s is skipped: %s", error.filename, _reason(error))


def _suffixes(registered: Mapping[str, str]) -> set[str]:
    return {suffix for suffix, kind in registered.items() if kind in FORMATS}


def _natural_order(path: Path) -> tuple[list[list[int | str]], str]:
    """Folder by folder, with runs of digits compared as numbers; the spelling settles ties."""
    parts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    numbered: list[list[int | str]] = [
        [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)]
        for pieces in parts
    ]
    return numbered, str(path)
