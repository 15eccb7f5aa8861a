"""Pictures as an MP4 film, whole or not at all.

Writes with PyAV, an extra: H.264 where it has that, else MPEG-4 Part 2. There is no sound. Knows
nothing about what is on the pictures.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from glip.files import failing_disk, whole_path

CODECS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))
"""The first that PyAV was built with is taken; what else each is told."""
TICK = Fraction(1, 60_000)
"""In which times are counted, seconds: the rates of film and television are whole numbers of it, up
to 4 microseconds, and MPEG-4 can count them."""

Add: TypeAlias = Callable[[Image.Image, float], None]
"""Writes a picture that is shown from that many seconds on."""


@contextlib.contextmanager
def whole_film(path: str | os.PathLike[str], *, rate: Fraction) -> Iterator[Add]:
    """A film to add pictures to; it takes the place of an old one if the block ends without error.

    All pictures get the size of the first one, less a pixel where that is odd, as the format wants
    even ones.

    Args:
        path: Of the file.
        rate: Pictures a second, for the encoder to plan with; each picture has its own time.
    Raises:
        StorageError: It cannot be written; nothing is left behind.
    """
    path = Path(path)
    av: Any = importlib.import_module("av")
    with failing_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_path(path) as unfinished:
            options = {"movflags": "+faststart"}
            with av.open(os.fspath(unfinished), "w", format="mp4", options=options) as container:
                film = _Film(av, container, rate)
                yield film.add
                film.end()


class _Film:
    """An encoder, made when the first picture comes."""

    def __init__(self, av: Any, container: Any, rate: Fraction) -> None:
        self._av, self._container, self._rate = av, container, rate
        self._stream: Any = None
        self._last = -1

    def add(self, picture: Image.Image, seconds: float) -> None:
        if self._stream is None:
            self._stream = self._begun(picture)
        frame = self._av.VideoFrame.from_image(picture)
        frame = frame.reformat(self._stream.width, self._stream.height, "yuv420p")
        # Times of damaged films may stand still.
        self._last = max(self._last + 1, round(seconds / TICK))
        frame.pts, frame.time_base = self._last, TICK
        self._container.mux(self._stream.encode(frame))

    def _begun(self, picture: Image.Image) -> Any:
        codec, options = next(one for one in CODECS if one[0] in self._av.codecs_available)
        rate = Fraction(self._rate).limit_denominator(60_000)
        stream = self._container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = (max(2, side - side % 2) for side in picture.size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TICK
        return stream

    def end(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
