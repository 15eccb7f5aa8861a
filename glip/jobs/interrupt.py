"""Ctrl-C and SIGTERM wait for the end of a step, so that a run is stopped between two of them.

Knows nothing about steps: it holds signals back for as long as a block of code takes.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

HELD = (signal.SIGINT, signal.SIGTERM)
UNTOUCHED = (None, signal.SIG_IGN)


class Held:
    """What came while signals were held back."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def __bool__(self) -> bool:
        return bool(self.came)


@contextlib.contextmanager
def signals_held() -> Iterator[Held]:
    """Hold Ctrl-C and SIGTERM back until the block ends; a second one comes through at once.

    In the end they are raised again, for whoever handled them before: Ctrl-C as KeyboardInterrupt.
    In another thread than the main one, which signals never reach, nothing is held.
    """
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    # A handler that was not set from Python (None) cannot be put back, so it is left alone; what is
    # ignored, as Ctrl-C is by jobs in the background, stays ignored.
    before = {n: handler for n in HELD if (handler := signal.getsignal(n)) not in UNTOUCHED}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        held.came.append(number)
        if len(held.came) > 1:
            put_back()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield held
    finally:
        put_back()
        if len(held.came) == 1:
            signal.raise_signal(held.came[0])
