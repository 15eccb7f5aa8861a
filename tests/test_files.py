import errno
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from glip.errors import DataError, StorageError
from glip.files import (
    check_regular,
    failing_disk,
    fitting,
    is_device,
    make_folder,
    parsed_json,
    read_json,
    read_text,
    whole_file,
    whole_folder,
    whole_path,
    why_missing,
    write_json,
)


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"old")
    with whole_path(file) as unfinished:
        unfinished.write_bytes(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_old_file_outlives_a_failed_write(error, tmp_path):
    file = tmp_path / "result.txt"
    file.write_text("old")

    def half() -> None:
        with whole_file(file) as writing:
            writing.write("half")
            raise error

    with pytest.raises(error):
        half()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_longest_name_that_a_disk_takes_can_be_written(tmp_path):
    file = tmp_path / ("n" * 250 + ".json")
    write_json(file, {"ä": 1})
    assert file.read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'


def test_a_disk_that_fails_is_told_with_the_way_out(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageError, match="the disk is full; make room"), failing_disk(tmp_path):
        raise full
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"in.txt cannot be written: .*\(.*file\)"):
        write_json(tmp_path / "file" / "in.txt", 1)
    with pytest.raises(DataError, match="as it was"), failing_disk(tmp_path):
        raise DataError("as it was")


@pytest.mark.parametrize("kind", [whole_file, whole_folder])
def test_a_name_that_no_disk_takes_is_told_before_the_work(
    kind: Callable[[Path], AbstractContextManager[object]], tmp_path: Path
) -> None:
    path = tmp_path / ("n" * 300)
    with pytest.raises(StorageError, match="cannot be written: File name too long"), kind(path):
        pytest.fail("the work would be lost")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = tmp_path / "exported", []
    moved = Path.replace

    def replace(source: Path, target: Path) -> Path:
        seen.append(sorted(file.read_text() for file in tmp_path.rglob("graph")))
        return moved(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    for content in ("old", "new"):
        with whole_folder(folder) as unfinished:
            (unfinished / "graph").write_text(content)
    assert seen == [["old"], ["new", "old"], ["new", "old"]], "a kill at any time loses neither"
    assert (folder / "graph").read_text() == "new"
    assert list(tmp_path.iterdir()) == [folder]


def test_why_a_path_leads_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nothing").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    said = {
        "gone": "does not exist",
        "nothing": "is a link to nothing",
        "loop": "cannot be opened (Too many levels of symbolic links)",
        "n" * 300: "cannot be opened (File name too long)",
        "a\0b": "cannot be opened (no file can have this name)",
        "pipe": "is no regular file",
    }
    assert {name: why_missing(tmp_path / name) for name in said} == said


def test_files_are_for_all_whom_the_system_lets_read(tmp_path):
    def private(name, mode):
        return os.open(name, mode, 0o600)

    with whole_path(tmp_path / "weights") as unfinished:
        unfinished.unlink()
        open(unfinished, "w", opener=private).close()
    (tmp_path / "plain").touch()
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folder_is_made_or_refused_before_the_work(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        make_folder(tmp_path / "file")


def test_devices_and_pipes_are_written_to_and_stay_what_they_are(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join()
    assert read == ['{\n  "a": 1\n}\n'] and pipe.is_fifo()
    before = os.stat(os.devnull).st_rdev
    write_json(os.devnull, {"a": 1})
    assert is_device(os.devnull) and os.stat(os.devnull).st_rdev == before
    assert not is_device(tmp_path) and not is_device(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real/a.json")
    write_json(tmp_path / "link.json", 1)
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real" / "a.json").read_text() == "1\n"
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "it is a folder"),
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: None, "No such file"),
        (lambda path: path.write_bytes(b"x" * 99), "it has more than 98 bytes"),
    ],
)
def test_what_is_no_file_is_not_read(
    make: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings"
    make(path)
    with pytest.raises(OSError, match=reason):
        read_text(path, most=98)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(OSError, match="no file can have this name"):
        check_regular(name)


def test_the_output_of_another_program_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'\xef\xbb\xbf{"a": 1}')
    os.close(writing)
    assert read_json(f"/dev/fd/{reading}") == {"a": 1}
    os.close(reading)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "1" * 5_000 + "}", "{", ""])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed_json(text)


def test_names_that_are_made_fit() -> None:
    assert fitting("a.b", ".glip.jpg") == "a.b.glip.jpg"
    one, other = (fitting("猫" * 100 + end, ".glip.jpg") for end in "ab")
    assert one != other and one.startswith("猫" * 70) and one.endswith(".glip.jpg")
    assert max(len(os.fsencode(name)) for name in (one, other)) <= 240
