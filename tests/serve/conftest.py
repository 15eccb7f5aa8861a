"""A server on the tiny model, spoken to in one process."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from glip.detector import Detector, load
from glip.serve.app import build_app
from glip.serve.options import ServeOptions
from glip.serve.run import listen, url_of
from glip.task_prompt import TaskPrompt, save_prompt
from glip.text.prompt import Prompt

MakeClient = Callable[..., TestClient]


@pytest.fixture
def photo(make_picture: Callable[..., Image.Image]) -> bytes:
    """The content of a PNG of 120x90 pixels."""
    return png_of(make_picture())


def png_of(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def served(tiny_file: Path) -> Detector:
    """A detector of its own, as a server's thread uses it beside the tests."""
    return load(tiny_file, device="cpu")


@pytest.fixture(scope="session")
def task(served: Detector, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A learned prompt of two classes on the served model."""
    prompt = Prompt.from_classes(["crack", "rust"])
    states = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    token_map = np.array([[False, True, False, False], [False, False, True, False]])
    name = served.config.name
    learned = TaskPrompt(
        prompt,
        (101, 8, 9, 102),
        token_map,
        states,
        np.zeros_like(states),
        name,
        served.fingerprint,
        (0.0, 0.0),
    )
    file = tmp_path_factory.mktemp("tasks") / "damage.prompt.safetensors"
    save_prompt(file, learned)
    return served.with_prompt(file)


@pytest.fixture
def make_client(served: Detector, task: Detector) -> Iterator[MakeClient]:
    """A client of a server with these options; with one learned prompt called damage."""
    clients: list[TestClient] = []

    def make(**options: Any) -> TestClient:
        app = build_app(served, {"damage": task}, ServeOptions(**options))
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    """Of a server with default options."""
    return make_client()


@pytest.fixture(scope="session")
def address(served: Detector, task: Detector) -> Iterator[str]:
    """A server that other programs can reach."""
    listener = listen("127.0.0.1", 0)
    app = build_app(served, {"damage": task}, ServeOptions())
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=functools.partial(server.run, sockets=[listener]), daemon=True)
    thread.start()
    yield url_of("127.0.0.1", listener.getsockname()[1])
    server.should_exit = True
    thread.join(20)
    listener.close()
