"""Keys, origins, deadlines, and what is counted."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from glip.detector import Detector
from glip.serve.guard import Guard
from glip.serve.metrics import Metrics
from glip.serve.options import Limits
from tests.serve.conftest import MakeClient

pytestmark = pytest.mark.whole

KEY = "s3cret-é"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Bearer s3cret"}, 200),
        ({"X-API-Key": "s3cret"}, 200),
        ({"Authorization": "Basic " + base64.b64encode(b"any:s3cret").decode()}, 200),
    ],
)
def test_the_key_opens_all_doors_but_those_that_are_open(
    make_client: MakeClient, headers: dict[str, str], status: int
) -> None:
    client = make_client(api_key="s3cret")
    for path in ("/v1/model", "/metrics"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "s3cret" not in answer.text
        assert client.post("/predict", headers=headers).status_code == 401
        assert client.post("/v1/detect", headers=headers).status_code == 401
    for path in ("/", "/health", "/ready", "/page/page.js", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_a_key_of_other_letters(make_client: MakeClient) -> None:
    client = make_client(api_key=KEY)
    basic = base64.b64encode(f":{KEY}".encode()).decode()
    assert client.get("/v1/model", headers={"Authorization": f"Basic {basic}"}).status_code == 200


def test_other_sites_are_answered_only_if_they_are_named(make_client: MakeClient) -> None:
    site = {"Origin": "https://example.org"}
    shut = make_client().get("/v1/model", headers=site)
    assert "access-control-allow-origin" not in shut.headers
    named = make_client(origins=("https://example.org",), api_key="k")
    asked = {**site, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization"
    assert named.options("/v1/detect", headers=asked).status_code == 200
    answer = named.get("/v1/model", headers={**site, "Authorization": "Bearer k"})
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    other = named.get("/v1/model", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_every_answer_forbids_outside_addresses(make_client: MakeClient) -> None:
    client = make_client()
    for path in ("/", "/docs", "/page/page.css", "/nowhere", "/health"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_more_than_the_queue_holds_is_turned_away(
    make_client: MakeClient, served: Detector, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(limits=Limits(queue=2))
    begun, released = threading.Event(), threading.Event()
    plain = served.detect

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        assert released.wait(20)
        return plain(*args, **options)

    monkeypatch.setattr(served, "detect", slow)

    def post() -> Any:
        return client.post("/v1/detect", files={"image": photo}, data={"classes": "cat"})

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post)
        assert begun.wait(20)
        both = [("images", photo), ("images", photo)]
        many = client.post("/v1/detect", files=both, data={"classes": "cat"})
        second = pool.submit(post)
        deadline = time.monotonic() + 20
        while "glip_queue_pictures 2.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        third = post()
        released.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]
    for refused in (many, third):
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert post().status_code == 200
    text = client.get("/metrics").text
    assert "glip_queue_pictures 0.0" in text
    assert 'glip_requests_total{route="/v1/detect",status="429"} 2.0' in text


def test_time_is_over(
    make_client: MakeClient, served: Detector, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(limits=Limits(seconds=1))
    released = threading.Event()
    plain = served.detect

    def slow(*args: Any, **options: Any) -> Any:
        assert released.wait(20)
        return plain(*args, **options)

    monkeypatch.setattr(served, "detect", slow)
    answer = client.post("/v1/detect", files={"image": photo}, data={"classes": "cat"})
    released.set()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_slow")
    assert "retry-after" in answer.headers
    assert "glip_queue_pictures 0.0" in client.get("/metrics").text


def test_counts_by_route_and_status(make_client: MakeClient, photo: bytes) -> None:
    client = make_client()
    client.post("/v1/detect", files={"image": photo}, data={"classes": "cat"})
    client.post("/v1/detect", files={"image": b"broken"}, data={"classes": "cat"})
    for number in range(3):
        client.get(f"/nowhere/{number}")
    text = client.get("/metrics").text
    assert 'glip_requests_total{route="/v1/detect",status="200"} 1.0' in text
    assert 'glip_requests_total{route="/v1/detect",status="422"} 1.0' in text
    assert 'glip_requests_total{route="other",status="404"} 3.0' in text
    assert "glip_pictures_total 1.0" in text
    assert 'glip_request_seconds_count{route="/v1/detect"} 2.0' in text


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    sent: list[Any] = []

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def silent() -> Any:
        if not sent:
            sent.append("part")
            return {"type": "http.request", "body": b"x", "more_body": True}
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(
        reading,
        limits=Limits(seconds=1),
        metrics=Metrics(),
        api_key=None,
        is_open=lambda path: True,
        is_known=lambda path: True,
    )
    scope = {"type": "http", "method": "POST", "path": "/v1/detect", "headers": []}
    asyncio.run(guard(scope, silent, send))
    assert sent[1]["status"] == 408
