"""Any picture a user may hand in -> an upright 8-bit RGB image; folders and batches -> flat lists.

This is the border for pixels: whatever cannot be used is refused here, with an `ImageError` that
names the file or array and the way out. Every picture leaves in one form, so that nobody behind
this door asks about palettes, alpha, sixteen bits or EXIF. Knows nothing about resizing,
normalisation or boxes.
"""

import contextlib
import io
import logging
import os
import re
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageFile
from torch import Tensor

from glip.errors import ConfigError, ImageError
from glip.files import RESULT_SUFFIX, whole_path

logger = logging.getLogger(__name__)

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor
"""One picture: a path, a Pillow image, an array (H, W[, C]) or a tensor ([C,] H, W), as RGB."""

ImageLikes: TypeAlias = ImageLike | Iterable[ImageLike | Iterable[ImageLike]]
"""One picture, a folder, a 4-D batch, or an iterable of any of them."""

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

FLOAT_TOLERANCE = 1e-3
"""How far a float pixel may leave [0, 1]: rounding overshoots by less, a wrong unit by more."""

_lifting = threading.Lock()

_URL = re.compile(r"^(https?|ftp|s3|gs|file|data):", re.IGNORECASE)

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
        source: a path, a Pillow image, an array or tensor. Arrays have shape (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), tensors (H, W), (1, H, W), (3, H, W) or (4, H, W); both in RGB
            or RGBA order, uint8, uint16, bool or floating point, on any device.
        max_pixels: largest width times height of a file or Pillow image, checked before it is
            decoded; by default the environment variable GLIP_MAX_PIXELS, or else `MAX_PIXELS`.
    Returns:
        An image that the caller should not draw on: an upright RGB Pillow image comes back itself.
    Raises:
        ImageError: the picture is missing, unreadable, too large, or has a shape, type or values
            that are none of the above.
        ConfigError: `max_pixels` or GLIP_MAX_PIXELS is not a positive whole number.
    """
    name = describe(source)
    if isinstance(source, Image.Image):
        return _decode(source, name, _pixel_limit(max_pixels))
    if isinstance(source, (str, os.PathLike)):
        return _read_file(source, _pixel_limit(max_pixels))
    if isinstance(source, Tensor):
        return _from_pixels(_channels_last(source, name), name)
    if isinstance(source, np.ndarray):
        return _from_pixels(_checked_layout(source, name), name)
    raise ImageError(_unknown(source))


def list_images(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[Path]:
    """The pictures of a folder, hidden ones left out, in natural order: 2.png before 10.png.

    Raises:
        ImageError: the folder is missing, cannot be read, or holds no picture.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        reason = (
            "is a file, not a folder"
            if os.path.exists(folder)
            else f"does not exist{_tried(folder)}"
        )
        raise ImageError(f"folder {folder} {reason}")
    suffixes = _suffixes(Image.registered_extensions())
    names = _files_below(folder, lambda error: _unreadable(error, folder), recursive=recursive)
    paths = (folder / name for name in names)
    found = [path for path in paths if path.suffix.lower() in suffixes]
    if not found:
        where = "in it or below" if recursive else "directly in it"
        raise ImageError(
            f"folder {folder} holds no picture: no {', '.join(sorted(suffixes))} {where}"
        )
    return sorted(found, key=_natural_order)


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
    if not base.is_dir():
        reason = "is a file, not a folder" if base.exists() else "does not exist"
        raise ConfigError(f"picture folder {base} {reason}")
    suffixes = {s for s, kind in Image.registered_extensions().items() if kind in FORMATS}

    def refuse(error: OSError) -> None:
        raise ConfigError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    for name in _files_below(base, refuse, without=without):
        if name.endswith(RESULT_SUFFIX):
            continue  # what `glip predict` has drawn
        if os.path.splitext(name)[1].lower() in suffixes:
            yield name


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
            with os.scandir(base / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name.startswith("."):
                        continue
                    if not entry.is_dir():
                        yield name
                    elif recursive:
                        (links if entry.is_symlink() else folders).append(name)
        except OSError as error:
            unreadable(error)


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
        return os.fsdecode(source)
    if isinstance(source, Image.Image):
        file = os.fsdecode(getattr(source, "filename", "")) or "Pillow image"
        return f"{file} ({source.width}x{source.height}, mode {source.mode})"
    if isinstance(source, Tensor):
        dtype = str(source.dtype).removeprefix("torch.")
        return f"tensor of shape {tuple(source.shape)} and type {dtype}"
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape} and type {source.dtype}"
    return f"object of type {type(source).__name__}"


