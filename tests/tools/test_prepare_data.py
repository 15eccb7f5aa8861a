"""Public data from a server on this machine: whole, resumed, checked, safely unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import prepare_data
import pytest
from prepare_data import DATA_SETS, ODINW_13, ODINW_35, DataSet, Piece, fetch, prepare, unpack

from glip.errors import DataError, StorageError


class Files:
    """What a server has, and what was asked of it."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.breaks_after: int | None = None
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """With ranges and versions, as the official ones have."""
    monkeypatch.setattr(prepare_data, "PAUSE_S", 0.0)
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, wanted = files.content.get(self.path), self.headers.get("Range")
            files.asked.append((self.path, wanted))
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
            start = 0
            if wanted and self.headers.get("If-Range") == tag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            rest = content[start:]
            self.wfile.write(rest if files.breaks_after is None else rest[: files.breaks_after])
            files.breaks_after = None

        def log_message(self, *_: Any) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{httpd.server_port}"
    yield files
    httpd.shutdown()
    httpd.server_close()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


SET = zipped(("Raccoon/train/a.jpg", b"a" * 5000), ("Raccoon/train/boxes.json", b"{}"))


def test_an_archive_is_unpacked_recorded_and_not_fetched_twice(
    server: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content["/Raccoon.zip"] = SET
    piece = Piece(f"{server.url}/Raccoon.zip", "odinw")
    fetch(piece, tmp_path)
    assert (tmp_path / "odinw/Raccoon/train/a.jpg").read_bytes() == b"a" * 5000
    record = json.loads((tmp_path / "downloads.json").read_text())[piece.url]
    digest = hashlib.sha256(SET).hexdigest()
    assert record == {"sha256": digest, "size": len(SET), "known": False, "unpacked": True}
    assert "no digest is published" in capsys.readouterr().err
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"a.jpg", "boxes.json", "downloads.json"}  # neither archive nor rest of one
    fetch(piece, tmp_path)
    assert len(server.asked) == 1


def test_a_broken_connection_goes_on_where_it_broke(server: Files, tmp_path: Path) -> None:
    server.content["/Raccoon.zip"] = SET
    server.breaks_after = 1000
    fetch(Piece(f"{server.url}/Raccoon.zip", "odinw", size=len(SET)), tmp_path)
    assert server.asked == [("/Raccoon.zip", None), ("/Raccoon.zip", "bytes=1000-")]
    assert (tmp_path / "odinw/Raccoon/train/boxes.json").exists()


def test_what_a_killed_call_left_is_gone_on_with(
    server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content["/x.txt"] = b"0123456789"
    server.breaks_after = 4
    monkeypatch.setattr(prepare_data, "TRIES", 1)
    piece = Piece(f"{server.url}/x.txt", ".")
    with pytest.raises(DataError, match="goes on from 4 bytes"):
        fetch(piece, tmp_path)
    assert not (tmp_path / "x.txt").exists()
    fetch(piece, tmp_path)
    assert (tmp_path / "x.txt").read_bytes() == b"0123456789"
    assert server.asked[-1] == ("/x.txt", "bytes=4-")


def test_another_version_is_fetched_from_its_start(
    server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content["/x.txt"] = b"old and long"
    server.breaks_after = 4
    monkeypatch.setattr(prepare_data, "TRIES", 1)
    piece = Piece(f"{server.url}/x.txt", ".")
    with pytest.raises(DataError):
        fetch(piece, tmp_path)
    server.content["/x.txt"] = b"new one"
    fetch(piece, tmp_path)
    assert (tmp_path / "x.txt").read_bytes() == b"new one"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"size": 3}, "bytes and not 3"), ({"md5": "0" * 32}, "has md5 .* and not 000")],
)
def test_what_is_not_as_published_is_removed(
    settings: dict[str, Any], message: str, server: Files, tmp_path: Path
) -> None:
    server.content["/Raccoon.zip"] = SET
    with pytest.raises(DataError, match=message):
        fetch(Piece(f"{server.url}/Raccoon.zip", "odinw", **settings), tmp_path)
    assert not any(path.suffix in (".zip", ".jpg") for path in tmp_path.rglob("*"))


