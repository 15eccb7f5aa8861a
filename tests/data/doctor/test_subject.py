"""Views of a data set under examination."""

from __future__ import annotations

from pathlib import Path

from tests.data.doctor.subjects import detection, grounding


def test_boxes_of_all_records_in_a_row(tmp_path: Path) -> None:
    subject = detection(tmp_path, [(1, 2, 31, 22), (0, 0, 5, 5)])
    assert subject.kind == "detection"
    assert subject.boxes.shape == (2, 4) and subject.sides.tolist() == [[60, 40], [60, 40]]
    assert subject.owners.tolist() == [0, 0] and subject.what.tolist() == [0, 0]
    assert subject.counts == {"cat": 2, "dog": 0} and subject.files == {"a.png": (40, 60)}
    [line] = subject.called(subject.boxes[:, 0] == 1)
    assert line == "a.png: (1, 2) to (31, 22) in 60 x 40 pixels"
    assert [subject.population(of) for of in ("images", "boxes", "classes")] == [1, 2, 2]


def test_captions_have_phrases_and_no_crowds(tmp_path: Path) -> None:
    subject = grounding(tmp_path, "a cat")
    assert subject.kind == "grounding" and not subject.crowd.any()
    assert subject.what.tolist() == [0] and subject.population("classes") == 1


def test_nothing_is_examined_too(tmp_path: Path) -> None:
    subject = detection(tmp_path, [])
    assert subject.boxes.shape == (0, 4) and subject.crowd.shape == (0,)
