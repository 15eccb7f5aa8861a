"""What all commands share: exit codes, the log, bars, how a run is stopped, JSON as it comes."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glip.cli.terminal import (
    JsonFile,
    Stopped,
    exit_code,
    guarded,
    note,
    progress_bar,
    show_log,
    stopped_by_sigterm,
)
from glip.errors import ConfigError, StorageError
from glip.progress import Counter


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("no such thing"), 2, "error: no such thing\n"),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept\n"),
        (Stopped(), 143, "stopped; what was finished is kept\n"),
        (OSError(errno.EACCES, "Permission denied", "a/b"), 2, "error: a/b: Permission denied\n"),
    ],
)
def test_ends_are_a_line_and_a_code(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert guarded(work) == code
    assert capsys.readouterr().err == words


def test_a_working_folder_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert guarded(lambda: len(os.path.realpath("a"))) == 2
    assert capsys.readouterr().err.startswith("error: the working folder is gone; go into one")


def _says_so() -> int:
    print("a result")
    return 0


def test_output_that_nobody_reads_any_more_ends_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert guarded(_says_so) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_output_on_a_full_disk_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert guarded(_says_so) == 2
    assert capsys.readouterr().err.startswith("error: the output cannot be written: No space")


def test_a_command_runs_without_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def work() -> int:
        assert not sys.stdout.isatty()
        note("a line")
        return _says_so()

    assert guarded(work) == 0


def test_json_on_stdout_is_json_whatever_letters_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = io.BytesIO()
    narrow = io.TextIOWrapper(content, encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", narrow)
    with JsonFile("-", many=False) as file:
        file.add({"name": "café 😀"})
    narrow.flush()
    assert json.loads(content.getvalue()) == {"name": "café 😀"}


def test_sigterm_stops_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as caught, stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(caught.value, KeyboardInterrupt) and exit_code(caught.value) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_warnings_of_the_library_are_lines_like_errors(capsys: pytest.CaptureFixture[str]) -> None:
    show_log()
    logging.getLogger("glip.somewhere").warning("%d of them", 3)
    logging.getLogger("glip.somewhere").info("not shown")
    assert capsys.readouterr().err == "warning: 3 of them\n"
    show_log(times=True)
    logging.getLogger("glip.somewhere").info("step 1")
    assert capsys.readouterr().err.endswith(" INFO glip.somewhere: step 1\n")
    show_log()


def test_a_bar_for_each_part_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as show:
        first = Counter(show, "survey", unit="entry")
        first.add(4)
        second = Counter(show, "grounding", 10, done=3)
        second.add(6, {"rejected": 2})
        second.add()
    err = capsys.readouterr().err
    assert "survey" in err and "4entry" in err and "10/10" in err and "rejected=2" in err
    with progress_bar(shown=False) as show:
        Counter(show, "grounding", 10).add()
    assert capsys.readouterr().err == ""


def test_json_goes_into_a_device_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        with JsonFile(str(pipe), many=True) as file:
            file.add({"a": 1})
        assert reader.stdout is not None
        assert json.loads(reader.stdout.read()) == [{"a": 1}]
    assert pipe.is_fifo()
    with JsonFile("/dev/null", many=False) as file:
        file.add({"a": 1})
    assert not Path("/dev/null").is_file()


def test_json_through_a_link_replaces_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    with JsonFile(str(tmp_path / "link.json"), many=False) as file:
        file.add({"a": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text()) == {"a": 1}


def test_json_of_two_runs_at_once(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    Path(f"{path}.part").write_text("[of a run that was killed")
    with JsonFile(str(path), many=True) as first:
        first.add({"a": 1})
        with (
            pytest.raises(ConfigError, match="is being written by another run"),
            JsonFile(str(path), many=True),
        ):
            pytest.fail("the first would lose its file")
        first.add({"a": 2})
    assert json.loads(path.read_text()) == [{"a": 1}, {"a": 2}]
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_stays_of_json_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("glip.cli.terminal.json.dump", full)
    with pytest.raises(StorageError, match="the disk is full"), JsonFile(str(path), many=True) as f:
        f.add({"a": 1})
    assert not list(tmp_path.glob("out*"))


@pytest.mark.whole
def test_a_process_that_gets_sigterm_ends_with_143(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom glip.cli.terminal import guarded\n"
        "def work():\n    print('up', flush=True)\n    time.sleep(60)\n    return 0\n"
        "sys.exit(guarded(work))"
    )
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait() == 143
        assert process.stderr.read() == b"stopped; what was finished is kept\n"