def test_a_published_digest_is_enough(server: Files, tmp_path: Path) -> None:
    server.content["/a.zip"] = SET
    md5 = hashlib.md5(SET).hexdigest()
    fetch(Piece(f"{server.url}/a.zip", ".", len(SET), md5), tmp_path, keep=True)
    assert (tmp_path / "a.zip").exists() and (tmp_path / "Raccoon").is_dir()


def test_a_file_that_changed_since_the_first_download_is_refused(
    server: Files, tmp_path: Path
) -> None:
    server.content["/x.txt"] = b"first"
    piece = Piece(f"{server.url}/x.txt", ".")
    fetch(piece, tmp_path)
    (tmp_path / "x.txt").unlink()
    server.content["/x.txt"] = b"other"
    with pytest.raises(DataError, match=r"sha256 .* and not"):
        fetch(piece, tmp_path)
    assert not (tmp_path / "x.txt").exists()


def test_no_such_file(server: Files, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="answers 404"):
        fetch(Piece(f"{server.url}/none.zip", "."), tmp_path)
    assert len(server.asked) == 1


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize("name", ["../out.txt", "/etc/x", "a/../../x", "..\\x", "C:/x", link()])
def test_nothing_leads_out(name: str | zipfile.ZipInfo, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(("good.txt", b"x"), (name, b"/etc/passwd")))
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="leads out"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


def test_a_folder_that_is_a_link_out(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(("sub/x.txt", b"x")))
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "out")
    with pytest.raises(DataError, match="through a link"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    assert list((tmp_path / "out").iterdir()) == []


def test_damaged_and_too_large_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(SET[:-40])
    with pytest.raises(DataError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path)
    (tmp_path / "b.zip").write_bytes(SET)
    usage = prepare_data.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(prepare_data.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="unpacks to 5002 bytes"):
        unpack(tmp_path / "b.zip", tmp_path)


def test_a_few_pictures_of_coco(server: Files, tmp_path: Path) -> None:
    boxes = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in (3, 1, 2)],
        "annotations": [{"id": n, "image_id": n, "bbox": [0, 0, 1, 1]} for n in (1, 2, 3)],
        "categories": [],
    }
    server.content["/b.zip"] = zipped(("annotations/instances.json", json.dumps(boxes).encode()))
    server.content |= {f"/val2017/{n}.jpg": b"%d" % n for n in (1, 2, 3)}
    pieces = (Piece(f"{server.url}/b.zip", "coco"), Piece(f"{server.url}/none.zip", "coco"))
    known = DataSet(pieces, "", f"{server.url}/val2017", "coco/annotations/instances.json")
    prepare(known, tmp_path, limit=2)
    assert {path.name for path in (tmp_path / "coco/val2017").iterdir()} == {"1.jpg", "2.jpg"}
    part = json.loads((tmp_path / "coco/annotations/instances_first2.json").read_text())
    assert [box["image_id"] for box in part["annotations"]] == [1, 2]
    asked = len(server.asked)
    prepare(known, tmp_path, limit=2)
    assert len(server.asked) == asked


@pytest.mark.parametrize(("name", "limit"), [("odinw-13", 5), ("coco-val2017", 0)])
def test_limits_that_make_no_sense(name: str, limit: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--limit"):
        prepare(DATA_SETS[name], tmp_path, limit=limit)


def test_names_and_addresses() -> None:
    assert len(ODINW_13) == 13 and len(set(ODINW_35)) == 34  # OxfordPets holds two
    for known in DATA_SETS.values():
        assert known.words
        assert all(piece.url.startswith("http") and piece.folder for piece in known.pieces)


def test_the_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["prepare_data.py", "--list"])
    assert prepare_data.main() == 0
    assert "flickr30k-entities" in capsys.readouterr().out
