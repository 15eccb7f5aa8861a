"""What holds for any input at any border: it is used, or refused with an error of ours that names
it, in seconds and in bounded memory, and no file outside the given folders is touched.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glip.errors import GlipError

SECONDS = 20
"""For one input; a machine that does other work besides is allowed for."""
MEBIBYTES = 700
"""By which one input may raise the most memory the process ever had."""


class TooSlow(BaseException):
    """No `except Exception` takes it for a fault of the input."""


@contextlib.contextmanager
def bounded(seconds: int = SECONDS, mebibytes: int = MEBIBYTES) -> Iterator[None]:
    """Whatever happens inside ends in time and takes no more memory than that."""

    def stop(*_: object) -> None:
        raise TooSlow(f"no end after {seconds} seconds")

    in_main = threading.current_thread() is threading.main_thread()
    before = _most_memory()
    old = signal.signal(signal.SIGALRM, stop) if in_main else None
    signal.alarm(seconds if in_main else 0)
    try:
        yield
    finally:
        signal.alarm(0)
        if old is not None:
            signal.signal(signal.SIGALRM, old)
    grown = _most_memory() - before
    assert grown <= mebibytes, f"took {grown:,.0f} MiB"


def _most_memory() -> float:
    """Of this process, ever, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def refusal(action: Callable[[], Any], *names: object) -> str | None:
    """What an input is refused with, or None if it was used.

    Args:
        action: What is done with it; any error but ours is a fault of the product.
        names: One of them has to be in the message, as people have to find the input.
    """
    with bounded():
        try:
            action()
        except GlipError as error:
            said = str(error)
        else:
            return None
    assert said.strip()
    assert len(said) < 20_000, "a message is read by people"
    assert not names or any(str(name) in said for name in names), said
    return said


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, to be compared with later."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
