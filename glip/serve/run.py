"""A server as one process, or as several behind one port.

Each process has its own model and its own queue; the system hands connections to whichever accepts
first. A process that dies is started again. SIGTERM and Ctrl-C stop all of them gracefully: nothing
new is accepted, what was begun is answered.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import uvicorn

from glip.detector import Detector, load
from glip.errors import ConfigError, GlipError
from glip.processors import share_out
from glip.released import find
from glip.serve.app import build_app
from glip.serve.metrics import SHARED
from glip.serve.options import ServeOptions

logger = logging.getLogger("uvicorn.error")

BACKLOG = 2048
SETTLED = 30.0
"""Seconds after which a process that dies is thought to have been well."""
FAILED = 3
"""Exit code of a process that cannot serve at all."""


def serve(options: ServeOptions, *, begun: Callable[[str], object] = lambda url: None) -> None:
    """Answer requests until a signal says to stop.

    Args:
        options: All of them.
        begun: Told the address once the port is taken.
    Raises:
        ConfigError: The port cannot be had.
        GlipError: What loading the model or a learned prompt says.
    """
    listener = listen(options.host, options.port)
    with listener:
        address = url_of(options.host, listener.getsockname()[1])
        if options.processes == 1:
            app = build_app(*loaded(options), options)
            begun(address)
            _server(app, options).run(sockets=[listener])
        else:
            find(options.weights)  # what is missing is said, or fetched, once for all processes
            _Processes(options, listener).run(lambda: begun(address))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: The address is another program's, not allowed, or not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:  # the latter of names that no machine can have
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}; give another --port"
        ) from error
    return listener


def url_of(host: str, port: int) -> str:
    """Where a browser on this machine finds the server."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name and '[' not in name else name}:{port}"


def loaded(options: ServeOptions, process: int = 0) -> tuple[Detector, dict[str, Detector]]:
    """The model of a process and its tasks.

    Raises:
        GlipError: What `glip.load` and `Detector.with_prompt` say.
    """
    detector = load(options.weights, device=options.device_of(process), dtype=options.dtype)
    return detector, {name: detector.with_prompt(file) for name, file in options.tasks.items()}


def _server(app: object, options: ServeOptions) -> uvicorn.Server:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        timeout_graceful_shutdown=int(options.limits.seconds),
        timeout_keep_alive=30,
        server_header=False,
        log_level="info" if options.access_log else "warning",
        lifespan="on",
    )
    return uvicorn.Server(config)


class _Processes:
    """Children that share a listening socket, watched by this process."""

    def __init__(self, options: ServeOptions, listener: socket.socket) -> None:
        self._options = options
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._children: dict[int, BaseProcess] = {}
        self._started: dict[int, float] = {}
        self._signal: int | None = None

    def run(self, begun: Callable[[], object]) -> None:
        """Start all, start again what dies, until a signal comes; it is raised again in the end."""
        before = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        # Whatever computes there shares the processors with the other children.
        share_out(self._options.processes)
        with tempfile.TemporaryDirectory(prefix="glip-metrics-") as shared:
            os.environ[SHARED] = shared
            try:
                for number in range(self._options.processes):
                    self._start(number)
                begun()
                while self._signal is None:
                    wait([child.sentinel for child in self._children.values()], timeout=0.5)
                    self._revive(Path(shared))
            finally:
                self._end()
                del os.environ[SHARED]
                for number, handler in before.items():
                    signal.signal(number, handler)
        signal.raise_signal(self._signal)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def _start(self, number: int) -> None:
        child = self._context.Process(
            target=_serve_child, args=(self._options, self._listener, number), daemon=True
        )
        child.start()
        self._children[number], self._started[number] = child, time.monotonic()

    def _revive(self, shared: Path) -> None:
        for number, child in list(self._children.items()):
            if child.is_alive() or self._signal is not None:
                continue
            lived = time.monotonic() - self._started[number]
            if child.exitcode == FAILED or lived < SETTLED:
                raise ConfigError(
                    f"server process {number} ended after {lived:.0f} s; the lines above say why"
                )
            logger.error("process %d ended (%s); another takes its place", number, child.exitcode)
            for file in shared.glob(f"gauge_live*_{child.pid}.db"):
                file.unlink(missing_ok=True)
            self._start(number)

    def _end(self) -> None:
        for child in self._children.values():
            if child.is_alive():
                child.terminate()
        deadline = time.monotonic() + self._options.limits.seconds + 5
        for child in self._children.values():
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                child.kill()


def _serve_child(options: ServeOptions, listener: socket.socket, number: int) -> None:
    """One of several processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        app = build_app(*loaded(options, number), options)
    except GlipError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    _server(app, options).run(sockets=[listener])


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its children: they must see it themselves."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