def _pixel_limit(max_pixels: int | None) -> int:
    """The argument, else the environment variable, else the default."""
    if max_pixels is not None:
        if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
            raise ConfigError(f"max_pixels must be a positive whole number, got {max_pixels!r}")
        return max_pixels
    text = os.environ.get("GLIP_MAX_PIXELS", "").strip()
    if not text:
        return MAX_PIXELS
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise ConfigError(f"GLIP_MAX_PIXELS must be a positive whole number, got {text!r}")
    return limit


def _read_file(source: str | os.PathLike[str], limit: int) -> Image.Image:
    name = os.fsdecode(source)
    if not name:
        raise ImageError("the path of a picture is empty")
    if _URL.match(name):
        shown = name if len(name) <= 80 else f"{name[:77]}..."
        raise ImageError(
            f"{shown} is a URL; download the picture first and pass the path of the file"
        )
    path = Path(name)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not a picture; list_images gives its pictures")
        if not path.exists():
            raise ImageError(f"{path} does not exist{_tried(path)}")
        if not path.is_file():
            raise ImageError(f"{path} is not a regular file; save the picture to one first")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes)")
        with path.open("rb") as file:
            picture = _decode(_identify(file, path), name, limit)
            # A plain copy: Pillow's file image would keep the closed file, and its EXIF, alive.
            return picture.copy() if isinstance(picture, ImageFile.ImageFile) else picture
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ImageError(f"{name} cannot be opened: {_reason(error)}") from error


def _identify(file: IO[bytes], path: Path) -> ImageFile.ImageFile:
    """Pillow's image of a file with nothing but its header read.

    Does what `PIL.Image.open` does except for its check of the size, whose limit is a global of the
    process: ours is an argument, so it needs a way in that leaves the global, and the other threads
    that rely on it, alone.
    """
    Image.init()
    prefix = file.read(16)
    failures = []
    for kind in (kind for kind in Image.ID if kind in FORMATS):
        factory, accepts = Image.OPEN[kind]
        accepted = accepts(prefix) if accepts else True
        if isinstance(accepted, str):  # what Pillow, as built here, lacks for this format
            failures.append(accepted)
        elif accepted:
            file.seek(0)
            try:
                return factory(file, os.fspath(path))
            except Image.DecompressionBombError as error:  # WebP takes its memory this early
                raise ImageError(
                    f"{path} is refused by Pillow: {error} If it can be trusted, raise "
                    "PIL.Image.MAX_IMAGE_PIXELS as well as max_pixels"
                ) from error
            except Exception as error:  # readers meet bad bytes with whatever they trip over first
                failures.append(f"as {kind}: {_reason(error)}")
    if failures:
        raise ImageError(
            f"{path} cannot be decoded, it is damaged or incomplete ({'; '.join(failures)})"
        )
    kinds = ", ".join(sorted(FORMATS & set(Image.ID)))
    raise ImageError(f"{path} is not a picture in a known format; convert it to one of {kinds}")


def _decode(image: Image.Image, name: str, limit: int) -> Image.Image:
    """Decode, turn upright and bring to RGB; `limit` is checked before the first two."""
    width, height = image.size
    if width == 0 or height == 0:
        raise ImageError(f"{name} has no pixels ({width}x{height})")
    if width * height > limit:
        raise ImageError(
            f"{name} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{limit:,}; if it can be trusted, raise max_pixels or the environment variable "
            "GLIP_MAX_PIXELS"
        )
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
        return Image.fromarray(_eight_bits(np.asarray(image), full=65535)).convert("RGB")
    if image.mode in ("I", "F"):
        return _from_unbounded(np.asarray(image), image.mode, name).convert("RGB")
    if image.has_transparency_data:
        # Pillow knows no way from premultiplied La to RGBA and would drop the alpha.
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        canvas = Image.new("RGB", rgba.size, "white")
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_unbounded(values: npt.NDArray[Any], mode: str, name: str) -> Image.Image:
    """Modes I and F, which carry no range: it is the smallest usual one that holds the values."""
    low, high = _extremes(values, name)
    ranges = (255, 65535) if mode == "I" else (1, 255, 65535)
    full = next((full for full in ranges if high <= full), None)
    if low < 0 or full is None:
        raise ImageError(
            f"{name} has values from {low:g} to {high:g}; "
            f"scale them to 0 ... {' or '.join(map(str, ranges))}"
        )
    return Image.fromarray(_eight_bits(values, full=full))


