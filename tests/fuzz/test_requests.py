"""Requests of every kind to every route: an answer, or a refusal in the one form; never a 500."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fuzz.border import bounded
from tests.fuzz.odd import VALUES, damaged

FIELDS = {
    "image": None, "images": None, "prompt": "a cat", "classes": ["cat"], "prompts": ["cat"],
    "threshold": 0.3, "nms": 0.5, "max_detections": 5, "aggregate": "max", "exclusive": True,
    "annotated": True, "task": "damage", "caption": "a cat on a mat", "phrases": ["cat"], "x": 1,
}  # fmt: skip


def check(answer: Any, *, allowed: tuple[int, ...] = ()) -> None:
    """A refusal names no path of this machine and has the form of all refusals."""
    assert answer.status_code < 500 or answer.status_code in allowed, answer.text[:500]
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["code"] and error["message"] and "Traceback" not in error["message"]
        assert len(error["message"]) < 2_000


def body(photo: bytes, **changes: Any) -> bytes:
    picture = base64.b64encode(photo).decode()
    return json.dumps({"image": picture, "prompt": "a cat", **changes}).encode()


HEADERS = {"content-type": "application/json"}


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/v1/detect", "/v1/ground"])
def test_odd_values_in_json(route: str, client: TestClient, photo: bytes) -> None:
    """Each field with each value; some 700 requests."""
    asked = {"prompt": "a cat"} if route.endswith("detect") else {"caption": "a cat"}
    for field in FIELDS:
        for value in VALUES:
            if isinstance(value, int) and value > 10**300:
                continue  # Python itself writes no such number
            content = {"image": base64.b64encode(photo).decode(), **asked, field: value}
            with bounded():
                check(client.post(route, content=json.dumps(content), headers=HEADERS))


@pytest.mark.slow
def test_damaged_bodies(client: TestClient, photo: bytes) -> None:
    """Some 500 requests."""
    for content in damaged(body(photo), 150):
        with bounded():
            check(client.post("/v1/detect", content=content, headers=HEADERS))
    for content in damaged(photo, 100):
        with bounded():
            check(client.post("/v1/detect", files={"image": content}, data={"prompt": "cat"}))
    form = client.build_request(
        "POST", "/v1/detect", files={"image": photo}, data={"prompt": "cat", "nms": "0.5"}
    )
    whole, kind = form.read(), form.headers["content-type"]
    for content in damaged(whole, 250):
        with bounded():
            check(client.post("/v1/detect", content=content, headers={"content-type": kind}))


BODIES: dict[str, bytes] = {
    "nothing": b"", "null": b"null", "a list": b"[]", "deep": b"[" * 100_000,
    "deep fields": b'{"image": ' + b'{"a":' * 50_000, "digits": b'{"nms": ' + b"1" * 5_000 + b"}",
    "utf-16": '{"prompt": "cat"}'.encode("utf-16"), "latin-1": b'{"prompt": "caf\xe9"}',
    "nan": b'{"nms": NaN}', "twice": b'{"image": "a", "image": "b"}',
    "lone": b'{"image": "\\ud800"}',
    "no base64": b'{"image": "!!!", "prompt": "cat"}', "file": b'{"image": "/etc/passwd"}',
    "address": b'{"image": "http://169.254.169.254/x", "prompt": "cat"}',
    "file address": b'{"image": "file:///etc/passwd", "prompt": "cat"}',
}  # fmt: skip


KINDS = (
    "application/json", "application/json; charset=utf-16", "multipart/form-data", "text/plain", "",
    "multipart/form-data; boundary=x", "multipart/form-data; boundary=",
)  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("route", ["/v1/detect", "/v1/ground", "/predict", "/setup", "/cvat", "/x"])
def test_bodies_that_are_none(route: str, name: str, client: TestClient) -> None:
    for kind in KINDS:
        with bounded():
            answer = client.post(route, content=BODIES[name], headers={"content-type": kind})
            assert answer.status_code < 500, (kind, answer.text[:300])


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "cat", "image": "/etc/passwd"},
        {"prompt": "n" * 5_000},
        {"classes": ["cat", ""]},
        {"nms": "nan", "prompt": "cat"},
        {"max_detections": "1e3", "prompt": "cat"},
        {"threshold": "", "prompt": "cat"},
        {"annotated": "maybe", "prompt": "cat"},
        {"a\r\nb": "c", "prompt": "cat"},
        {"prompt": "\ud83d"},
    ],
    ids=str,
)
def test_odd_forms(
    fields: dict[str, Any],
    make_client: Callable[..., TestClient],
    photo: bytes,
) -> None:
    for name in ("../../x.png", "", "a\0b", "x" * 9_000, "\u202e.png", "/etc/passwd"):
        data = {key: value for key, value in fields.items() if "\ud83d" not in str(value)}
        with bounded():
            check(make_client().post("/v1/detect", files={"image": (name, photo)}, data=data))
