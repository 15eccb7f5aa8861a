"""Films among the pictures of `glip predict`: which they are, and what is said of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glip.cli.terminal import JsonFile, film_table, note
from glip.errors import ConfigError, DataError, ImageError
from glip.files import FILM_SUFFIX, is_device

if TYPE_CHECKING:
    from glip.progress import Progress
    from glip.structures import Detections
    from glip.tracking.looking import Looker
    from glip.video.reading import Frame


def is_film(source: str) -> bool:
    """Whether a path is a film."""
    from glip.video.reading import is_video

    return is_video(source)


def check_film(source: str) -> None:
    """Whether a film can be opened, before a model is loaded.

    Raises:
        ConfigError: PyAV is not installed.
        ImageError: It is broken, or has no pictures.
    """
    from glip.video.reading import Clip

    try:
        Clip(source).close()
    except DataError as error:
        raise ImageError(str(error)) from error


def films_below(folder: str) -> int:
    """How many films there are in a folder and those below it, our results left out."""
    return sum(
        is_film(os.path.join(place, name)) and not name.endswith(FILM_SUFFIX)
        for place, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )


def check_film_name(path: Path) -> None:
    """Refuse what is no name for an annotated film.

    Raises:
        ConfigError: Another suffix than that of MP4.
    """
    if path.suffix.lower() != ".mp4":
        raise ConfigError(f"an annotated film is written as .mp4, and {path} is called otherwise")


def work_folder(source: str, number: int, out: Path | None, json_path: str | None) -> Path | None:
    """Where a film that is half done is kept: beside what is written of it; None for nowhere.

    Args:
        source: The film.
        number: Its place among the inputs, as a JSON file may be of several films.
        out: The annotated film.
        json_path: What is found.
    """
    if out is not None:
        return out.with_name(f".{out.name}.work")
    if json_path in (None, "-") or is_device(json_path or ""):
        return None
    path = Path(json_path or "")
    return path.with_name(f".{path.name}.{number}.{Path(source).name}.work")


class _Summary:
    """What was found of each name in the frames of a film."""

    def __init__(self) -> None:
        self.frames = 0
        self.seen: Counter[str] = Counter()
        self.most: dict[str, int] = {}
        self.score: dict[str, float] = {}
        self.times: dict[str, tuple[float, float]] = {}

    def add(self, seconds: float, found: Detections) -> None:
        """One more frame."""
        self.frames += 1
        for name, count in Counter(found.phrases).items():
            self.seen[name] += 1
            self.most[name] = max(count, self.most.get(name, 0))
            self.times[name] = (self.times.get(name, (seconds,))[0], seconds)
        for name, score in zip(found.phrases, found.scores.tolist(), strict=True):
            self.score[name] = max(score, self.score.get(name, 0.0))

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of a table, a row for each name that was found."""
        return [
            (
                name,
                str(count),
                str(self.most[name]),
                f"{self.score[name]:.3f}",
                *(f"{seconds:.1f}" for seconds in self.times[name]),
            )
            for name, count in self.seen.most_common()
        ]


def through_film(
    source: str,
    looker: Looker,
    file: JsonFile,
    keep: Callable[[Detections], Detections],
    *,
    every: int,
    out: Path | None,
    work: Path | None,
    model: dict[str, Any],
    shown: bool,
    progress: Progress,
) -> str | None:
    """Look at a film, write down what is found in it, and show a table.

    Args:
        source: The film.
        looker: What looks.
        file: Gets a record for each frame.
        keep: Which of the detections count.
        every, out, work, model, progress: See `glip.tracking.frames.draw_film`.
        shown: Whether a table is shown.
    Returns:
        Why the film breaks off, if it does; what came before is done.
    Raises:
        ImageError: There are no frames in it.
    """
    from glip.tracking.frames import draw_film
    from glip.video.reading import Clip

    summary = _Summary()

    def each(frame: Frame, found: Detections) -> Detections:
        kept = keep(found)
        summary.add(frame.seconds, kept)
        place = {"image": source, "frame": frame.number, "seconds": round(frame.seconds, 4)}
        file.add({**place, **kept.to_dict(), **({} if out is None else {"annotated": str(out)})})
        return kept

    try:
        with Clip(source) as clip:
            broken = draw_film(
                clip, looker, each, every=every, out=out, work=work, model=model, progress=progress
            )
    except DataError as error:
        raise ImageError(str(error)) from error
    finally:
        if shown and summary.frames:
            film_table(source, summary.frames, summary.rows())
    return broken


def say_left_out(folder: str) -> None:
    """Say which films of a folder are not looked at."""
    if films := films_below(folder):
        note(f"warning: {folder}: {films} films are left out; name them, or '{folder}/*.mp4'")
