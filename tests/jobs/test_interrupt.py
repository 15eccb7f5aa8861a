"""Signals are held back for as long as a block takes, and no longer."""

import signal
import subprocess
import sys
import threading

import pytest

from glip.jobs.interrupt import signals_held


def interrupted(times, log, error=None):
    with signals_held() as held:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        log.append(bool(held))
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("times", "log"),
    [(1, [True]), (2, [])],
    ids=["waits for the end of the block", "a second one comes through at once"],
)
def test_ctrl_c(times, log):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(times, seen)
    assert seen == log
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        seen = []
        interrupted(1, seen)
        assert seen == [False]
    finally:
        signal.signal(signal.SIGINT, before)


def test_error_in_the_block_gives_way_to_the_signal():
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted(1, [], ValueError("of a worker that was interrupted as well"))
    assert isinstance(caught.value.__context__, ValueError)


def test_nothing_is_held_without_a_signal_or_in_another_thread():
    with signals_held() as held:
        pass
    assert not held
    seen = []

    def elsewhere():
        with signals_held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_term_ends_the_process_after_the_block():
    code = (
        "import os, signal\n"
        "from glip.jobs.interrupt import signals_held\n"
        "with signals_held():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('to the end', flush=True)\n"
        "print('and beyond')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == -signal.SIGTERM
    assert ended.stdout == "to the end\n"
