"""Frames of a clip -> what is found in them, kept in a journal so that a stopped job goes on.

Each frame is decoded once; one whose answer the journal has does not go through the model again.
Knows nothing about tracks, nor what becomes of the answers.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.jobs.journal import Journal
from glip.jobs.pipeline import Read, file_mark, in_turn
from glip.pixels import Prepared
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.version import __version__
from glip.video.reading import BrokenClipError, Clip, Frame, FrameAt


class Readable:
    """The frames of a clip up to where it breaks, if it does.

    Attributes:
        broken: why it could not be read to its end, once that is known.
    """

    def __init__(self, clip: Clip, limit: int | None = None) -> None:
        """`limit`: only the first frames."""
        self._clip, self._limit = clip, limit
        self.broken: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Run through once.

        Raises:
            DataError: There is no frame, or the first one is broken already.
        """
        try:
            yield from islice(self._clip, self._limit)
        except BrokenClipError as error:
            if not error.frames:
                raise
            self.broken = str(error)


@dataclass(frozen=True)
class Looker:
    """What looks at frames, and how."""

    detector: Detector
    prompt: Prompt
    options: PostprocessOptions
    batch_size: int = 1
    """Frames that go through the model together."""
    workers: int | None = None
    """Threads that prepare frames; None for as many as the detector's device wants."""

    def settings(self, clip: Clip, model: dict[str, Any]) -> dict[str, Any]:
        """All that the answers of a journal depend on.

        Args:
            clip: A film.
            model: What tells the model from others.
        """
        return {
            "clip": os.path.basename(clip.name),
            "clip_mark": file_mark(clip.name),
            "glip": __version__,
            "prompt": self.prompt.text,
            "names": list(self.prompt.names),
            "low": self.options.score,
            "nms": self.options.nms,
            "max_detections": self.options.max_detections,
            "aggregate": self.options.aggregate,
            "exclusive": self.options.exclusive,
            **model,
        }

    def found(
        self, clip: Clip, frames: Iterable[tuple[Frame, bool]], journal: Journal | None
    ) -> Generator[tuple[Frame, Detections | None], None, None]:
        """Every frame with what is found in it; close it if you leave before its end.

        Args:
            clip: What the frames are of.
            frames: In their order, each with whether to look at it.
            journal: Has the answers of earlier runs, and gets those of this one.
        Yields:
            None as the answer where nobody looked, or where the colours cannot be converted.
        """
        items = ((f"{f.number:09d}" if due else None, f) for f, due in frames)
        records = in_turn(
            items,
            self._answer,
            self._prepare,
            journal,
            batch_size=self.batch_size,
            pace=self.detector.pace.with_workers(self.workers),
        )
        with closing(records):
            for frame, record in records:
                found = None if record is None else self._read(record, frame)
                if found is not None and clip.camera is None:
                    found = found.remember(FrameAt(clip.name, frame.number, frame.seconds))
                yield frame, found

    def _prepare(self, frame: Frame) -> Prepared:
        return self.detector.prepare(frame.picture())

    def _answer(self, batch: Sequence[Read]) -> list[tuple[str, Any]]:
        pictures = [one.picture for one in batch]
        asked = [[self.prompt]] * len(batch)
        return [
            (
                "done",
                {
                    "boxes": np.round(found.boxes.astype(float), 2).tolist(),
                    "scores": np.round(found.scores.astype(float), 5).tolist(),
                    "phrases": found.phrase_ids.tolist(),
                },
            )
            for (found,) in self.detector.detect(pictures, asked, options=self.options)
        ]

    def _read(self, record: Any, frame: Frame) -> Detections:
        return Detections(
            np.array(record["boxes"], np.float32).reshape(-1, 4),
            np.array(record["scores"], np.float32),
            np.array(record["phrases"], np.int64),
            self.prompt,
            (frame.height, frame.width),
        )
