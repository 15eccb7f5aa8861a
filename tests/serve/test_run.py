"""Servers as programs: one process and several, how they begin and how they end."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glip.cli.main import main
from glip.errors import ConfigError
from glip.serve.run import listen, url_of

pytestmark = pytest.mark.whole


@contextmanager
def program(*words: str, home: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running `glip serve`, its address, and what it has said so far."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLIP_HOME": str(home)}
    command = [sys.executable, "-m", "glip", "serve", "--port", "0", "--device", "cpu", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line)
            if line.startswith("glip serves at "):
                yield process, line.split()[-1], said
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(url: str, path: str, photo: bytes | None = None) -> Any:
    """An answer, after as many tries as a server needs to begin."""
    request = urllib.request.Request(url + path)
    if photo is not None:
        request.add_header("Content-Type", "application/json")
        image = base64.b64encode(photo).decode()
        request.data = json.dumps({"image": image, "classes": ["cat"]}).encode()
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content[:1] in b"{[" else content.decode()


@pytest.mark.whole
def test_one_process_serves_and_ends_when_told(tiny_file: Path, photo: bytes) -> None:
    with program("--weights", str(tiny_file), home=tiny_file.parent) as (process, url, _):
        assert ask(url, "/v1/detect", photo)["image"] == "image 0"
        assert ask(url, "/ready") == {"ready": True}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        with pytest.raises(urllib.error.URLError):
            ask(url, "/health")


@pytest.mark.slow
def test_several_processes_behind_one_port(tiny_file: Path, photo: bytes) -> None:
    words = ("--weights", str(tiny_file), "--processes", "2")
    with program(*words, home=tiny_file.parent) as (process, url, _):
        for _ in range(6):
            assert ask(url, "/v1/detect", photo)["image"] == "image 0"
        # Whichever process is asked, it counts for all.
        for _ in range(4):
            assert "glip_pictures_total 6.0" in ask(url, "/metrics")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline, "children outlive their parent"
            time.sleep(0.1)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1 port {port}" in said
    assert said.count("\n") == 1


def test_hosts_that_are_none() -> None:
    with pytest.raises(ConfigError, match="no-such-host"):
        listen("no-such-host.invalid", 0)
    with pytest.raises(ConfigError, match=r"cannot listen on \.\."):
        listen("..", 0)


@pytest.mark.parametrize("processes", ["1", "3"])
def test_weights_that_are_none(processes: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--port", "0", "--weights", "nowhere.safetensors", "--processes", processes)
    assert main(["serve", *words]) == 2
    said = capsys.readouterr().err
    assert "nowhere.safetensors" in said
    assert said.count("\n") == 1, "nothing was served, and it is said once"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("::1", "http://[::1]:1"),
        ("example.org", "http://example.org:1"),
    ],
)
def test_addresses_for_browsers(host: str, url: str) -> None:
    assert url_of(host, 1) == url
