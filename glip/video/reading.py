"""Frames of a film or a camera, one at a time, each turned as the film asks.

Reads with PyAV, an extra. The first video stream counts that is not the cover of a song. Memory
does not grow with the length of a film. Knows nothing about what is looked for in the frames.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from PIL import Image

from glip.errors import ConfigError, DataError, ImageError
from glip.files import why_missing

logger = logging.getLogger(__name__)

ClipLike: TypeAlias = str | os.PathLike[str] | int
"""A video file, or the number of a camera, also as text."""

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
USUAL_RATE = Fraction(25)
"""Frames a second, of what does not say."""
SAME_MOMENT = 1e-3
"""Times of frames that differ by less are one, seconds."""

CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
"""Operating system -> what reads its cameras, and how it calls them by number."""


class BrokenClipError(DataError):
    """A film that cannot be read to its end.

    Attributes:
        frames: how many were read before.
    """

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file that is called like a video."""
    return Path(path).suffix.lower() in SUFFIXES and os.path.isfile(path)


def camera_number(clip: ClipLike) -> int | None:
    """The number of a camera, if it is one: 0, or "0" where no file is called so."""
    if isinstance(clip, int):
        return clip
    name = os.fspath(clip)
    return int(name) if name.isdecimal() and not os.path.exists(name) else None


@dataclass(frozen=True)
class Frame:
    """One frame, decoded; its picture is made when it is asked for, in whichever thread."""

    number: int
    """From 0."""
    seconds: float
    """Since the first one."""
    width: int
    """Of the picture, pixels, after turning; that of the film's first frame."""
    height: int
    _decoded: Any = field(repr=False)
    _turn: float = field(repr=False)

    def picture(self) -> Image.Image:
        """Upright, RGB.

        Raises:
            ImageError: Its colours cannot be converted.
        """
        swapped = self._turn % 180 == 90
        width, height = (self.height, self.width) if swapped else (self.width, self.height)
        try:
            image = self._decoded.reformat(width=width, height=height, format="rgb24").to_image()
        except (OSError, ValueError) as error:
            raise ImageError(f"frame {self.number} cannot be converted to RGB: {error}") from error
        return image.rotate(self._turn, expand=True) if self._turn else image


@dataclass(frozen=True)
class FrameAt:
    """A frame by its place in a film, which is opened anew whenever its picture is asked for."""

    film: str
    number: int
    """From 0."""
    seconds: float
    """Since the first one."""

    def picture(self) -> Image.Image:
        """Upright, RGB.

        Raises:
            ConfigError, DataError: As of `Clip`, or the frame is not there any more.
            ImageError: Its colours cannot be converted.
        """
        with Clip(self.film) as clip:
            frame = clip.sought(self)
            if frame is not None:
                return frame.picture()
        with Clip(self.film) as clip:  # from the beginning
            for frame in clip:
                if frame.number == self.number:
                    return frame.picture()
        raise DataError(f"{self.film} has no frame {self.number} any more")


