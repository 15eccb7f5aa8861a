"""What all commands share with the terminal: exit codes, lines, tables, bars, the log, and how a
run is stopped.

Results go to stdout, everything about them (progress, errors, names of written files) to stderr.
Imports nothing heavy. Knows nothing about what a command does.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from glip.errors import ConfigError, GlipError
from glip.files import failing_disk, is_device
from glip.progress import Progress, bars

if TYPE_CHECKING:
    from glip.structures import Detections

DONE, SOME_FAILED, FAILED, INTERRUPTED, PIPE_CLOSED, STOPPED = 0, 1, 2, 130, 141, 143
EXIT_CODES = f"""\
exit codes:
  {DONE:<3}  all done
  {SOME_FAILED:<3}  done, but some pictures failed and are named; of doctor: there are faults
  {FAILED:<3}  nothing was done because of an error
  {INTERRUPTED:<3}  interrupted (Ctrl-C), and {STOPPED} stopped (SIGTERM): what was finished is kept
"""


class Stopped(KeyboardInterrupt):
    """SIGTERM: whatever cleans up after Ctrl-C does so after this as well."""


def guarded(work: Callable[[], int]) -> int:
    """Run a command; errors that a user can cause become one line and an exit code."""
    _ready_streams()
    show_log()
    try:
        with stopped_by_sigterm():
            try:
                return work()
            finally:
                sys.stdout.flush()  # what it meets is told here, not by the end of the program
    except GlipError as error:
        note(f"error: {error}")
        return FAILED
    except KeyboardInterrupt as stop:
        note(f"{stopping(stop)}; what was finished is kept")
        return exit_code(stop)
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        _let_go_of_stdout()
        return PIPE_CLOSED
    except OSError as error:  # of a file that nobody expected to fail
        if not _is_somewhere():
            note("error: the working folder is gone; go into one that is there")
            return FAILED
        if error.filename is not None:
            note(f"error: {os.fsdecode(error.filename)}: {error.strerror}")
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):  # files have names
            _let_go_of_stdout()
            note(f"error: the output cannot be written: {error.strerror}")
        else:
            raise
        return FAILED


def _ready_streams() -> None:
    """Streams that take all letters, and are there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):  # a terminal need not know all letters of a name
            stream.reconfigure(errors="backslashreplace")


def _let_go_of_stdout() -> None:
    """What it still holds would fail once more when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_somewhere() -> bool:
    """Whether the folder that relative names start from is there."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def exit_code(stop: KeyboardInterrupt) -> int:
    """Of a run that was stopped."""
    return STOPPED if isinstance(stop, Stopped) else INTERRUPTED


def stopping(stop: KeyboardInterrupt) -> str:
    """How a run was stopped, in a word."""
    return "stopped" if isinstance(stop, Stopped) else "interrupted"


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM raises `Stopped` in this process meanwhile; a second one ends it at once."""
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a fork that has not set up signals of its own
            os.kill(os.getpid(), number)
        raise Stopped

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone hears signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def note(message: str) -> None:
    """A line on stderr, above a progress bar if there is one."""
    _write(message, sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=stream)
    else:
        print(text, file=stream)


def written(*paths: str | os.PathLike[str]) -> None:
    """Say where the results are."""
    note(f"written: {', '.join(os.fspath(path) for path in paths)}")


# the log


class _Notes(logging.Handler):
    """Lines of the log among those of the command."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            note(self.format(record))
        except Exception:
            self.handleError(record)


