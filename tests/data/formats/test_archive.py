"""Zips: unpacked where nothing else lies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from glip.data.formats.archive import is_temporary
from glip.data.formats.recognise import read_annotated
from glip.errors import DataError
from tests.data.formats.trees import CAT, boxes_of, coco, grow


def pack(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize(
    "tree",
    [
        {"train/_annotations.coco.json": coco("a.png"), "train/a.png": None},  # Roboflow
        {"annotations/instances_default.json": coco("a.png"), "images/default/a.png": None},  # CVAT
        {"result.json": coco("images\\a.png"), "images/a.png": None},  # Label Studio
        {"set/labels.json": coco("a.png"), "set/data/a.png": None},  # FiftyOne
    ],
)
def test_exports_are_read_as_they_come(tree: dict[str, object], tmp_path: Path) -> None:
    path = pack(grow(tmp_path / "tree", tree), tmp_path / "export.zip")
    found = read_annotated(path)
    assert list(boxes_of(found).values()) == [CAT]
    assert is_temporary(found.pictures.root) and not is_temporary(tmp_path)
    assert read_annotated(path).pictures.root == found.pictures.root  # unpacked once


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    path = pack(
        grow(tmp_path / "tree", {"train.json": coco("a.png"), "a.png": None}), tmp_path / "x.zip"
    )
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../up.txt", "/tmp/glip-absolute.txt", "a/../../up2.txt"):
            archive.writestr(name, "x")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    root = read_annotated(path).pictures.root
    assert not any(file.is_symlink() for file in root.rglob("*"))
    assert sorted(file.name for file in root.rglob("*") if file.is_file()) == [
        "a.png",
        "train.json",
    ]
    assert not (root.parent / "up.txt").exists() and not Path("/tmp/glip-absolute.txt").exists()


def test_archives_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(DataError, match=r"x.zip cannot be unpacked"):
        read_annotated(tmp_path / "x.zip")
    monkeypatch.setattr("glip.data.formats.archive.HARMLESS", 1000)
    path = pack(grow(tmp_path / "tree", {"a.txt": "0" * 1_000_000}), tmp_path / "bomb.zip")
    with pytest.raises(DataError, match="would unpack to 1,000,000 bytes"):
        read_annotated(path)


def test_names_that_no_folder_can_hold_are_passed_over_and_faults_name_the_archive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = grow(tmp_path / "in", {"a.json": coco("a.png"), "a.png": None})
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(root / "a.json", "a.json")
        archive.write(root / "a.png", "a.png")
        for name in ("n" * 300 + ".png", "a.png/b.png"):
            archive.writestr(name, b"")
    assert list(boxes_of(read_annotated(path))) == ["a.png"]
    assert f"{path}: passed over 2 names that no folder can hold" in caplog.text
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(root / "a.json", "a.json")
    with pytest.raises(DataError, match=r"export\.zip/a\.json: picture a.png is not in"):
        read_annotated(path)
