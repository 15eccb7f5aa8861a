"""Label Studio: addresses, shapes and versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.data.doctor.examine import examine
from glip.data.formats.recognise import read_annotated
from glip.errors import DataError
from tests.data.formats.trees import boxes_of, grow

BOX = {"x": 10, "y": 25, "width": 50, "height": 50, "rotation": 0}
CAT = ("cat", (6.0, 10.0, 36.0, 30.0))


def result(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"original_width": 60, "original_height": 40, "value": value, **more}


def task(*results: Any, **data: str) -> dict[str, Any]:
    return {"id": 1, "data": data or {"image": "a.png"}, "annotations": [{"result": [*results]}]}


@pytest.mark.parametrize(
    ("picture", "data"),
    [
        ("a.png", {"image": "/data/local-files/?d=photos/a.png"}),
        ("a.png", {"photo": "/data/local-files/?d=photos/a.png", "note": "x"}),
        ("a.png", {"image": "s3://bucket/x/a.png"}),
        ("a.png", {"image": "https://h.org/x/a.png?X-Amz=1"}),
        ("a.png", {"image": "/data/upload/3/1a2b3c4d-a.png"}),
        ("1a2b3c4d-a.png", {"image": "/data/upload/3/1a2b3c4d-a.png"}),
        ("my cat.png", {"image": "/data/local-files/?d=photos/my%20cat.png"}),
        ("sub/a.png", {"image": "x", "file_name": "sub/a.png"}),
    ],
)
def test_addresses(picture: str, data: dict[str, str], tmp_path: Path) -> None:
    box = result({**BOX, "rectanglelabels": ["cat"]})
    grow(tmp_path, {"tasks.json": [task(box, **data)], f"photos/{picture}": None})
    found = boxes_of(read_annotated(tmp_path / "tasks.json", tmp_path / "photos"))
    assert found == {picture: [CAT]}


@pytest.mark.parametrize(
    "results",
    [
        [result({**BOX, "rectanglelabels": ["cat"]})],
        [result({"points": [[10, 25], [60, 25], [60, 75]], "polygonlabels": ["cat"]})],
        [result({"x": 35, "y": 50, "radiusX": 25, "radiusY": 25, "ellipselabels": ["cat"]})],
        [result(BOX, id="q"), result({**BOX, "labels": ["cat"]}, id="q")],
        [result({**BOX, "rectanglelabels": ["cat"]}), {"value": {"choices": ["good"]}}],
    ],
)
def test_shapes(results: list[Any], tmp_path: Path) -> None:
    grow(tmp_path, {"tasks.json": [task(*results)], "a.png": None})
    assert boxes_of(read_annotated(tmp_path / "tasks.json")) == {"a.png": [CAT]}


@pytest.mark.parametrize(
    "content",
    [
        {"data": {"image": "a.png"},
         "completions": [{"result": [result({**BOX, "labels": ["cat"]})]}]},
        {"image": "a.png", "label": [{**BOX, "rectanglelabels": ["cat"], "original_width": 60,
                                      "original_height": 40}], "annotator": 1},
    ],
)  # fmt: skip
def test_other_versions(content: Any, tmp_path: Path) -> None:
    grow(tmp_path, {"tasks.json": [content], "a.png": None})
    assert boxes_of(read_annotated(tmp_path / "tasks.json")) == {"a.png": [CAT]}


def test_size_is_asked_where_nothing_says_it(tmp_path: Path) -> None:
    grow(
        tmp_path, {"t.json": [task({"value": {**BOX, "rectanglelabels": ["cat"]}})], "a.png": None}
    )
    assert boxes_of(read_annotated(tmp_path / "t.json")) == {"a.png": [CAT]}


def test_picture_in_two_tasks_is_a_fault(tmp_path: Path) -> None:
    box = result({**BOX, "rectanglelabels": ["cat"]})
    grow(tmp_path, {"tasks.json": [task(box), task(box)], "a.png": None})
    with pytest.raises(DataError, match=r"a.png; 1 of 2 images cannot be used"):
        read_annotated(tmp_path / "tasks.json")


@pytest.mark.parametrize("name", ["tasks.json", "project-7-at-2026-01-02.json", "result.json"])
def test_the_folder_of_an_export_is_read(name: str, tmp_path: Path) -> None:
    """Whatever the tasks are called, also with the settings of the view beside them."""
    view = '<View><Image name="image" value="$image"/></View>'
    tasks = [task(result({**BOX, "rectanglelabels": ["cat"]}))]
    grow(tmp_path, {name: tasks, "label_config.xml": view, "a.png": None})
    assert boxes_of(read_annotated(tmp_path)) == {"a.png": [CAT]}
    assert examine(tmp_path, quick=True).exit_code == 0


def test_a_folder_with_nothing_but_a_view_is_no_data_set(tmp_path: Path) -> None:
    grow(tmp_path, {"label_config.xml": "<View/>", "a.png": None})
    with pytest.raises(DataError, match="is no data set that is known"):
        read_annotated(tmp_path)
