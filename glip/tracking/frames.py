"""A film and a prompt -> its frames with boxes drawn on them, each looked at by itself.

What is found goes into a journal in a hidden folder beside the result, so that a stopped job goes
on; with the result in its place, the folder is gone. No more frames are held than batches need.
Knows nothing about tracks or command lines.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glip.errors import ConfigError, DataError
from glip.files import failing_disk
from glip.jobs.folder import held
from glip.jobs.journal import Journal
from glip.progress import Counter, Progress
from glip.structures import Detections
from glip.tracking.looking import Looker, Readable
from glip.video.reading import Clip, Frame
from glip.video.writing import whole_film

ANNOTATED = "annotated.mp4"
"""The film in the folder of what is half done."""


def draw_film(
    clip: Clip,
    looker: Looker,
    each: Callable[[Frame, Detections], Detections],
    *,
    every: int,
    out: Path | None,
    work: Path | None,
    model: dict[str, Any],
    progress: Progress | None = None,
) -> str | None:
    """Look at each n-th frame of a film, from the first on, and draw what is found.

    Args:
        clip: Open, and not run through yet.
        looker: What looks, and for what.
        each: Is told of every frame that was looked at, and says what is drawn of it.
        every: n.
        out: The annotated film, of these frames, each shown from its time on; None for none.
        work: A folder for what is half done, on the disk of `out`: gone when all is done. What it
            holds of another job, or of another version of the film, is dropped. None to keep
            nothing, without an annotated film.
        model: What tells the model from others, for the journal.
        progress: Is told of each frame that was looked at.
    Returns:
        Why the film could not be read to its end, if so; all that came before is done.
    Raises:
        DataError: No frames in the film.
        StorageError: Something cannot be written, or another run is at work on it.
    """
    assert out is None or work is not None
    readable = Readable(clip)
    frames = ((frame, True) for frame in readable if frame.number % every == 0)
    total = None if clip.total is None else -(-clip.total // every)
    counter = Counter(progress, Path(clip.name).name, total, unit="frame")
    with contextlib.ExitStack() as stack:
        journal, add = None, None
        if work is not None:
            settings = looker.settings(clip, model) | {"every": every}
            journal = stack.enter_context(_journal(work, settings))
            if out is not None:
                add = stack.enter_context(whole_film(work / ANNOTATED, rate=clip.rate / every))
            stack.enter_context(_gone_without_frames(work))
        found = stack.enter_context(contextlib.closing(looker.found(clip, frames, journal)))
        for frame, detections in found:
            counter.add()
            if detections is None:  # no colours: the log says so
                continue
            shown = each(frame, detections)
            if add is not None:
                add(shown.plot(frame.picture()), frame.seconds)
    if work is not None:
        with failing_disk(out or work):
            if out is not None:
                (work / ANNOTATED).replace(out)
            shutil.rmtree(work, ignore_errors=True)
    return readable.broken


@contextlib.contextmanager
def _gone_without_frames(work: Path) -> Iterator[None]:
    """Of a film without frames nothing is kept."""
    try:
        yield
    except DataError:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextlib.contextmanager
def _journal(work: Path, settings: dict[str, Any]) -> Iterator[Journal]:
    """The journal of a job, whose folder nobody else uses meanwhile."""
    with held(work):
        for rest in work.glob(".*.part"):  # of a run that was killed
            rest.unlink()
        try:
            journal = Journal(work / "journal", settings)
        except ConfigError:  # of another prompt or model
            shutil.rmtree(work / "journal")
            journal = Journal(work / "journal", settings)
        with journal:
            yield journal
