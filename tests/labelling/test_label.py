"""Photos and an ontology into a journal, and the journal as pictures with labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import ExifTags, Image

from glip.detector import Detector
from glip.jobs.journal import Journal
from glip.jobs.pipeline import Read
from glip.labelling.label import JournalPictures, label_photos, photo_answers
from glip.labelling.ontology import Class, Ontology
from glip.postprocess import PostprocessOptions

JOB = {"job": 1}
ONTOLOGY = Ontology.of_names(["cat", "red car"], threshold=0.4)


def test_boxes_lie_in_the_upright_picture(
    tiny_detector: Detector, tmp_path: Path, make_picture: Callable[..., Image.Image]
) -> None:
    upright = make_picture(80, 120)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (tmp_path / "photos").mkdir()
    upright.save(tmp_path / "photos" / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photos" / "lying.png", exif=exif)
    with Journal(tmp_path / "journal", JOB) as journal:
        names = ["lying.png", "upright.png"]
        label_photos(tiny_detector, tmp_path / "photos", names, ONTOLOGY, journal)
        lying, standing = JournalPictures(journal)
    assert lying.image_hw == (120, 80)
    assert lying.labels == standing.labels and lying.labels


def test_the_lowest_threshold_is_asked_for_and_each_class_has_its_own(
    tiny_detector: Detector, make_picture: Callable[..., Image.Image]
) -> None:
    ontology = Ontology(
        (Class("cat", ("cat",), threshold=0.3), Class("dog", ("dog",), threshold=1.0))
    )
    answer = photo_answers(tiny_detector, ontology, PostprocessOptions(score=0.9))
    [(status, record)] = answer([Read("a.png", tiny_detector.prepare(make_picture()))])
    assert status == "done" and record["hw"] == [90, 120]
    names = [name for name, *_ in record["labels"]]
    scores = [score for _, _, score, _ in record["labels"]]
    assert set(names) == {"cat"} and 0.3 < min(scores) < 0.9


def test_pictures_that_are_gone_are_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", JOB) as journal:
        record = {"hw": [9, 9], "labels": []}
        journal.write(
            [("a.png", "done", record), ("b.png", "done", record), ("c", "rejected", "?")]
        )
        (tmp_path / "b.png").touch()
        assert [one.picture for one in JournalPictures(journal)] == ["a.png", "b.png"]
        assert [one.picture for one in JournalPictures(journal, tmp_path)] == ["b.png"]
