"""A clip and a prompt -> tracks: look, associate, write.

A film is looked at first, into a journal, so that a stopped job goes on; then it is read once more
and its tracks are written. A camera is looked at and written at the same time. No more frames are
held than lie between two looks. Knows nothing about command lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from glip.association.byte_track import AssociationOptions, Tracker
from glip.association.follow import follow, looks
from glip.choices import Aggregate, TrackFormat
from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import ConfigError
from glip.jobs.folder import held
from glip.jobs.journal import Journal
from glip.jobs.pipeline import Read, file_mark, work_through
from glip.pixels import Prepared
from glip.progress import Counter, Progress
from glip.settings import within
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.tracking.outputs import FILES, Tally, write_tracks
from glip.version import __version__
from glip.video.reading import BrokenClipError, Clip, ClipLike, Frame, camera_number


@dataclass(frozen=True)
class TrackOptions:
    """How a clip is tracked."""

    every: int = 1
    """Look at each n-th frame, and at the last."""
    limit: int | None = None
    """Only the first frames."""
    threshold: float | None = None
    """Boxes above this begin tracks; None for that of the model."""
    low: float = 0.1
    """Boxes above this carry tracks on."""
    patience: int = 30
    """Frames for which a track may be out of sight."""
    nms: float = 0.6
    """Of two boxes of a phrase that overlap by more, the better one stays."""
    max_detections: int = 100
    """For each frame."""
    aggregate: Aggregate | None = None
    """How the scores of a phrase's tokens become one."""
    exclusive: bool = False
    """One phrase for each thing."""
    batch_size: int = 1
    """Frames that go through the model together."""
    workers: int = 2
    """Threads that prepare frames."""

    def __post_init__(self) -> None:
        within("every", self.every, least=1, whole=True, way_out="1 looks at every frame")
        within("limit", self.limit, least=1, whole=True, way_out="leave it out for all frames")

    def association(self, usual: float) -> AssociationOptions:
        """How boxes become tracks; `usual` is the model's threshold."""
        threshold = usual if self.threshold is None else self.threshold
        return AssociationOptions(threshold, self.low, self.patience)

    def of_detections(self, usual: float) -> PostprocessOptions:
        """What becomes of the model's output."""
        return PostprocessOptions(
            score=self.association(usual).least,
            nms=self.nms,
            max_detections=self.max_detections,
            aggregate=self.aggregate,
            exclusive=self.exclusive,
        )


@dataclass(frozen=True)
class Tracks:
    """What a clip came to."""

    out: Path
    """Folder of results."""
    files: dict[TrackFormat, Path]
    """Where each format is."""
    frames: int
    """How many frames were tracked."""
    counts: dict[str, int]
    """Name -> how many tracks of it."""
    broken: str | None = None
    """Why the clip could not be read to its end, if so; all that came before is tracked."""

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return f"{self.frames} frames, tracks: {counts}"


def track(
    clip: ClipLike,
    detector: Detector,
    prompt: Prompt,
    out: Path,
    options: TrackOptions,
    formats: Sequence[TrackFormat],
    *,
    model: dict[str, Any],
    progress: Progress | None = None,
) -> Tracks:
    """Track what a prompt names through a clip, and write it.

    Args:
        clip: A video file, or the number of a camera.
        detector: What looks.
        prompt: What for.
        out: Folder of results; a stopped job goes on in its own.
        options: See there.
        formats: See `FILES`.
        model: What tells the model from others, for the journal.
        progress: Is told of each frame.
    Raises:
        ConfigError: Another job's folder, PyAV is not installed, or an unknown format.
        DataError: No such clip, or no frames in it.
        StorageError: The folder cannot be written, or another run is at work there.
    """
    if strange := [kind for kind in formats if kind not in FILES]:
        raise ConfigError(f"format must be among {', '.join(FILES)}, got {strange[0]!r}")
    association = options.association(detector.lowest_threshold)
    options.of_detections(detector.lowest_threshold)
    with Clip(clip) as opened:  # what is no clip leaves no folder
        rate, name = opened.rate, opened.name
    with held(out):
        for rest in out.glob(".*.part"):  # of a run that was killed
            rest.unlink()
        work = _Work(clip, detector, prompt, options, progress)
        if camera_number(clip) is None:
            with Journal(out / "journal", work.settings(model)) as journal:
                work.look(journal)
                tally = _written(work, work.seen(journal), association, out, formats, name, rate)
        else:
            tally = _written(work, work.live(), association, out, formats, name, rate)
    counts = {phrase: len(tally.tracks[phrase]) for phrase in dict.fromkeys(prompt.names)}
    files = {kind: out / FILES[kind] for kind in formats}
    return Tracks(out, files, tally.frames, counts, work.broken)


