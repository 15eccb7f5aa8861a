"""Every n-th frame of a video as a picture file, so that a video is labelled as a folder is.

The frames are what a detector is trained on later, so they are kept. Reads with PyAV, an extra.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from glip.errors import ConfigError, DataError
from glip.images import save_image
from glip.progress import Counter, Progress

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"})


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file that is called like a video."""
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def extract_frames(
    video: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    every: int,
    progress: Progress | None = None,
) -> int:
    """Write frames 0, n, 2n, … as `000000000.jpg` and so on, turned as the video asks.

    A frame that is there already is not written again, and none is there half, so a run that was
    stopped goes on.

    Args:
        video: of any kind that PyAV reads; its first video stream counts.
        folder: made if it does not exist.
        every: n, from 1.
        progress: is told of each frame that is due.
    Returns:
        How many frames there are in the folder.
    Raises:
        ConfigError: `every` is below 1, or PyAV is not installed.
        DataError: no video, or a damaged one; what was decoded before is kept.
        ImageError: a frame cannot be written.
    """
    if every < 1:
        raise ConfigError(f"frames are taken every 1, 2, 3, …, got {every}")
    try:
        av: Any = importlib.import_module("av")
    except ImportError as error:
        raise ConfigError(
            f"{video} is a video, which needs PyAV: pip install 'glip[video]'"
        ) from error
    count = 0
    counter = Counter(progress, "frames", unit="frame")
    try:
        with av.open(os.fspath(video)) as container:
            if not container.streams.video:
                raise DataError(f"{video} has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                if number % every:
                    continue
                count += 1
                target = Path(folder) / f"{number:09d}.jpg"
                if not target.exists():
                    picture = frame.to_image()
                    save_image(picture.rotate(_turn(frame), expand=True), target)
                counter.add()
    except av.FFmpegError as error:
        raise DataError(f"{video} cannot be decoded after {count} frames: {error}") from error
    if not count:
        raise DataError(f"{video} has no frames")
    return count


def _turn(frame: Any) -> float:
    """Degrees against the clock by which a frame is to be turned; 0 where PyAV does not say."""
    return float(getattr(frame, "rotation", 0))
