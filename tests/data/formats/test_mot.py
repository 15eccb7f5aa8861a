"""What is written is read again; a wrong line is named."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from glip.data.formats.mot import TrackBox, read_mot, write_mot
from glip.errors import DataError


def test_written_as_the_challenge_wants_it(tmp_path: Path) -> None:
    boxes = [TrackBox(0, 1, (10, 20, 30.5, 60), 0.875), TrackBox(4, 12, (0, 0, 1, 2), 1.0)]
    file = io.StringIO()
    write_mot(boxes, file)
    text = file.getvalue()
    assert text.splitlines()[0] == "1,1,10.00,20.00,20.50,40.00,0.8750,-1,-1,-1"
    (tmp_path / "mot.txt").write_text(text + "\n")
    assert [box._replace(box=tuple(box.box)) for box in read_mot(tmp_path / "mot.txt")] == boxes


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "mot.txt").write_text("1,1,0,0,2,2,1\n1,1,left,0,2,2,1\n")
    with pytest.raises(DataError, match=r"mot.txt, line 2: expected frame, track, left"):
        list(read_mot(tmp_path / "mot.txt"))
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        list(read_mot(tmp_path / "none.txt"))
