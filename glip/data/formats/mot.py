"""MOT Challenge: a text file with the boxes of tracks, one a line, frames and tracks from 1.

`frame, track, left, top, width, height, score, -1, -1, -1`. Names of things have no place in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from glip.errors import DataError


class TrackBox(NamedTuple):
    """Where a track is in a frame."""

    frame: int
    """From 0."""
    track: int
    """From 1."""
    box: Sequence[float]
    """x1, y1, x2, y2, pixels."""
    score: float


def write_mot(boxes: Iterable[TrackBox], file: IO[str]) -> None:
    """Write boxes as they come."""
    for frame, track, (x1, y1, x2, y2), score in boxes:
        corner = f"{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f}"
        file.write(f"{frame + 1},{track},{corner},{score:.4f},-1,-1,-1\n")


def read_mot(path: str | os.PathLike[str]) -> Iterator[TrackBox]:
    """The boxes of a file, in its order; what is behind the score is not read.

    Raises:
        DataError: It cannot be read; the message names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            frame, track, left, top, width, height, score = map(float, line.split(",")[:7])
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: expected frame, track, left, top, width, height, score, "
                f"got {line!r}"
            ) from error
        box = (left, top, left + width, top + height)
        yield TrackBox(int(frame) - 1, int(track), box, score)
