"""Data sets of all formats, read back by each format's own reader or, lacking one, by ours."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from glip.choices import LabelFormat
from glip.data.doctor.examine import examine
from glip.data.formats.layout import DataSet
from glip.data.formats.odvg import read_odvg_detection
from glip.data.formats.recognise import read_annotated, train_and_val
from glip.data.labels import Label, Labelled, part_of
from glip.errors import ConfigError, StorageError
from glip.images import load_image
from glip.labelling.corrected import read_corrected
from glip.labelling.export import write_data_set

NAMES = ("raccoon", "trash can", "Füchse & <Co>")
PICTURES = (
    Labelled("a.jpg", (90, 120), (Label("raccoon", (10.25, 20.5, 60.75, 80.0), 0.9, "raccoon"),)),
    Labelled("a.png", (90, 120), ()),
    Labelled(
        "straße/b c.jpg",
        (120, 90),
        (
            Label("Füchse & <Co>", (0, 0, 90, 120), 0.55, "fox"),
            Label("trash can", (3.13, 4.5, 5.0, 6.25), 0.3123, "bin"),
        ),
    ),
    Labelled("straße/images/d.jpg", (90, 120), (Label("trash can", (1, 2, 3, 4), 0.8, "bin"),)),
)


class Several:
    """Can be run through again and again, as the journal can, and is no list."""

    def __init__(self, pictures: Iterable[Labelled]) -> None:
        self._pictures = list(pictures)

    def __iter__(self) -> Iterator[Labelled]:
        yield from self._pictures


@pytest.fixture
def root(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """The pictures; the one in straße stands on its side until EXIF is asked."""
    root = tmp_path / "photos"
    for number, picture in enumerate(PICTURES):
        path = root / picture.picture
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if picture.image_hw == (120, 90) else 1
        make_picture(120, 90, seed=number).save(path, exif=exif)
    return root


@pytest.fixture
def data(root: Path) -> DataSet:
    return DataSet(
        Several(PICTURES), NAMES, root, parents={"raccoon": "mammal"}, source="tiny & small"
    )


def boxes(read: Iterable[Labelled]) -> dict[str, list[tuple[str, list[float]]]]:
    return {
        picture.picture: [(label.name, [float(v) for v in label.box]) for label in picture.labels]
        for picture in read
    }


def test_coco_by_pycocotools(data: DataSet, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    folder = write_data_set(data, "coco", tmp_path / "coco")
    read = coco.COCO(folder / "annotations.json")
    assert [c["name"] for c in read.loadCats(read.getCatIds())] == list(NAMES)
    assert read.cats[1]["supercategory"] == "mammal"
    assert [image["file_name"] for image in read.imgs.values()] == [p.picture for p in PICTURES]
    expected = [label for picture in PICTURES for label in picture.labels]
    for label, annotation in zip(expected, read.loadAnns(read.getAnnIds()), strict=True):
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == pytest.approx(label.box)
        assert annotation["area"] == pytest.approx(width * height, abs=1e-3)
        assert NAMES[annotation["category_id"] - 1] == label.name
        assert annotation["score"] == label.score


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelstudio"])
def test_named_by_paths_and_read_back(
    kind: LabelFormat, data: DataSet, root: Path, tmp_path: Path
) -> None:
    folder = write_data_set(data, kind, tmp_path / kind)
    [file] = [path for path in folder.iterdir() if path.name != "label_config.xml"]
    if kind == "labelstudio":
        _annotate(file)
    read = read_corrected(file, root, names=NAMES)
    assert [picture.image_hw for picture in read.pictures] == [p.image_hw for p in PICTURES]
    for name, expected in boxes(PICTURES).items():
        found = boxes(read.pictures)[name]
        assert [label for label, _ in found] == [label for label, _ in expected]
        for (_, box), (_, there) in zip(found, expected, strict=True):
            assert box == pytest.approx(there, abs=1e-3)


def _annotate(file: Path) -> None:
    """What Label Studio does when somebody submits the predictions as they are."""
    tasks = json.loads(file.read_text(encoding="utf-8"))
    for task in tasks:
        [prediction] = task.pop("predictions")
        task["annotations"] = [{"result": prediction["result"], "was_cancelled": False}]
    file.write_text(json.dumps(tasks), encoding="utf-8")


def test_odvg_by_our_reader(data: DataSet, tmp_path: Path) -> None:
    folder = write_data_set(data, "odvg", tmp_path / "odvg")
    for path in (folder, folder / "annotations.jsonl"):
        assert read_annotated(path, data.root).data.names == data.names
    read = read_odvg_detection(folder / "annotations.jsonl", folder / "label_map.json")
    assert read.names == NAMES
    for record, picture in zip(read.records, PICTURES, strict=True):
        assert (record.file_name, record.image_hw) == (picture.picture, picture.image_hw)
        assert record.boxes.tolist() == [[float(v) for v in label.box] for label in picture.labels]
        assert [read.names[row] for row in record.labels] == [x.name for x in picture.labels]


def test_odvg_parts_are_found_and_examined(data: DataSet, tmp_path: Path) -> None:
    folder = write_data_set(replace(data, val_share=0.5), "odvg", tmp_path / "odvg")
    train, val = train_and_val(folder)
    assert val is not None
    parts = [read_annotated(part.path, data.root).data for part in (train, val)]
    assert sorted(name for part in parts for name in part.file_names()) == sorted(
        picture.picture for picture in PICTURES
    )
    assert not examine(train.path, data.root).errors


def test_yolo_by_our_reader(data: DataSet, tmp_path: Path) -> None:
    """Two pictures of one stem, and a folder called images, each with labels of their own."""
    folder = write_data_set(_placed(data, "link"), "yolo", tmp_path / "yolo")
    read = read_annotated(folder)
    assert read.data.names == NAMES
    records = {record.file_name: record for record in read.data.records}
    expected = {
        "images/train/a.jpg": PICTURES[0],
        "images/train/a_2.png": PICTURES[1],
        "images/train/straße__b c.jpg": PICTURES[2],
        "images/train/straße__images__d.jpg": PICTURES[3],
    }
    assert set(records) == set(expected)
    for name, picture in expected.items():
        assert records[name].image_hw == picture.image_hw
        there = np.array([label.box for label in picture.labels]).reshape(-1, 4)
        assert np.abs(records[name].boxes - there).max(initial=0) < 1e-4
        assert [NAMES[row] for row in records[name].labels] == [x.name for x in picture.labels]


def test_voc_by_our_reader_to_the_pixel(data: DataSet, tmp_path: Path) -> None:
    folder = write_data_set(_placed(data, "link"), "voc", tmp_path / "voc")
    read = read_annotated(folder, split="train")
    records = {record.file_name: record for record in read.data.records}
    assert set(records) == {"a.jpg", "a_2.png", "straße__b_c.jpg", "straße__images__d.jpg"}
    record = records["straße__b_c.jpg"]
    assert [read.data.names[row] for row in record.labels] == ["Füchse & <Co>", "trash can"]
    assert record.boxes.tolist() == [[0, 0, 90, 120], [3, 4, 5, 6]]
    first = ElementTree.parse(folder / "Annotations" / "a.xml").find("object/bndbox")
    assert first is not None
    assert [entry.text for entry in first] == ["11", "21", "61", "80"]  # whole, counted from 1


def _placed(data: DataSet, place: str, pictures: Iterable[Labelled] = PICTURES) -> DataSet:
    return DataSet(Several(pictures), data.names, data.root, place=place)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", get_args(LabelFormat))
def test_upright_copies_need_no_exif(
    kind: LabelFormat, data: DataSet, root: Path, tmp_path: Path
) -> None:
    folder = write_data_set(_placed(data, "copy"), kind, tmp_path / kind)
    [turned_copy] = (path for path in folder.rglob("*.jpg") if path.stem[-1] == "c")
    [plain_copy] = (path for path in folder.rglob("*.jpg") if path.stem[-1] == "a")
    turned = Image.open(turned_copy)
    assert turned.size == (90, 120) and not turned.getexif().get(ExifTags.Base.Orientation)
    difference = np.subtract(
        load_image(turned_copy), load_image(root / "straße/b c.jpg"), dtype=np.int16
    )
    assert np.abs(difference).mean() < 3  # encoded anew, and not upside down
    assert plain_copy.read_bytes() == (root / "a.jpg").read_bytes()


def test_links_lead_to_the_pictures(data: DataSet, root: Path, tmp_path: Path) -> None:
    folder = write_data_set(_placed(data, "link"), "coco", tmp_path / "coco")
    assert (folder / "images" / "straße" / "b c.jpg").resolve() == root / "straße" / "b c.jpg"
    assert examine(folder / "annotations.json", folder / "images").exit_code == 0


@pytest.mark.parametrize("kind", get_args(LabelFormat))
def test_parts_are_chosen_by_name(kind: LabelFormat, root: Path, tmp_path: Path) -> None:
    pictures = [Labelled(f"{number}.jpg", (90, 120), ()) for number in range(40)]
    data = DataSet(Several(pictures), NAMES, root, val_share=0.25)
    folder = write_data_set(data, kind, tmp_path / kind)
    val = {picture.picture for picture in pictures if part_of(picture.picture, 0.25) == "val"}
    assert 4 <= len(val) <= 16
    if kind == "coco":
        found = {
            image["file_name"] for image in json.loads((folder / "val.json").read_text())["images"]
        }
    elif kind == "yolo":
        found = {f"{path.stem}.jpg" for path in (folder / "labels" / "val").iterdir()}
        settings = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
        assert (settings["train"], settings["val"]) == ("images/train", "images/val")
    elif kind == "voc":
        lines = (folder / "ImageSets" / "Main" / "val.txt").read_text().split()
        found = {f"{stem}.jpg" for stem in lines}
    elif kind == "odvg":
        lines = (folder / "val.jsonl").read_text().splitlines()
        found = {json.loads(line)["filename"] for line in lines}
    elif kind == "labelme":
        found = {f"{path.stem}.jpg" for path in (folder / "val").glob("*.json")}
    elif kind == "cvat":
        tree = ElementTree.parse(folder / "val.xml")
        found = {image.get("name", "") for image in tree.iter("image")}
    else:
        tasks = json.loads((folder / "val.json").read_text())
        found = {task["data"]["file_name"] for task in tasks}
    assert found == val


def test_a_part_does_not_depend_on_the_other_pictures() -> None:
    assert [part_of(f"{n}.jpg", 0.5) for n in range(6)] == [
        *("val", "val", "val", "train", "train", "val")
    ]
    assert {part_of(f"{n}.jpg", 0.0) for n in range(50)} == {"train"}
    # A larger share moves pictures one way only.
    assert all(part_of(f"{n}", 0.6) == "val" for n in range(200) if part_of(f"{n}", 0.3) == "val")


def test_label_studio_finds_set_up_and_addresses(data: DataSet, tmp_path: Path) -> None:
    folder = write_data_set(data, "labelstudio", tmp_path / "out")
    config = ElementTree.parse(folder / "label_config.xml")
    assert [entry.get("value") for entry in config.iter("Label")] == list(NAMES)
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert tasks[2]["data"] == {
        "image": "/data/local-files/?d=photos/stra%C3%9Fe/b%20c.jpg",
        "file_name": "straße/b c.jpg",
    }
    [prediction] = tasks[2]["predictions"]
    assert prediction["score"] == 0.3123  # of the most doubtful box
    value = prediction["result"][0]["value"]
    assert (value["x"], value["y"], value["width"], value["height"]) == (0, 0, 100, 100)


def test_a_folder_that_is_there_is_kept_unless_told_otherwise(
    data: DataSet, tmp_path: Path
) -> None:
    folder = write_data_set(data, "coco", tmp_path / "coco")
    (folder / "annotations.json").write_text("corrected by hand")
    with pytest.raises(ConfigError, match=r"coco exists; move it away, or replace it .* --force"):
        write_data_set(data, "coco", folder)
    assert (folder / "annotations.json").read_text() == "corrected by hand"
    write_data_set(data, "coco", folder, replace=True)
    assert len(read_annotated(folder / "annotations.json", data.root).data) == 4


@pytest.mark.parametrize("kind", get_args(LabelFormat))
def test_a_full_disk_leaves_nothing_behind(
    kind: LabelFormat, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Filling(Several):
        def __iter__(self) -> Iterator[Labelled]:
            yield PICTURES[0]
            raise OSError(errno.ENOSPC, "No space left on device")

    full = DataSet(Filling([]), NAMES, data.root)
    out = tmp_path / "out"
    with pytest.raises(StorageError, match="out/data cannot be written: the disk is full; make"):
        write_data_set(full, kind, out / "data")
    assert list(out.iterdir()) == []
    write_data_set(data, kind, out / "data")
    with pytest.raises(StorageError):
        write_data_set(full, kind, out / "data", replace=True)
    assert [path.name for path in out.iterdir()] == ["data"]  # the old one is as it was


def test_what_a_killed_run_left_is_cleared_away(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / ".coco.part").mkdir()
    (tmp_path / ".coco.part" / "annotations.json").write_text("half")
    write_data_set(data, "coco", tmp_path / "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "photos"]


@pytest.mark.parametrize(
    ("share", "message"),
    [(1.0, r"must lie in \[0, 1\), got 1.0; 0.2 is a fifth"), (-0.1, "got -0.1"), (20, "got 20")],
)
def test_shares_that_leave_nothing(share: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataSet((), NAMES, Path(), val_share=share)


def test_an_unknown_format(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'tfrecord' is not one of coco, yolo, voc, odvg"):
        write_data_set(data, "tfrecord", tmp_path / "x")  # type: ignore[arg-type]


def test_a_picture_that_has_gone(data: DataSet, root: Path, tmp_path: Path) -> None:
    (root / "a.png").unlink()
    with pytest.raises(StorageError, match=r"cannot be written: No such file .*a\.png"):
        write_data_set(_placed(data, "copy"), "coco", tmp_path / "coco")
    assert not (tmp_path / "coco").exists()
