"""Corrected labels on their way back; formats that are written here are read in test_writers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.data.labels import Label, Labelled
from glip.errors import DataError, GlipError
from glip.jobs.journal import Journal
from glip.labelling.changes import Counts
from glip.labelling.corrected import Corrected, changed_since, read_corrected


@pytest.fixture
def photos(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    make_picture(200, 100).save(tmp_path / "photos" / "a.png")
    make_picture(200, 100).save(tmp_path / "photos" / "sub" / "b c.png")
    return tmp_path / "photos"


def result(name: str, *xywh: float, **more: Any) -> dict[str, Any]:
    value = dict(zip(("x", "y", "width", "height"), xywh, strict=True))
    value |= {"rotation": more.pop("rotation", 0), "rectanglelabels": [name]}
    return {"value": value, "original_width": 200, "original_height": 100, **more}


def export(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_newest_submitted_annotation_counts(photos: Path, tmp_path: Path) -> None:
    def annotation(day: int, *results: Any, cancelled: bool = False) -> dict[str, Any]:
        updated = f"2024-01-{day:02d}T00:00:00Z"
        return {"result": list(results), "updated_at": updated, "was_cancelled": cancelled}

    path = export(
        tmp_path,
        [
            {
                "data": {"image": "x", "file_name": "a.png"},
                "annotations": [
                    annotation(1, result("cat", 0, 0, 10, 10)),
                    annotation(3, result("cat", 10, 20, 50, 50)),
                    annotation(9, result("cat", 0, 0, 1, 1), cancelled=True),
                ],
                "predictions": [{"result": [result("cat", 0, 0, 99, 99)]}],
            },
            {
                "data": {"image": "/data/local-files/?d=some/where/sub/b%20c.png"},
                "annotations": [annotation(1)],  # the reviewer took every box away
            },
        ],
    )
    corrected = read_corrected(path, photos)
    assert corrected.names == ("cat",)
    assert corrected.pictures == (
        Labelled("a.png", (100, 200), (Label("cat", (20, 20, 120, 70)),)),
        Labelled("sub/b c.png", (100, 200), ()),
    )


def test_what_nobody_looked_at_is_left_out_and_counted(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = export(
        tmp_path,
        [
            {"data": {"file_name": "a.png"}, "predictions": [{"result": []}]},
            {"data": {"file_name": "sub/b c.png"}, "annotations": []},
        ],
    )
    with caplog.at_level(logging.WARNING):
        with pytest.raises(DataError, match="no picture that anybody has looked at"):
            read_corrected(path, photos)
        content = json.loads(path.read_text())
        path.write_text(json.dumps([*content, TASK]))
        assert len(read_corrected(path, photos).pictures) == 1
    assert "tasks that nobody has annotated are left out (2)" in caplog.text


def test_json_min_and_turned_boxes(photos: Path, tmp_path: Path) -> None:
    box = {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90}
    path = export(
        tmp_path,
        [
            {
                "image": "/data/upload/1/a.png",
                "label": [
                    box
                    | {"rectanglelabels": ["cat"], "original_width": 200, "original_height": 100}
                ],
            }
        ],
    )
    [picture] = read_corrected(path, photos).pictures
    # 20 by 20 pixels, turned clockwise about its corner at (100, 50): it lies to the left of it.
    assert picture.labels == (Label("cat", (80, 50, 100, 70)),)


def test_cvat_turns_about_the_middle_and_counts_other_shapes(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(
        "<annotations><meta><job><labels><label><name>dog</name></label></labels></job></meta>"
        '<image id="0" name="a.png" width="200" height="100">'
        '<box label="cat" xtl="20" ytl="20" xbr="60" ybr="40" rotation="90"/>'
        '<box label="cat" xtl="-5" ytl="0" xbr="10" ybr="130"/>'
        '<box label="cat" xtl="5" ytl="5" xbr="5" ybr="30"/>'
        '<polygon label="cat" points="1,2;3,4;5,6"/></image></annotations>'
    )
    with caplog.at_level(logging.WARNING):
        corrected = read_corrected(path, photos)
    assert corrected.names == ("dog", "cat")
    assert corrected.pictures[0].labels == (
        Label("cat", (30, 10, 50, 50)),
        Label("cat", (0, 0, 10, 100)),  # ends where the picture does
        Label("cat", (1, 2, 5, 6)),
    )
    assert "shapes that are no boxes count as the boxes around them (1)" in caplog.text
    assert "left out 1 boxes without an extent" in caplog.text


def test_coco_keeps_its_pictures_beside_it(photos: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 100}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [1, 2, 9, 9], "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    corrected = read_corrected(export(photos, content))
    assert corrected.root == photos
    assert corrected.pictures[0].labels == (Label("cat", (1, 2, 4, 6)),)


TASK = {"data": {"file_name": "a.png"}, "annotations": [{"result": [result("cat", 0, 0, 9, 9)]}]}
CAPTIONS = {"images": [{"id": 1, "file_name": "a.png", "caption": "", "width": 9, "height": 9}]}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ([TASK, TASK], {}, "a.png; 1 of 2 images cannot be used"),
        ([TASK], {"names": ["dog"]}, "class 'cat' is not among those asked for, dog"),
        ([TASK, 7], {}, "task 1: is no object"),
        ([{**TASK, "data": None}], {}, "task 0: .*NoneType"),
        ([{**TASK, "annotations": None}], {}, "task 0: .*NoneType"),
        ([{**TASK, "annotations": ["x"]}], {}, "task 0: .*str"),
        ([{**TASK, "annotations": [{}]}], {}, "task 0: .*result"),
        (
            [{**TASK, "annotations": [{"result": [result("cat", "nan", 0, 9, 9)]}]}],
            {},
            "1 of 1 boxes cannot be used",
        ),
        ([{**TASK, "data": {"file_name": "z.png"}}], {}, "picture z.png is not in .*photos"),
        (
            [{"data": {"image": "http://x/c.png"}, "annotations": [{"result": []}]}],
            {},
            "picture http://x/c.png is not in .*photos",
        ),
        (
            [
                {
                    "data": {"file_name": "a.png"},
                    "annotations": [{"result": [{"value": {"x": 1, "rectanglelabels": ["cat"]}}]}],
                }
            ],
            {},
            "task 0: a result lacks or has a wrong corner",
        ),
        ({"images": []}, {}, "has no list 'annotations'"),
        (CAPTIONS | {"annotations": []}, {}, "the caption ''"),
    ],
)
def test_exports_that_cannot_be_used(
    content: Any, options: Any, message: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(GlipError, match=message):
        read_corrected(export(tmp_path, content), photos, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "is not valid XML"),
        ("<annotation/>", "has no picture with labels|picture annotations is not in"),
        (
            '<annotations><image name="a.png" width="9" height="9">'
            '<box label="cat" xtl="nan" ytl="0" xbr="1" ybr="3"/></image></annotations>',
            "1 of 1 boxes cannot be used",
        ),
        (
            '<annotations><image name="no.png" width="9" height="9"/></annotations>',
            "picture no.png is not in .*photos",
        ),
    ],
)
def test_cvat_files_that_cannot_be_used(
    text: str, message: str, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_corrected(path, photos)


def test_pictures_must_be_said_where_the_file_does_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"picture a.png is not in .*; say where .* \(--images\)"):
        read_corrected(export(tmp_path, [TASK]))


def test_classes_keep_the_order_they_had(photos: Path, tmp_path: Path) -> None:
    task = {
        **TASK,
        "annotations": [{"result": [result("dog", 0, 0, 9, 9), result("cat", 0, 0, 9, 9)]}],
    }
    path = export(tmp_path, [task])
    assert read_corrected(path, photos).names == ("cat", "dog")
    assert read_corrected(path, photos, order=("fox", "dog")).names == ("fox", "dog", "cat")
    assert read_corrected(path, photos, names=("dog", "fox", "cat")).names == ("dog", "fox", "cat")


def test_pictures_stay_inside_their_folder(photos: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (9, 9)).save(secret)
    for name in ("../secret.png", str(secret), "sub/../../secret.png"):
        task = {**TASK, "data": {"file_name": name}}
        with pytest.raises(DataError, match="is not in"):
            read_corrected(export(tmp_path, [task]), photos)


@pytest.mark.parametrize("record", [{"phrases": []}, {"hw": [3], "labels": []}, None])
def test_the_journal_of_another_kind_of_job_is_not_compared(
    record: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(tmp_path, {}) as journal:
        journal.write([("a.png", "done", record)])
    picture = Labelled("a.png", (90, 120), ())
    with caplog.at_level(logging.WARNING):
        assert changed_since(tmp_path, Corrected(("cat",), (picture,), tmp_path)) is None
    assert f"{tmp_path} holds no labels" in caplog.text


def test_changes_are_found_under_the_names_of_other_formats(tmp_path: Path) -> None:
    """Exact names first; then those of formats that have one folder for all pictures."""
    cat, dog = Label("cat", (1, 2, 40, 60)), Label("dog", (50, 2, 90, 60))
    with Journal(tmp_path, {}) as journal:
        journal.write(
            (name, "done", Labelled(name, hw, (label,)).to_json())
            for name, hw, label in (
                ("a.png", (90, 120), cat),
                ("sub/a.png", (90, 120), dog),
                ("sub/b.png", (90, 120), dog),
                ("turned.png", (120, 90), cat),
            )
        )

    def changed(*pictures: tuple[str, Label]) -> tuple[Counts, int]:
        left = tuple(Labelled(name, (90, 120), (label,)) for name, label in pictures)
        found = changed_since(tmp_path, Corrected(("cat", "dog"), left, tmp_path))
        assert found is not None
        return found.total, found.not_compared

    assert changed(("sub/a.png", dog)) == (Counts(accepted=1), 0)  # not a.png
    flat = (f"images/train/{name}" for name in ("a.png", "sub__a.png", "sub__b.png"))
    assert changed(*zip(flat, (cat, dog, dog), strict=True)) == (Counts(accepted=3), 0)
    assert changed(("turned.png", cat), ("new.png", cat), ("a.png", dog)) == (
        Counts(deleted=1, added=1),
        2,
    )
