"""Exports opened by the programs they are for, and what those programs write read back.

Run with `pytest -m clients`; each test is skipped where its program is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.choices import LabelFormat
from glip.data.formats.layout import DataSet
from glip.data.formats.recognise import read_annotated
from glip.data.labels import Label, Labelled
from glip.labelling.export import write_data_set
from tests.data.formats.trees import boxes_of

pytestmark = pytest.mark.clients

NAMES = ("cat", "trash can", "dog")
PICTURES = (
    Labelled("a.jpg", (90, 120), (Label("cat", (10, 20, 60, 80), 0.9),)),
    Labelled("sub/a.jpg", (90, 120), (Label("dog", (1, 2, 31, 42)), Label("cat", (5, 5, 9, 9)))),
    Labelled("sub/b c.jpg", (90, 120), ()),
)
BOXES = sorted(
    (name, tuple(float(value) for value in box))
    for picture in PICTURES
    for name, box, *_ in picture.labels
)


@pytest.fixture
def data(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> DataSet:
    root = tmp_path / "photos"
    for number, picture in enumerate(PICTURES):
        (root / picture.picture).parent.mkdir(parents=True, exist_ok=True)
        make_picture(120, 90, seed=number).save(root / picture.picture)
    return DataSet(PICTURES, NAMES, root, place="copy")


def of_records(path: Path, images: Path | None = None) -> list[tuple[str, tuple[float, ...]]]:
    """All boxes that our reader finds, to a pixel."""
    found = boxes_of(read_annotated(path, images))
    return sorted(box for boxes in found.values() for box in boxes)


def same(found: list[tuple[str, tuple[float, ...]]], within: float) -> None:
    assert [name for name, _ in found] == [name for name, _ in BOXES]
    for (_, box), (_, true) in zip(found, BOXES, strict=True):
        assert box == pytest.approx(true, abs=within)


def test_pycocotools(data: DataSet, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    folder = write_data_set(data, "coco", tmp_path / "coco")
    read = coco.COCO(str(folder / "annotations.json"))
    assert len(read.getImgIds()) == 3 and len(read.getAnnIds()) == 3
    assert all(
        (folder / "images" / entry["file_name"]).is_file() for entry in read.loadImgs([1, 2])
    )


@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
def test_supervision_reads_all_and_writes_what_we_read(
    kind: LabelFormat, data: DataSet, tmp_path: Path
) -> None:
    supervision = pytest.importorskip("supervision")
    folder = write_data_set(data, kind, tmp_path / kind)
    sets = supervision.DetectionDataset
    if kind == "yolo":
        places = (folder / "images/train", folder / "labels/train", folder / "data.yaml")
        read = sets.from_yolo(*map(str, places))
    elif kind == "voc":
        read = sets.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    else:
        read = sets.from_coco(str(folder / "images"), str(folder / "annotations.json"))
    found = [
        (read.classes[row], tuple(box))
        for _, _, boxes in read
        for row, box in zip(boxes.class_id, boxes.xyxy.tolist(), strict=True)
    ]
    assert len(read) == 3
    same(sorted(found), 1.01 if kind == "voc" else 0.01)
    if kind == "coco":
        return  # its writers know one picture of a name only
    out = tmp_path / "out"
    read.as_yolo(str(out / "images"), str(out / "labels"), str(out / "data.yaml"))
    same(of_records(out), 1.01)
    read.as_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    (out / "data.yaml").unlink()
    same(of_records(out), 2.01)
    read.as_coco(str(tmp_path / "last" / "images"), str(tmp_path / "last" / "x.json"))
    same(of_records(tmp_path / "last" / "x.json"), 1.01)


@pytest.mark.parametrize(
    ("kind", "name"), [("coco", "coco"), ("yolo", "yolo"), ("voc", "voc"), ("labelme", "label_me")]
)
def test_datumaro_reads_all_and_writes_what_we_read(
    kind: LabelFormat, name: str, data: DataSet, tmp_path: Path
) -> None:
    datumaro = pytest.importorskip("datumaro")
    if kind in ("yolo", "voc"):
        folder = write_data_set(data, kind, tmp_path / kind)
        read = datumaro.Dataset.import_from(str(folder), "yolo" if kind == "yolo" else "voc")
        labels = read.categories()[datumaro.AnnotationType.label]
        found = [
            (labels[shape.label].name, tuple(shape.points))
            for item in read
            for shape in item.annotations
            if isinstance(shape, datumaro.Bbox)
        ]
        assert len(read) == 3
        same(sorted(found), 1.01)
    items = [
        datumaro.DatasetItem(
            id=picture.picture.removesuffix(".jpg"),
            subset="train",
            media=datumaro.Image.from_file(str(data.root / picture.picture)),
            annotations=[
                datumaro.Bbox(
                    label.box[0], label.box[1], *label.sides, label=NAMES.index(label.name)
                )
                for label in picture.labels
            ],
        )
        for picture in PICTURES
    ]
    made = datumaro.Dataset.from_iterable(items, categories=list(NAMES))
    made.export(str(tmp_path / "out"), name, save_media=True)
    same(of_records(tmp_path / "out"), 1.01)


def test_label_studio_takes_tasks_and_its_converter_gives_what_we_read(
    data: DataSet, tmp_path: Path
) -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    converter = pytest.importorskip("label_studio_sdk.converter")
    folder = write_data_set(data, "labelstudio", tmp_path / "labelstudio")
    config = (folder / "label_config.xml").read_text(encoding="utf-8")
    interface = sdk.LabelInterface(config)
    interface.validate()
    tasks: list[dict[str, Any]] = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        assert interface.validate_task({"data": task["data"]})
        assert all(interface.validate_prediction(one) for one in task["predictions"])
        [prediction] = task["predictions"]
        task |= {"id": number, "annotations": [{"id": number, "result": prediction["result"]}]}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "export.json").write_text(json.dumps(tasks))
    same(of_records(tmp_path / "in" / "export.json", data.root), 0.01)
    made = converter.Converter(config, str(tmp_path), download_resources=False)
    made.convert_to_coco(str(tmp_path / "in"), str(tmp_path / "coco"), is_dir=True)
    same(of_records(tmp_path / "coco", data.root), 0.01)
    # Its VOC and YOLO files keep one picture of a name only.
    made.convert_to_voc(str(tmp_path / "in"), str(tmp_path / "voc"), is_dir=True)
    assert [name for name, _ in of_records(tmp_path / "voc", data.root / "sub")] == ["cat", "dog"]
    made.convert_to_yolo(str(tmp_path / "in"), str(tmp_path / "yolo"), is_dir=True)
    assert of_records(tmp_path / "yolo", data.root / "sub")
