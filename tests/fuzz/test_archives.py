"""Zips and tars that lie, captions in every form: nothing is written outside or takes long."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from glip.data.formats.archive import unpacked
from glip.data.formats.recognise import read_annotated
from glip.data.pictures import PictureTar
from glip.labelling.job import take_corrected
from glip.pseudo.captions import CaptionSet
from tests.data.formats.trees import coco
from tests.fuzz.border import refusal, tree
from tests.fuzz.odd import KINDS, damaged

EVIL = (
    "../out.png", "/tmp/glip-out.png", "a/../../out.png", "..\\out.png", "C:\\out.png", "a\0.png",
    "\\\\host\\out.png", "x" * 300 + ".png", "/".join("a" * 300) + ".png", ".", "..", "./../b",
)  # fmt: skip


def png() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (60, 40)).save(content, "PNG")
    return content.getvalue()


def a_zip(names: tuple[str, ...] = ("a.png",), **more: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), png())
        for name, data in more.items():
            archive.writestr(name.replace("__", "."), data)
    return content.getvalue()


def a_tar(**entries: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in entries.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A folder in a folder in which nothing may appear or change."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "out.png").write_bytes(b"mine")
    return tmp_path / "inside"


@pytest.mark.parametrize("name", EVIL, ids=lambda name: repr(name)[:20])
def test_names_that_lead_out(name: str, inside: Path) -> None:
    """Of members and of annotations, in a zip, as corrected labels, and in a tar."""
    content = coco("a.png", name)
    packed = inside / "x.zip"
    packed.write_bytes(a_zip(("a.png", name), annotations__json=json.dumps(content).encode()))
    loose = inside / "annotations.json"
    loose.write_text(json.dumps(content))
    (inside / "a.png").write_bytes(png())
    tar = inside / "x.tar"
    tar.write_bytes(a_tar(**{"a.png": png(), name.replace("\0", "0"): png()}))
    before = tree(inside.parent)
    refusal(lambda: read_annotated(packed, max_bad=0.9), inside)
    refusal(lambda: read_annotated(loose, max_bad=0.9), inside)
    refusal(lambda: read_annotated(loose, tar, max_bad=0.9), inside)
    for number, corrected in enumerate((packed, loose)):
        out = inside / f"out {number}"
        refusal(lambda corrected=corrected, out=out: take_corrected(corrected, out, max_bad=0.9))  # type: ignore[misc]
    after = {
        place: data for place, data in tree(inside.parent).items() if "inside/out " not in place
    }
    assert after == before
    assert not Path("/tmp/glip-out.png").exists()


def test_links_in_archives_lead_nowhere(inside: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo("a.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    (inside / "x.tar").write_bytes(content.getvalue())
    assert PictureTar(inside / "x.tar").names() == []
    link = zipfile.ZipInfo("a.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(inside / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert list(unpacked(inside / "x.zip").iterdir()) == []


@pytest.mark.slow
def test_damaged_archives(inside: Path) -> None:
    """Some 1,200 of them."""
    annotations = json.dumps(coco("a.png")).encode()
    whole = a_zip(annotations__json=annotations)
    for number, content in enumerate(damaged(whole, 400)):
        path = inside / f"{number}.zip"
        path.write_bytes(content)
        refusal(lambda path=path: read_annotated(path), path.name)  # type: ignore[misc]
    shard = a_tar(a__png=png(), a__txt=b"a cat", b__png=png(), b__json=b'{"caption": "two dogs"}')
    path = inside / "x.tar"
    for content in damaged(shard, 800):
        path.write_bytes(content)
        refusal(lambda: read_shard(path), path)


def read_shard(path: Path) -> None:
    """As far as a model would."""
    PictureTar(path)
    captions = CaptionSet(path)
    for entry in captions:
        if entry.fault is None:
            refusal(lambda entry=entry: captions.load(entry), path)  # type: ignore[misc]


TABLES = {
    "a.csv": b'image,caption\na.png,"a cat, on a mat"\na.png,two dogs\n',
    "a.tsv": b"a.png\ta cat\na.png\ttwo dogs\n",
    "a.token": b"a.png#0\ta cat\na.png#1\ttwo dogs\n",
    "a.jsonl": b'{"image": "a.png", "caption": "a cat"}\n{"image": "a.png", "captions": ["x"]}\n',
    "a.json": json.dumps(
        {"images": [{"id": 1, "file_name": "a.png"}],
         "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}]}
    ).encode(),
    "b.json": b'[{"image": "a.png", "caption": "a cat"}, {"image": "a.png", "caption": "b"}]',
    "c.json": b'{"images": [{"filename": "a.png", "sentences": [{"raw": "a cat"}]}]}',
}  # fmt: skip


def read_captions(path: Path) -> None:
    captions = CaptionSet(path, path.parent)
    for entry in captions:
        assert entry.fault or entry.captions
        if entry.fault is None:
            refusal(lambda entry=entry: captions.load(entry))  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_damaged_captions(name: str, inside: Path) -> None:
    """Some 1,000 of them."""
    (inside / "a.png").write_bytes(png())
    path = inside / name
    for content in damaged(TABLES[name], 150):
        path.write_bytes(content)
        refusal(lambda: read_captions(path), inside)


@pytest.mark.parametrize("become", KINDS)
@pytest.mark.parametrize("name", [*TABLES, "a.txt", "a.tar", "x.zip"])
def test_what_is_no_file_of_captions(
    name: str, become: Callable[[Path], None], inside: Path
) -> None:
    (inside / "a.png").write_bytes(png())
    become(inside / name)
    refusal(lambda: read_captions(inside / name), inside)
    refusal(lambda: CaptionSet(inside / name), inside)
    if name == "a.txt":
        refusal(lambda: read_captions(inside), inside)
    if name == "x.zip":
        refusal(lambda: read_annotated(inside / name), inside)
    if name == "a.tar":
        refusal(lambda: PictureTar(inside / name), inside)
