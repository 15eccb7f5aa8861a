"""Pictures as requests bring them: bytes of a file, base64, `data:` URLs, addresses.

Nothing here trusts a sender: sizes are checked before anything is decoded. Knows nothing about
prompts.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from glip.errors import ImageError
from glip.images import FORMATS, HEIF_BRANDS, load_image
from glip.serve.refusals import Refusal

ADDRESS = re.compile(r"https?://", re.IGNORECASE)
DATA_URL = re.compile(r"data:[\w.+/;=-]*;base64,", re.IGNORECASE)

Fetch = Callable[[str], bytes]
"""The content of an address; refuses what it must not fetch."""


@dataclass(frozen=True)
class Picture:
    """A picture of a request, not yet decoded."""

    content: bytes | str
    """Of its file; as text in base64, a `data:` URL or an address."""
    name: str
    """What the answer calls it."""


def no_addresses(url: str) -> bytes:
    """Fetches nothing.

    Raises:
        Refusal: Always.
    """
    raise Refusal(
        403,
        "urls_off",
        "this server fetches no pictures from addresses; send the picture itself",
    )


def content_of(picture: Picture, fetch: Fetch) -> bytes:
    """The bytes of a picture's file, wherever it is.

    Raises:
        Refusal: Text that is no base64, or what `fetch` says.
    """
    if isinstance(picture.content, bytes):
        return picture.content
    if ADDRESS.match(picture.content):
        return fetch(picture.content)
    return from_base64(picture.content)


def from_base64(text: str) -> bytes:
    """Bytes of base64, with or without the head of a `data:` URL.

    Raises:
        Refusal: It is neither.
    """
    head = DATA_URL.match(text)
    try:
        return base64.b64decode("".join(text[head.end() if head else 0 :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            422,
            "bad_picture",
            "a picture given as text must be base64, a data: URL or an http(s) address "
            "(with curl, -F image=@FILE sends a file)",
        ) from error


def read_picture(content: bytes, *, max_pixels: int) -> Image.Image:
    """Decode a picture, upright and RGB.

    Args:
        content: Of its file.
        max_pixels: Largest width times height.
    Raises:
        Refusal: It is larger, or empty.
        ImageError: It cannot be decoded.
    """
    if not content:
        raise Refusal(422, "bad_picture", "the picture is empty (0 bytes)")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit decides
            image = Image.open(io.BytesIO(content), formats=[k for k in Image.ID if k in FORMATS])
    except Image.DecompressionBombError as error:
        raise _too_large(f"more than {max_pixels:,} pixels", max_pixels) from error
    except Exception as error:  # readers meet bad bytes with whatever they trip over first
        if content[4:12] in HEIF_BRANDS:
            raise ImageError("HEIC pictures are not read by this server; send a JPEG") from error
        raise ImageError(
            "the file is damaged, or no picture in a format that is read here (JPEG, PNG, WebP, "
            "TIFF, BMP, GIF, AVIF and some more)"
        ) from error
    if image.width * image.height > max_pixels:
        raise _too_large(f"{image.width} x {image.height} pixels", max_pixels)
    try:
        return load_image(image, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError("the picture is damaged or incomplete, it cannot be decoded") from error


def _too_large(what: str, max_pixels: int) -> Refusal:
    return Refusal(
        413,
        "too_many_pixels",
        f"the picture has {what}, this server takes {max_pixels:,}; send a smaller one",
    )