class _Short(logging.Formatter):
    """`warning: the message`, as errors are shown."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


def show_log(*, quiet: bool = False, times: bool = False) -> None:
    """Show warnings of the library, in the process that calls this.

    Args:
        quiet: Errors only, as of all processes but the main one.
        times: All that is told, with times: for hours of training.
    """
    root = logging.getLogger()
    handler = next((one for one in root.handlers if isinstance(one, _Notes)), None) or _Notes()
    lines = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(lines if times else _Short())
    root.addHandler(handler)
    root.setLevel(logging.ERROR if quiet else logging.INFO if times else logging.WARNING)


# progress


def progress_bar(*, shown: bool = True) -> AbstractContextManager[Progress]:
    """What a long job can be given as its `progress`: a bar for each part of its work.

    Args:
        shown: False for none. There is none in other processes than the main one either.
    """

    def is_shown() -> bool:
        # Who runs in several processes has imported it; exported models run without torch.
        distributed = sys.modules.get("glip.distributed")
        return shown and (distributed is None or distributed.is_main())

    return bars(is_shown)


# tables


class DetectionTable:
    """What is found, one row at a time as pictures are done, aligned from the first row on."""

    def __init__(self, pictures: Sequence[str], names: Sequence[str], *, hidden: bool) -> None:
        """The longest entries are known beforehand; no pictures mean no column for them."""
        self._hidden = hidden
        self._empty = True
        longest = [max(map(_columns, map(_line, texts)), default=0) for texts in (pictures, names)]
        self._picture_width = min(longest[0], 60)
        self._phrase_width = max(min(longest[1], 40), len("phrase"))

    def add(self, picture: str, found: Detections, threshold: float) -> None:
        """The rows of one picture, best first; one that says so if nothing was found."""
        if self._hidden:
            return
        rows = []
        if self._empty:
            rows.append(self._row("picture", "phrase", "score", ("x1", "y1", "x2", "y2")))
            self._empty = False
        picture = _line(picture)
        for box, score, phrase in zip(
            found.boxes.tolist(), found.scores.tolist(), found.phrases, strict=True
        ):
            corners = [f"{x:.0f}" for x in box]
            rows.append(self._row(picture, _line(phrase), f"{score:.3f}", corners))
        if not len(found):
            rows.append(self._row(picture, f"nothing above {threshold:g}", "", ()))
        _show("\n".join(rows))

    def _row(self, picture: str, phrase: str, score: str, box: Sequence[str]) -> str:
        cells = [_padded(picture, max(self._picture_width, 7))] if self._picture_width else []
        cells += [_padded(phrase, self._phrase_width), f"{score:>5}", *(f"{x:>6}" for x in box)]
        return "  ".join(cells).rstrip()


FILM_COLUMNS = ("phrase", "frames", "most", "score", "from s", "to s")
"""Of a film: in how many frames a phrase is, how often in one at most, its best score, and its
first and last time, seconds."""


def film_table(film: str, frames: int, rows: Sequence[Sequence[str]]) -> None:
    """What was found in a film, a row for each phrase."""
    shown = [FILM_COLUMNS, *((_line(row[0]), *row[1:]) for row in rows)]
    width = min(max(_columns(row[0]) for row in shown), 40)
    lines = [
        "  ".join([_padded(row[0], width), *(f"{cell:>6}" for cell in row[1:])]) for row in shown
    ]
    _show("\n".join([f"{_line(film)}: {frames} frames looked at", *(lines if rows else [])]))


def _show(text: str) -> None:
    """Results on stdout."""
    if sys.stdout.isatty():  # where there may be a progress bar in the way
        _write(text, sys.stdout)
    else:
        print(text)


def _line(text: str) -> str:
    """A text that leaves the terminal as it is: one line, no control characters."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(text.split())
    )


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: letters of East Asia two, accents none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


# JSON as it comes


class JsonFile:
    """Records on their way into a JSON file: one object, a list of them, or a line for each in
    FILE.jsonl.

    They go to `<file>.part` as they come, which takes the file's name at the end, of an interrupted
    run too. A run that is killed leaves what it finished there, and an old file as it was. What is
    no regular file, such as /dev/stderr, is written to as they come.
    """

    def __init__(self, path: str | None, *, many: bool) -> None:
        """`path` is a file, "-" for stdout, or None to write nothing."""
        self._path = path
        self._lines = path is not None and path.lower().endswith(".jsonl")
        self._many = many and not self._lines
        self._count = 0
        self._file: TextIO | None = None
        self._part: str | None = None
        self._ascii = False
        """Whether letters beyond ASCII are written as escapes."""

    def __enter__(self) -> JsonFile:
        if self._path == "-":
            self._file = sys.stdout
            # JSON is UTF-8, and knows other escapes than a terminal of fewer letters gets.
            self._ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        elif self._path is not None:
            if not is_device(self._path):
                self._part = f"{self._path}.part"
            try:
                # A file name that is not Unicode keeps its bytes as JSON escapes.
                self._file = open(
                    self._part or self._path,
                    "a" if self._part else "w",
                    encoding="utf-8",
                    errors="backslashreplace",
                )
                if self._part:
                    self._hold()
            except BlockingIOError as error:
                assert self._file is not None  # it was opened, and another run holds it
                self._file.close()
                self._file = self._part = None
                raise ConfigError(
                    f"--json {self._path} is being written by another run; wait for its end, or "
                    "give another name"
                ) from error
            except OSError as error:
                raise ConfigError(
                    f"--json {self._path} cannot be written: {error.strerror}"
                ) from error
        return self

    def _hold(self) -> None:
        """Keep other runs from the unfinished file, and begin it anew."""
        assert self._file is not None
        with suppress(ImportError):  # a system without such locks
            from fcntl import LOCK_EX, LOCK_NB, flock

            flock(self._file, LOCK_EX | LOCK_NB)
        self._file.truncate(0)

    def add(self, record: dict[str, Any]) -> None:
        """One more picture."""
        if self._file is None:
            return
        with self._failing():
            if self._many:
                self._file.write(",\n" if self._count else "[\n")
            json.dump(record, self._file, ensure_ascii=self._ascii)
            self._file.write("\n" if self._lines else "")
            self._file.flush()
        self._count += 1

    def _failing(self) -> AbstractContextManager[None]:
        """What a failing disk says; a closed pipe is no such thing."""
        if self._path in (None, "-"):
            return nullcontext()
        return failing_disk(Path(str(self._path)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None or kind is BrokenPipeError:
            return
        try:
            with self._failing():
                if self._many:
                    self._file.write("\n]\n" if self._count else "[]\n")
                elif self._count and not self._lines:
                    self._file.write("\n")
                if self._path == "-":
                    return
                self._file.close()
                if self._part and (self._count or ((self._many or self._lines) and kind is None)):
                    os.replace(self._part, os.path.realpath(str(self._path)))
        finally:
            self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        """Nothing of a run that wrote nothing stays, also where closing it has failed."""
        if self._part and not self._count and os.path.exists(self._part):
            os.unlink(self._part)
