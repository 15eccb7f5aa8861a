"""Labelling as a function: what it hands back, and when there is nothing left to do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from PIL import Image

from glip.choices import LabelFormat
from glip.data.formats.layout import DataSet
from glip.data.labels import Label, Labelled
from glip.errors import ConfigError, DataError, GlipError
from glip.jobs.journal import Journal
from glip.labelling.changes import Counts
from glip.labelling.export import write_data_set
from glip.labelling.job import LabelOptions, Labels, Output, label, take_corrected
from glip.labelling.ontology import Ontology
from glip.progress import Step

pytestmark = pytest.mark.whole

CATS = Ontology.of_names(["cat", "red car"], threshold=0.4)


@pytest.fixture
def photos(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        make_picture(seed=number).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "bad.png").touch()
    return tmp_path / "photos"


@pytest.fixture
def options(tiny_file: Path) -> LabelOptions:
    return LabelOptions(tiny_file, device="cpu")


def make_journal(out: Path, labels: Mapping[str, tuple[Label, ...]]) -> None:
    """What a model would have left in a folder of results."""
    with Journal(out / "journal", {}) as journal:
        journal.write(
            (name, "done", Labelled(name, (90, 120), own).to_json()) for name, own in labels.items()
        )


def done(labels: Labels | None) -> Labels:
    assert labels is not None
    return labels


def test_counts_are_those_of_the_data_set(
    photos: Path, tmp_path: Path, options: LabelOptions
) -> None:
    told: list[Step] = []
    labels = done(label(photos, CATS, tmp_path / "out", options, progress=told.append))
    assert (labels.pictures, labels.rejected, labels.newly_rejected) == (3, 1, 1)
    content = json.loads((labels.data_sets["coco"] / "annotations.json").read_text())
    assert sum(labels.boxes.values()) == len(content["annotations"]) > 0
    assert told[0].done == 0 and (told[-1].done, told[-1].total) == (4, 4)
    assert told[-1].tally == {"done": 3, "rejected": 1}


def test_pictures_that_were_mended_are_listed_no_more(
    photos: Path, tmp_path: Path, options: LabelOptions
) -> None:
    out = tmp_path / "out"
    label(photos, CATS, out, options)
    broken = photos / (out / "rejected.txt").read_text().split("\t")[0]
    Image.new("RGB", (120, 90)).save(broken, format="PNG")
    labels = done(label(photos, CATS, out, options, output=Output(force=True)))
    assert labels.rejected == 0 and not (out / "rejected.txt").exists()


def test_what_is_done_is_not_done_again(
    photos: Path, tmp_path: Path, options: LabelOptions
) -> None:
    first = done(label(photos, CATS, tmp_path / "out", options))
    again = done(label(photos, CATS, tmp_path / "out", options))
    assert again.already and not first.already
    assert (again.pictures, again.boxes, again.newly_rejected) == (3, first.boxes, 0)
    other = done(label(photos, CATS, tmp_path / "out", options, output=Output(formats=["voc"])))
    assert not other.already and other.data_sets["voc"].is_dir()
    with pytest.raises(ConfigError, match="coco exists; move it away"):
        label(photos, CATS, tmp_path / "out", options, output=Output(val=0.5))


def test_a_data_set_of_pictures_as_they_were_is_not_what_is_asked_for(
    photos: Path, tmp_path: Path, options: LabelOptions, make_picture: Callable[..., Image.Image]
) -> None:
    out = tmp_path / "out"
    label(photos, CATS, out, options)
    make_picture(seed=7).save(photos / "1.png")
    label(photos, CATS, out, options, output=Output(("yolo",)))  # which labels the new picture
    with pytest.raises(ConfigError, match=r"coco exists.*--force"):
        label(photos, CATS, out, options)
    assert done(label(photos, CATS, out, options, output=Output(("yolo",)))).already


def test_pictures_that_are_gone_are_left_out(
    photos: Path, tmp_path: Path, options: LabelOptions, caplog: pytest.LogCaptureFixture
) -> None:
    label(photos, CATS, tmp_path / "out", options)
    (photos / "1.png").unlink()
    with caplog.at_level(logging.WARNING):
        labels = done(label(photos, CATS, tmp_path / "out", options, output=Output(force=True)))
    assert labels.pictures == 2 and "1 labelled pictures are gone" in caplog.text


def test_nothing_usable_is_an_error(tmp_path: Path, options: LabelOptions) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        label(tmp_path / "photos", CATS, tmp_path / "out", options)
    (tmp_path / "photos" / "bad.png").touch()
    with pytest.raises(DataError, match=r"none of the 1 pictures in .* can be used"):
        label(tmp_path / "photos", CATS, tmp_path / "out", options)


@pytest.mark.parametrize(
    ("images", "out", "message"),
    [
        ("photos", "photos", "is the folder of the pictures; name another"),
        ("photos", "photos/../photos", "is the folder of the pictures"),
        ("nowhere", "out", "nowhere does not exist"),
        ("n" * 300, "out", "cannot be opened .File name too long."),
        ("empty", "out", "holds no picture"),
    ],
)
def test_a_folder_that_cannot_be_labelled_gets_no_files(
    images: str, out: str, message: str, photos: Path, options: LabelOptions
) -> None:
    root = photos.parent
    (root / "empty").mkdir()
    before = sorted(root.rglob("*"))
    with pytest.raises(GlipError, match=message):
        label(root / images, CATS, root / out, options)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("name", ["report.html", "next.txt"])
def test_files_of_somebody_else_are_not_replaced(
    name: str, photos: Path, tmp_path: Path, options: LabelOptions
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name} is not of this job and would be replaced"):
        label(photos, CATS, out, options)
    assert [file.name for file in out.iterdir()] == [name]
    assert (out / name).read_text() == "mine"


def test_what_detectors_of_others_do_with_tokens_is_no_mean(
    tmp_path: Path, tiny_file: Path
) -> None:
    (tmp_path / "dino").mkdir()
    (tmp_path / "dino/config.json").write_text('{"model_type": "grounding-dino"}')
    (tmp_path / "dino/model.safetensors").touch()

    def same(weights: Path) -> bool:
        asked, by_itself = LabelOptions(aggregate="mean"), LabelOptions()
        return asked.job(tmp_path, weights, CATS) == by_itself.job(tmp_path, weights, CATS)

    assert same(tiny_file) and not same(tmp_path / "dino")


def test_a_limit_is_a_whole_number_from_one() -> None:
    with pytest.raises(ConfigError, match="limit must be a whole number from 1, got 0; leave it"):
        LabelOptions(limit=0)


@pytest.mark.parametrize("kind", get_args(LabelFormat))
def test_corrected_labels_keep_the_order_of_the_folder_they_go_to(
    kind: LabelFormat, photos: Path, tmp_path: Path, options: LabelOptions
) -> None:
    """Whatever format they come back in; classes that nobody used stay as well."""
    order = Ontology.of_names(["zebra", "red car", "cat"], threshold=0.4)
    (photos / "bad.png").unlink()
    out, back = tmp_path / "out", tmp_path / "back"
    label(photos, order, out, options)
    picture = Labelled("0.png", (90, 120), (Label("cat", (1, 2, 50, 60)),))
    more = replace(picture, picture="1.png", labels=(Label("aard", (1, 2, 50, 60)),))
    write_data_set(DataSet([picture, more], ("aard", "cat"), photos, place="copy"), kind, back)
    if kind == "labelstudio":  # somebody has looked at what the model proposed
        tasks = json.loads((back / "tasks.json").read_text())
        looked = [{**task, "annotations": task.pop("predictions")} for task in tasks]
        (back / "tasks.json").write_text(json.dumps(looked))
    again = take_corrected(back, out, images=photos, output=Output(formats=["yolo"], force=True))
    assert list(again.boxes) == ["zebra", "red car", "cat", "aard"]
    names = yaml.safe_load((again.data_sets["yolo"] / "data.yaml").read_text())["names"]
    assert list(names.values()) == ["zebra", "red car", "cat", "aard"]


def test_corrected_labels_become_a_data_set(
    photos: Path, tmp_path: Path, options: LabelOptions
) -> None:
    labels = done(label(photos, CATS, tmp_path / "out", options, output=Output(formats=["yolo"])))
    again = take_corrected(labels.data_sets["yolo"], tmp_path / "better")
    assert again.boxes == labels.boxes and again.rejected == 0
    assert "3 pictures labelled, 0 rejected" in str(again)
    assert again.corrections is not None  # the journal lies beside what was corrected
    assert again.corrections.total == Counts(accepted=sum(labels.boxes.values()))


def test_what_people_changed_is_counted_and_shown(photos: Path, tmp_path: Path) -> None:
    """Whichever of the three folders has the journal; all kinds, each with a picture."""
    proposed = {
        "0.png": (Label("cat", (1, 2, 50, 60), 0.9), Label("cat", (70, 5, 110, 80), 0.8)),
        "1.png": (Label("cat", (1, 2, 50, 60), 0.7), Label("red car", (60, 5, 100, 80), 0.6)),
        "2.png": (Label("cat", (1, 2, 50, 60), 0.5),),  # nobody looks at this one
    }
    left = {
        "0.png": (Label("cat", (1.4, 2, 50, 60.4)), Label("cat", (70, 5, 110, 70))),
        "1.png": (Label("red car", (1, 2, 50, 60)), Label("cat", (5, 65, 50, 85))),
        "bad.png": (Label("cat", (1, 2, 50, 60)),),  # the model could not use it
    }
    make_journal(tmp_path / "first", proposed)
    pictures = [Labelled(name, (90, 120), labels) for name, labels in left.items()]
    back = tmp_path / "back"
    write_data_set(DataSet(pictures, ("cat", "red car"), photos), "coco", back)
    file = back / "annotations.json"
    alone = take_corrected(file, tmp_path / "alone", images=photos)
    assert alone.corrections is None
    labels = take_corrected(file, tmp_path / "better", images=photos, proposed=tmp_path / "first")
    changed = labels.corrections
    assert changed is not None
    assert (changed.pictures, changed.not_compared) == (2, 1)
    assert changed.classes == {
        "cat": Counts(accepted=1, moved=1, relabelled=1, added=1),
        "red car": Counts(deleted=1),
    }
    assert re.search(r"\ncat +3 +1 +1 +1 +0 +1\n", str(labels))
    page = labels.report.read_text(encoding="utf-8")
    assert "2 pictures compared with what the model proposed. 1 that it has not" in page
    assert "Relabelled: cat → red car (1)" in page and "cat 0.800, IoU 0.87" in page
    assert "cat 0.700 → red car" in page
    for kind in ("Relabelled", "Deleted", "Added", "Moved", "Accepted"):
        assert page.count(f"<h3>{kind}, ") == 1
    assert page.count('<img src="data:image/jpeg') == 5
    assert "with a score" not in page and 'href="#class' not in page


def test_what_cannot_be_compared_is_said(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = Labelled("0.png", (90, 120), (Label("cat", (1, 2, 50, 60)),))
    write_data_set(DataSet([picture], ("cat",), photos), "coco", tmp_path / "back")
    file = tmp_path / "back" / "annotations.json"
    with pytest.raises(ConfigError, match="has no journal of what a model proposed"):
        take_corrected(file, tmp_path / "out", images=photos, proposed=photos)
    assert not (tmp_path / "out").exists()
    make_journal(tmp_path / "out", {})
    (tmp_path / "out" / "journal" / "journal-00000.sqlite").write_bytes(b"damaged" * 200)
    with caplog.at_level(logging.WARNING):
        labels = take_corrected(file, tmp_path / "out", images=photos)
    assert labels.corrections is None and labels.boxes == {"cat": 1}
    assert "not compared with what the model proposed" in caplog.text