def _written(
    work: _Work,
    frames: Iterator[tuple[Frame, Detections | None]],
    association: AssociationOptions,
    out: Path,
    formats: Sequence[TrackFormat],
    name: str,
    rate: Any,
) -> Tally:
    return write_tracks(
        follow(frames, Tracker(association)),
        out,
        formats,
        name=Path(name).name,
        names=work.prompt.names,
        rate=rate,
        counter=Counter(work.progress, "writing", work.options.limit, unit="frame"),
    )


class _Work:
    """The looking part of a job."""

    def __init__(
        self,
        clip: ClipLike,
        detector: Detector,
        prompt: Prompt,
        options: TrackOptions,
        progress: Progress | None,
    ) -> None:
        self.clip, self.detector, self.prompt = clip, detector, prompt
        self.options, self.progress = options, progress
        self.post = options.of_detections(detector.lowest_threshold)
        self.broken: str | None = None

    def settings(self, model: dict[str, Any]) -> dict[str, Any]:
        """All that what is found depends on; neither the limit nor how boxes are joined is."""
        return {
            "clip": Path(str(self.clip)).name,
            "clip_mark": file_mark(str(self.clip)),
            "glip": __version__,
            "prompt": self.prompt.text,
            "names": list(self.prompt.names),
            "every": self.options.every,
            "low": self.post.score,
            "nms": self.post.nms,
            "max_detections": self.post.max_detections,
            "aggregate": self.post.aggregate,
            "exclusive": self.post.exclusive,
            **model,
        }

    def frames(self, clip: Clip) -> Iterator[tuple[Frame, bool]]:
        """The frames and whether they are looked at, up to where the clip breaks."""

        def readable() -> Iterator[Frame]:
            try:
                yield from islice(clip, self.options.limit)
            except BrokenClipError as error:
                if not error.frames:
                    raise
                self.broken = str(error)

        return looks(readable(), self.options.every)

    def look(self, journal: Journal) -> None:
        """Look at all frames that are due and not in the journal yet."""
        with Clip(self.clip) as clip:
            due = ((f"{f.number:09d}", f) for f, look in self.frames(clip) if look)
            work_through(
                due,
                self._answer,
                self._prepare,
                journal,
                batch_size=self.options.batch_size,
                workers=self.options.workers,
                what="looking",
                before=journal.count(),
                progress=self.progress,
            )

    def seen(self, journal: Journal) -> Iterator[tuple[Frame, Detections | None]]:
        """All frames with what the journal has of them."""
        records = journal.read("done")
        next_key, record = self._next(records)
        with Clip(self.clip) as clip:
            for frame, _ in self.frames(clip):
                while next_key is not None and next_key < frame.number:
                    next_key, record = self._next(records)
                here = next_key == frame.number
                yield frame, self._found(record, frame) if here else None

    @staticmethod
    def _next(records: Iterator[tuple[str, str, Any]]) -> tuple[int | None, Any]:
        row = next(records, None)
        return (None, None) if row is None else (int(row[0]), row[2])

    def live(self) -> Iterator[tuple[Frame, Detections | None]]:
        """The frames of a camera with what is found in them; Ctrl-C is their end."""
        with Clip(self.clip) as clip:
            try:
                for frame, look in self.frames(clip):
                    found = None
                    if look:
                        prepared = [Read("", self._prepare(frame))]
                        found = self._found(self._answer(prepared)[0][1], frame)
                    yield frame, found
            except KeyboardInterrupt:
                return

    def _prepare(self, frame: Frame) -> Prepared:
        return self.detector.prepare(frame.picture())

    def _answer(self, batch: Sequence[Read]) -> list[tuple[str, Any]]:
        if not batch:
            return []
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
            for (found,) in self.detector.detect(pictures, asked, options=self.post)
        ]

    def _found(self, record: Any, frame: Frame) -> Detections:
        return Detections(
            np.array(record["boxes"], np.float32).reshape(-1, 4),
            np.array(record["scores"], np.float32),
            np.array(record["phrases"], np.int64),
            self.prompt,
            (frame.height, frame.width),
        )
