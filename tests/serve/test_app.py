"""The application as a whole: its state, and how it ends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from glip.detector import Detector
from glip.serve.app import build_app

pytestmark = pytest.mark.whole


def test_states(client: TestClient, served: Detector) -> None:
    assert client.get("/health").json() == {"status": "UP", "model_class": served.config.name}
    assert client.get("/ready").json() == {"ready": True}
    assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def test_what_was_begun_is_answered_before_the_end(
    served: Detector, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(served)
    begun, released = threading.Event(), threading.Event()
    plain = served.detect

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        assert released.wait(20)
        return plain(*args, **options)

    monkeypatch.setattr(served, "detect", slow)
    with TestClient(app) as client, ThreadPoolExecutor(1) as pool:
        files, data = {"image": photo}, {"classes": "cat"}
        first = pool.submit(client.post, "/v1/detect", files=files, data=data)
        assert begun.wait(20)
        app.state.service.is_closing = True
        late = client.post("/v1/detect", files=files, data=data)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "stopping")
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        released.set()
        assert first.result(20).status_code == 200
    assert not app.state.service.is_ready