def _channels_last(tensor: Tensor, name: str) -> npt.NDArray[Any]:
    """(H, W) or (C, H, W) on any device -> (H, W) or (H, W, C) in memory."""
    if tensor.ndim == 3:
        if tensor.shape[0] not in (1, 3, 4):
            hint = (
                "; its channels come last, use .permute(2, 0, 1)"
                if tensor.shape[-1] in (1, 3, 4)
                else ""
            )
            raise ImageError(
                f"{name} is no picture: expected (1, H, W), (3, H, W) or (4, H, W){hint}"
            )
        tensor = tensor.permute(1, 2, 0)
    elif tensor.ndim != 2:
        hint = _batch_hint(tensor.ndim, "C, H, W")
        raise ImageError(f"{name} is no picture: expected (H, W) or (3, H, W){hint}")
    if tensor.is_meta or tensor.layout is not torch.strided:
        raise ImageError(f"{name} has no dense values; pass a strided tensor with data")
    if tensor.dtype == torch.bfloat16:  # numpy has no such type
        tensor = tensor.float()
    return tensor.detach().cpu().resolve_neg().resolve_conj().numpy()


def _checked_layout(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """The array itself if its shape is (H, W) or (H, W, 1|3|4)."""
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        hint = (
            "; its channels come first, use array.transpose(1, 2, 0)"
            if array.shape[0] in (1, 3, 4)
            else ""
        )
        raise ImageError(
            f"{name} is no picture: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}"
        )
    if array.ndim not in (2, 3):
        hint = _batch_hint(array.ndim, "H, W, C")
        raise ImageError(f"{name} is no picture: expected (H, W) or (H, W, 3){hint}")
    return array


def _from_pixels(pixels: npt.NDArray[Any], name: str) -> Image.Image:
    """(H, W) or (H, W, 1|3|4) of any supported type -> RGB."""
    if pixels.size == 0:
        raise ImageError(f"{name} has no pixels")
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if kind == "b":
        pixels = _eight_bits(pixels, full=1)
    elif kind == "u" and size == 2:
        pixels = _eight_bits(pixels, full=65535)
    elif kind == "f":
        low, high = _extremes(pixels, name)
        if low < -FLOAT_TOLERANCE or high > 1 + FLOAT_TOLERANCE:
            fix = (
                "divide by 255"
                if low >= 0 and high <= 255
                else "undo the normalisation or scale it"
            )
            raise ImageError(
                f"{name} has values from {low:g} to {high:g}, floats must lie in [0, 1]; {fix}"
            )
        pixels = _eight_bits(np.clip(pixels, 0, 1), full=1)
    elif not (kind == "u" and size == 1):
        raise ImageError(
            f"{name} is no picture: expected uint8, uint16, bool or floats in [0, 1]; "
            "if the values are 0 ... 255, convert them to uint8"
        )
    return _to_rgb(Image.fromarray(pixels), name)


def _extremes(values: npt.NDArray[Any], name: str) -> tuple[float, float]:
    """Lowest and highest value, all being finite."""
    low, high = float(values.min()), float(values.max())  # NaN wins both
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(values.size - np.isfinite(values).sum())
        raise ImageError(
            f"{name} has NaN or infinite values ({count:,} of {values.size:,}); "
            "replace them, for instance with numpy.nan_to_num"
        )
    return low, high


def _eight_bits(values: npt.NDArray[Any], *, full: int) -> npt.NDArray[np.uint8]:
    """Values in [0, full] -> 0 ... 255, rounded, so that x / 255 comes back as x."""
    scaled: npt.NDArray[np.float32] = values.astype(np.float32) * np.float32(255 / full)
    return np.rint(scaled).astype(np.uint8)


def _expand(images: Any, depth: int) -> list[ImageLike]:
    """`expand_sources`, with `depth` more iterables allowed to open."""
    if isinstance(images, (str, os.PathLike)):
        path = os.fsdecode(images)
        return list(list_images(path)) if path and os.path.isdir(path) else [images]
    if isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4:
        return list(images)
    if isinstance(images, (Image.Image, np.ndarray, Tensor)):
        return [images]
    no_list = isinstance(images, (bytes, bytearray, Mapping)) or _is_file(images)
    if no_list or not isinstance(images, Iterable):
        raise ImageError(_unknown(images))
    if depth == 0:
        raise ImageError(f"pictures are nested too deeply in {describe(images)}; pass a flat list")
    return [image for member in images for image in _expand(member, depth - 1)]


def _unknown(source: object) -> str:
    way_out = "pass a path, a Pillow image, a numpy array or a tensor"
    if isinstance(source, (bytes, bytearray)) or _is_file(source):
        way_out = "open it with PIL.Image.open (bytes through io.BytesIO) and pass that"
    return f"{describe(source)} is no picture; {way_out}"


def _is_file(source: object) -> bool:
    return hasattr(source, "read")


def _batch_hint(ndim: int, axes: str) -> str:
    return f"; as a batch (B, {axes}), pass its members one by one" if ndim == 4 else ""


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