class Clip:
    """A film or camera that is open: run through its frames once, then close it.

    Attributes:
        source: what was handed in.
        camera: its number; None for a film.
        name: what it is called in messages.
        rate: frames a second, on average.
        total: how many frames the file says that it has; None if it does not, as of a camera.
    """

    def __init__(self, clip: ClipLike) -> None:
        """Open it.

        Raises:
            ConfigError: PyAV is not installed, or cameras cannot be read on this system.
            DataError: No such file or camera, or no video in it.
        """
        self.source = clip
        self.camera = camera = camera_number(clip)
        self.name = f"camera {camera}" if camera is not None else str(clip)
        self._av = _pyav(self.name)
        self._container = self._opened_camera(camera) if camera is not None else self._opened()
        self._stream = _video_stream(self._container, self._av)
        if self._stream is None:
            self.close()
            raise DataError(f"{self.name} has no video stream, only sound or data")
        self._stream.thread_type = "AUTO"
        self.rate = self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE
        self.total = int(self._stream.frames) or None
        self._start = 0.0
        self._has_warned = False

    def _opened(self) -> Any:
        path = Path(self.name)
        if not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else why_missing(path)
            raise DataError(f"{path} {what}; name a video file, or the number of a camera")
        try:
            return self._av.open(self.name, metadata_errors="replace")
        except (self._av.FFmpegError, ValueError) as error:
            reason = "it is empty (0 bytes)" if not path.stat().st_size else _reason(error)
            raise DataError(f"{path} cannot be read as a video: {reason}") from error

    def _opened_camera(self, number: int) -> Any:
        if sys.platform not in CAMERAS:
            raise ConfigError(
                f"cameras have numbers on Linux and macOS only; record {self.name} to a file, and "
                "name that"
            )
        kind, place = CAMERAS[sys.platform]
        try:
            return self._av.open(place.format(number), format=kind)
        except (self._av.FFmpegError, ValueError) as error:
            raise DataError(
                f"{self.name} ({place.format(number)}) cannot be opened: {_reason(error)}; is it "
                "plugged in, and used by no other program?"
            ) from error

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file or camera."""
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames in their order.

        A frame of another size, as recorded calls have them, is brought to that of the first one,
        as players do.

        Raises:
            DataError: There are no frames.
            BrokenClipError: It cannot be decoded any further, or ends before it should.
        """
        first: Frame | None = None
        number = 0
        try:
            for number, decoded in enumerate(self._container.decode(self._stream), start=1):
                frame = self._frame(number - 1, decoded, first)
                first = first or frame
                yield frame
        except self._av.FFmpegError as error:
            raise self._broken(number, _reason(error)) from error
        if first is None:
            raise DataError(f"{self.name} has no frames")
        if self.total is not None and number < 0.9 * self.total:
            raise self._broken(number, f"it should have {self.total}")

    def sought(self, place: FrameAt) -> Frame | None:
        """The frame at that time, found by a jump; None where that does not lead to it."""
        try:
            first = next(iter(self))
            moment = int((self._start + place.seconds) * self._av.time_base)
            self._container.seek(moment, backward=True)
            for decoded in self._container.decode(self._stream):
                if decoded.time is None:
                    return None
                late = decoded.time - self._start - place.seconds
                if late > -SAME_MOMENT:
                    here = self._frame(place.number, decoded, first)
                    return here if late < SAME_MOMENT else None
        except (DataError, self._av.FFmpegError):
            pass
        return None

    def _frame(self, number: int, decoded: Any, first: Frame | None) -> Frame:
        turn = float(getattr(decoded, "rotation", 0)) % 360  # 0 where PyAV does not say
        width, height = decoded.width, decoded.height
        if turn % 180 == 90:
            width, height = height, width
        time = decoded.time
        seconds = float(number / self.rate if time is None else time)
        if first is None:
            self._start = seconds
            return Frame(number, 0.0, width, height, decoded, turn)
        if (width, height) != (first.width, first.height) and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s changes its size in frame %d, from %dx%d to %dx%d pixels: such frames are "
                "brought to the size of the first one",
                *(self.name, number, first.width, first.height, width, height),
            )
        return Frame(number, seconds - self._start, first.width, first.height, decoded, turn)

    def _broken(self, frames: int, reason: str) -> DataError:
        return BrokenClipError(
            f"{self.name} cannot be decoded after {frames} frames: {reason}", frames
        )


def _pyav(name: str) -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        what = "is a camera" if name.startswith("camera ") else "is a video"
        raise ConfigError(f"{name} {what}, which needs PyAV: pip install 'glip[video]'") from error


def _video_stream(container: Any, av: Any) -> Any:
    """The first stream of moving pictures."""
    cover = int(av.stream.Disposition.attached_pic)
    moving = [one for one in container.streams.video if not int(one.disposition) & cover]
    return moving[0] if moving else None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
