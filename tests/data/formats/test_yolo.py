"""YOLO and darknet: where pictures and labels are, and what a line may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glip.data.formats.recognise import Part, read_annotated, train_and_val
from glip.data.formats.yolo import read_listing
from glip.errors import DataError
from tests.data.formats.trees import boxes_of, grow

LINE = "0 0.5 0.5 0.2 0.5\n"
BOX = [("cat", (24.0, 10.0, 36.0, 30.0))]
TREE: dict[str, Any] = {
    "images/train/a.png": None,
    "images/val/b.png": None,
    "labels/train/a.txt": LINE,
    "labels/val/b.txt": LINE,
}
BOTH = {"images/train/a.png": BOX, "images/val/b.png": BOX}


@pytest.mark.parametrize(
    "settings",
    [
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat}",
        "train: images\\train\nval: images\\val\nnames: [cat]",
        "path: C:/Users/x/ds\ntrain: images/train\nval: images/val\nnames: [cat]",
        "train: C:\\Users\\x\\images\\train\nval: C:\\Users\\x\\images\\val\nnames: [cat]",
        "train: ../train\nvalid: ../val\nnames: [cat]",
        "train: [images/train, images/val]\nnames: [cat]",
        "train: train.txt\nval: val.txt\nnames: [cat]",
    ],
)
def test_settings_of_other_machines(settings: str, tmp_path: Path) -> None:
    if "../train" in settings:  # as Roboflow writes them, relative to a place that is not there
        settings = settings.replace("../train", "../images/train").replace(
            "../val", "../images/val"
        )
    lists = {"train.txt": "./images/train/a.png\n", "val.txt": "/far/images/val/b.png\n"}
    grow(tmp_path, {**TREE, **lists, "data.yaml": settings})
    assert boxes_of(read_annotated(tmp_path)) == BOTH
    assert boxes_of(read_annotated(tmp_path, split="train")).keys() == (
        BOTH.keys() if "[images" in settings else {"images/train/a.png"}
    )


def test_settings_may_have_any_name_or_be_named(tmp_path: Path) -> None:
    text = "train: images/train\nval: images/val\nnames: [cat]"
    grow(tmp_path, {**TREE, "mine.yaml": text, "notes.yaml": "a: 1"})
    assert boxes_of(read_annotated(tmp_path)) == BOTH
    assert boxes_of(read_annotated(tmp_path / "mine.yaml")) == BOTH


@pytest.mark.parametrize(
    "files",
    [
        {"classes.txt": "cat\ndog\n", "images/a.png": None, "labels/a.txt": LINE},
        {"classes.txt": "\ufeffcat\n", "images/a.png": None, "images/a.txt": LINE},
        {
            "obj.data": "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n",
            "obj.names": "cat\n",
            "train.txt": "data/images/a.png\n",
            "images/a.png": None,
            "images/a.txt": LINE,
        },
    ],
)
def test_names_that_stand_in_text_files(files: dict[str, Any], tmp_path: Path) -> None:
    assert boxes_of(read_annotated(grow(tmp_path, files))) == {"images/a.png": BOX}


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("0 0.5 0.5 0.2 0.5 0.87", ""),  # a score
        ("0, 0.5, 0.5, 0.2, 0.5", ""),
        ("0 0.4 0.25 0.6 0.25 0.6 0.75", ""),
        ("0 0.4 0.25 0.6 0.25 0.6 0.75 0.9", ""),
        ("0 0.5 0.5 0.2 0.5 0.1 0.1 2 0.2 0.2 2 0.3 0.3 2 0.4 0.4 2", "kpt_shape: [4, 3]"),
        ("0 0.5 0.5 0.2 0.5 0.1 0.1 0.2 0.2", "kpt_shape: [2, 2]"),
    ],
)
def test_what_a_line_may_hold(line: str, more: str, tmp_path: Path) -> None:
    settings = f"train: images/train\nnames: [cat]\n{more}"
    grow(tmp_path, {**TREE, "labels/train/a.txt": line, "data.yaml": settings})
    assert boxes_of(read_annotated(tmp_path)) == {"images/train/a.png": BOX}


@pytest.mark.parametrize(
    "line", ["0 nan 0.5 0.2 0.5", "0 0.5 0.5 inf 0.5", "0 0.5 0.5 -0.2 0.5", "3 0.5 0.5 0.2 0.5",
             "0.5 0.5 0.5 0.2 0.5", "0 0.5", "cat 0.5 0.5 0.2 0.5", "\x00"],
)  # fmt: skip
def test_bad_line_is_left_out_and_too_many_refused(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = "train: images/train\nnames: [cat]"
    grow(tmp_path, {**TREE, "labels/train/a.txt": f"{LINE}{line}\n", "data.yaml": settings})
    with pytest.raises(DataError, match=r"a.txt:2.* 1 of 2 lines cannot be used"):
        read_annotated(tmp_path)
    (tmp_path / "labels/train/a.txt").write_text(f"{LINE * 19}{line}\n")
    assert len(boxes_of(read_annotated(tmp_path))["images/train/a.png"]) == 19
    assert "left out 1 of 20 lines" in caplog.text


@pytest.mark.parametrize("label", ["1a2b3c4d-my%20a.txt", "my%20a.txt", "my a.txt"])
def test_label_files_of_uploads(label: str, tmp_path: Path) -> None:
    grow(tmp_path, {"set/classes.txt": "cat\n", f"set/labels/{label}": LINE, "ph/my a.png": None})
    assert boxes_of(read_annotated(tmp_path / "set", tmp_path / "ph")) == {"my a.png": BOX}


@pytest.mark.parametrize(
    ("names", "second"),
    [
        ("cup\ndog\ncat\n\n", "dog"),
        ("cup\r\r\ndog\r\r\ncat\r\r\n", "dog"),
        ("\ncup\ncat\n", "cup"),
        ("cup\n\ncat\n", None),
    ],
)
def test_class_numbers_are_lines(names: str, second: str | None, tmp_path: Path) -> None:
    grow(tmp_path, {"classes.txt": names, "images/a.png": None, "labels/a.txt": f"2{LINE[1:]}"})
    assert boxes_of(read_annotated(tmp_path)) == {"images/a.png": BOX}
    (tmp_path / "labels/a.txt").write_text(f"1{LINE[1:]}")
    if second is None:
        with pytest.raises(DataError, match="class"):
            read_annotated(tmp_path)
    else:
        [[(name, _)]] = boxes_of(read_annotated(tmp_path)).values()
        assert name == second


def test_labels_that_are_nowhere_are_no_negatives(tmp_path: Path) -> None:
    settings = "train: images/train\nnames: [cat]"
    grow(tmp_path, {"images/train/a.png": None, "data.yaml": settings})
    with pytest.raises(DataError, match=r"no picture has labels; .*labels/train/a.txt"):
        read_annotated(tmp_path)


def test_split_folders_do_not_lead_out(tmp_path: Path) -> None:
    grow(tmp_path, {"secret/s.png": None, "secret/s.txt": LINE, "set/images/a.png": None})
    for value in ("../secret", str(tmp_path / "secret")):
        grow(tmp_path, {"set/data.yaml": f"train: {value}\nnames: [cat]"})
        with pytest.raises(DataError, match=r"does not exist below .*set; set 'path'"):
            read_annotated(tmp_path / "set")
    grow(tmp_path, {"set/data.yaml": f"path: {tmp_path / 'secret'}\ntrain: .\nnames: [cat]"})
    assert boxes_of(read_annotated(tmp_path / "set")) == {"s.png": BOX}  # said in so many words


def test_pictures_may_be_said(tmp_path: Path) -> None:
    settings = "train: images/train\nval: images/val\nnames: [cat]"
    grow(tmp_path, {f"set/{name}": text for name, text in {**TREE, "data.yaml": settings}.items()})
    (tmp_path / "set/images").rename(tmp_path / "photos")
    found = boxes_of(read_annotated(tmp_path / "set", tmp_path / "photos"))
    assert found == {"train/a.png": BOX, "val/b.png": BOX}


def test_pictures_in_no_folders_are_of_the_part_of_their_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = "train: images/train\nval: images/val\nnames: [cat]"
    labels = {"labels/train/a.txt": LINE, "labels/val/b.txt": LINE, "labels/c.txt": LINE}
    grow(tmp_path, {f"set/{name}": text for name, text in labels.items()})
    grow(tmp_path, {"set/data.yaml": settings, **{f"photos/{n}.png": None for n in "abd"}})

    def read(split: Any) -> list[str]:
        return sorted(boxes_of(read_annotated(tmp_path / "set", tmp_path / "photos", split=split)))

    assert (read("train"), read("val"), read(None)) == (
        ["a.png"],
        ["b.png"],
        ["a.png", "b.png", "d.png"],
    )
    assert "pictures without labels are of no part (1)" in caplog.text
    (tmp_path / "set/labels/val").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"nothing says which pictures of .*photos are for val"):
        read("val")


def test_labels_of_pictures_that_are_elsewhere_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flat = {"labels/train/a.txt": LINE, "labels/train/sub__b.txt": LINE, "classes.txt": "cat"}
    photos = {"photos/a.png": None, "photos/sub/b.png": None}
    settings = "train: images/train\nnames: [cat]"
    grow(
        tmp_path, {**{f"set/{k}": v for k, v in flat.items()}, "set/data.yaml": settings, **photos}
    )
    assert boxes_of(read_annotated(tmp_path / "set", tmp_path / "photos"))["sub/b.png"] == []
    assert f"label files are of no picture in {tmp_path / 'photos'} (1)" in caplog.text


@pytest.mark.parametrize(
    ("settings", "split", "told"),
    [
        ("train: images/train", None, 1),
        ("train: images/train\nval: images/val", "train", 1),
        ("train: images/train\nval: images/val", "val", 0),
        ("train: images/train\nval: images/val", None, 1),
        ("train: train.txt", None, 0),  # which leaves out what it does not name
    ],
)
def test_labels_of_pictures_that_are_gone_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: str, split: Any, told: int
) -> None:
    grow(
        tmp_path,
        {
            **{f"labels/{name}.txt": LINE for name in ("train/a", "train/gone", "val/b", "test/c")},
            **{f"images/{name}.png": None for name in ("train/a", "val/b")},
            "train.txt": "images/train/a.png",
            "data.yaml": f"{settings}\nnames: [cat]",
        },
    )
    (tmp_path / "images/train/gone.png").symlink_to(tmp_path / "elsewhere.png")
    found = boxes_of(read_annotated(tmp_path, split=split))
    assert found and all(boxes == BOX for boxes in found.values())
    assert caplog.text.count(f"label files are of no picture in {tmp_path} (1)") == told


def test_names_stay_words(tmp_path: Path) -> None:
    grow(tmp_path, {**TREE, "data.yaml": "train: images/train\nnames: [no, 10, null, 1.0]"})
    assert read_listing(tmp_path / "data.yaml").names == {0: "no", 1: "10", 2: "null", 3: "1.0"}


@pytest.mark.parametrize("names", ["{0: cat, 00: dog}", "7", "[[cat]]", "", "{a: cat}", "&a [*a]"])
def test_names_that_are_none(names: str, tmp_path: Path) -> None:
    grow(tmp_path, {**TREE, "data.yaml": f"train: images/train\nnames: {names}"})
    with pytest.raises(DataError, match=r"data.yaml"):
        read_annotated(tmp_path)


def test_aliases_that_multiply_cost_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    grow(tmp_path, {**TREE, "data.yaml": "\n".join([*lines, "names: *a11"])})
    with pytest.raises(DataError, match="needs 'names'"):
        read_annotated(tmp_path)


def test_val_that_is_train_holds_nothing_out(tmp_path: Path) -> None:
    settings = "train: images/train\nval: images/train\nnames: [cat]"
    grow(tmp_path, {**TREE, "data.yaml": settings})
    assert train_and_val(tmp_path) == (Part(tmp_path), None)
