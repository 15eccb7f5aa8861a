"""What tracks are written as, held to the letter where a person reads it."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np

from glip.data.formats.cvat import write_cvat_tracks
from glip.data.formats.mot import TrackBox
from glip.progress import Counter
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.tracking.outputs import write_tracks
from glip.video.reading import Frame


def test_lines_and_counts(tmp_path: Path) -> None:
    found = Detections(
        np.array([[1, 2, 30.126, 40]], np.float32),
        np.array([0.5], np.float32),
        np.array([0]),
        Prompt.from_classes(["dog"]),
        (48, 64),
        track_ids=np.array([7]),
    )
    results = [(Frame(0, 0.0, 64, 48, None, 0.0), found)]
    results.append((Frame(1, 0.1, 64, 48, None, 0.0), found[:0]))
    counter = Counter(None, "writing")
    names, rate = ["dog"], Fraction(10)
    tally = write_tracks(
        results, tmp_path, ["jsonl"], name="a.mp4", names=names, rate=rate, counter=counter
    )
    assert (tmp_path / "tracks.jsonl").read_text().splitlines() == [
        '{"frame": 0, "seconds": 0.0, "tracks": [{"track": 7, "phrase": "dog", "score": 0.5, '
        '"box": [1.0, 2.0, 30.13, 40.0]}]}',
        '{"frame": 1, "seconds": 0.1, "tracks": []}',
    ]
    assert (tally.frames, counter.step.done, dict(tally.tracks)) == (2, 2, {"dog": {7}})


def test_a_track_of_cvat_says_where_it_is_not() -> None:
    file = io.StringIO()
    with write_cvat_tracks(file, "a.mp4", ["dog"]) as add:
        for number in range(6):
            here = [TrackBox(number, 1, (1, 2, 3, 4), 0.5)] if number in (0, 1, 4) else []
            add(number, (48, 64), ["dog"] * len(here), here)
    boxes = [line.strip() for line in file.getvalue().splitlines() if "<box" in line]
    states = [(line.split('"')[1], 'outside="1"' in line) for line in boxes]
    assert states == [("0", False), ("1", False), ("2", True), ("4", False), ("5", True)]
    assert '<track id="0" label="dog" source="auto">' in file.getvalue()
