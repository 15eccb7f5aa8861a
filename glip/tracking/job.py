"""A clip and a prompt -> tracks: look, associate, write, all in one pass over the frames.

What is found goes into a journal, so that a stopped job goes on: the film is decoded anew, but not
looked at. A camera has no journal. No more frames are held than lie between two looks, and between
those of a batch. Knows nothing about command lines.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from glip.association.byte_track import Tracker
from glip.association.follow import follow, looks
from glip.association.options import FollowOptions
from glip.choices import TrackFormat
from glip.detector import Detector
from glip.errors import ConfigError
from glip.jobs.folder import held
from glip.jobs.interrupt import Held, signals_held
from glip.jobs.journal import Journal
from glip.progress import Counter, Progress
from glip.settings import within
from glip.text.prompt import Prompt
from glip.tracking.looking import Looker, Readable
from glip.tracking.outputs import FILES, write_tracks
from glip.video.reading import Clip


@dataclass(frozen=True)
class TrackOptions(FollowOptions):
    """How a clip is tracked."""

    limit: int | None = None
    """Only the first frames."""
    batch_size: int = 1
    """Frames that go through the model together."""
    workers: int | None = None
    """Threads that prepare frames; by default 2, and on a GPU half the cores, from 2 to 8."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within("limit", self.limit, least=1, whole=True, way_out="leave it out for all frames")


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
    clip: Clip,
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

    Before a camera Ctrl-C and SIGTERM are the end of the clip; the latter comes through once all is
    written.

    Args:
        clip: Open, and not run through yet.
        detector: What looks.
        prompt: What for.
        out: Folder of results; a stopped job goes on in its own.
        options: See there.
        formats: See `FILES`.
        model: What tells the model from others, for the journal.
        progress: Is told of each frame.
    Raises:
        ConfigError: Another job's folder, or an unknown format.
        DataError: No frames in the clip.
        StorageError: The folder cannot be written, or another run is at work there.
    """
    if strange := [kind for kind in formats if kind not in FILES]:
        raise ConfigError(f"format must be among {', '.join(FILES)}, got {strange[0]!r}")
    association = options.association(detector.lowest_threshold)
    looker = Looker(
        detector,
        prompt,
        options.of_detections(detector.lowest_threshold),
        options.batch_size,
        options.workers,
    )
    readable = Readable(clip, options.limit)
    with held(out), contextlib.ExitStack() as stack:
        for rest in out.glob(".*.part"):  # of a run that was killed
            rest.unlink()
        journal, stop = None, Held()
        if clip.camera is None:
            settings = looker.settings(clip, model) | {"every": options.every}
            journal = stack.enter_context(Journal(out / "journal", settings))
        else:
            stop = stack.enter_context(_last_frame_at_ctrl_c())
        frames = looks(takewhile(lambda _: not stop, readable), options.every)
        found = stack.enter_context(contextlib.closing(looker.found(clip, frames, journal)))
        total = min((n for n in (clip.total, options.limit) if n is not None), default=None)
        tally = write_tracks(
            follow(found, Tracker(association)),
            out,
            formats,
            name=Path(clip.name).name,
            names=prompt.names,
            rate=clip.rate,
            counter=Counter(progress, "tracking", total, unit="frame"),
        )
    counts = {phrase: len(tally.tracks[phrase]) for phrase in dict.fromkeys(prompt.names)}
    files = {kind: out / FILES[kind] for kind in formats}
    return Tracks(out, files, tally.frames, counts, readable.broken)


@contextlib.contextmanager
def _last_frame_at_ctrl_c() -> Iterator[Held]:
    """Signals are held back; Ctrl-C has done its work by the end."""
    with signals_held() as came:
        yield came
        if came.came == [signal.SIGINT]:
            came.came.clear()
