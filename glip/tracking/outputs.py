"""What a clip's tracks are written as: an annotated film, lines of JSON, MOT Challenge, CVAT.

All come in one pass over the frames, and all are whole or not there. Knows no model.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from glip.choices import TrackFormat
from glip.data.formats.cvat import write_cvat_tracks
from glip.data.formats.mot import TrackBox, write_mot
from glip.files import whole_file
from glip.progress import Counter
from glip.structures import Detections
from glip.video.reading import Frame
from glip.video.writing import whole_film

FILES: dict[TrackFormat, str] = {
    "mp4": "annotated.mp4",
    "jsonl": "tracks.jsonl",
    "mot": "mot.txt",
    "cvat": "cvat.xml",
}
"""Format -> name of its file in the folder of results."""


@dataclass
class Tally:
    """What went through."""

    frames: int = 0
    tracks: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Phrase -> ids of its tracks."""


def write_tracks(
    results: Iterable[tuple[Frame, Detections]],
    out: Path,
    formats: Iterable[TrackFormat],
    *,
    name: str,
    names: Iterable[str],
    rate: Fraction,
    counter: Counter,
) -> Tally:
    """Write every frame in each of the formats.

    Args:
        results: Of `follow`.
        out: The folder.
        formats: See `FILES`.
        name: Of the clip.
        names: What was looked for.
        rate: Frames a second.
        counter: Is told of each frame.
    Raises:
        StorageError: Something cannot be written; none of the files is there then, or an old one.
    """
    tally = Tally()
    with contextlib.ExitStack() as stack:
        text: dict[str, Any] = {
            kind: stack.enter_context(whole_file(out / FILES[kind]))
            for kind in formats
            if kind != "mp4"
        }
        film = None
        if "mp4" in formats:
            film = stack.enter_context(whole_film(out / FILES["mp4"], rate=rate))
        cvat = None
        if "cvat" in text:
            cvat = stack.enter_context(write_cvat_tracks(text["cvat"], name, list(names)))
        for frame, found in results:
            boxes = _boxes(frame.number, found)
            tally.frames = frame.number + 1
            for phrase, box in zip(found.phrases, boxes, strict=True):
                tally.tracks[phrase].add(box.track)
            if "jsonl" in text:
                text["jsonl"].write(_line(frame, found, boxes))
            if "mot" in text:
                write_mot(boxes, text["mot"])
            if cvat is not None:
                cvat(frame.number, (frame.height, frame.width), found.phrases, boxes)
            if film is not None:
                film(found.plot(frame.picture()), frame.seconds)
            counter.add()
    return tally


def _boxes(number: int, found: Detections) -> list[TrackBox]:
    ids = [] if found.track_ids is None else found.track_ids.tolist()
    rows = zip(ids, found.boxes.tolist(), found.scores.tolist(), strict=True)
    return [TrackBox(number, track, box, score) for track, box, score in rows]


def _line(frame: Frame, found: Detections, boxes: Iterable[TrackBox]) -> str:
    """One frame as a line of JSON."""
    tracks = [
        {
            "track": one.track,
            "phrase": phrase,
            "score": round(one.score, 4),
            "box": [round(value, 2) for value in one.box],
        }
        for one, phrase in zip(boxes, found.phrases, strict=True)
    ]
    record = {"frame": frame.number, "seconds": round(frame.seconds, 4), "tracks": tracks}
    return json.dumps(record, ensure_ascii=False) + "\n"
