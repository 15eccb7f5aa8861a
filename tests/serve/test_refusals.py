"""Bad requests: each gets a clear 4xx, and no answer tells about this machine."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from glip.detector import Detector
from glip.errors import DeviceError, NotFiniteError
from tests.serve.conftest import MakeClient, png_of

pytestmark = pytest.mark.whole

B64 = "@photo"  # in the tables: base64 of a good picture


def bomb() -> bytes:
    """A PNG whose head promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated() -> bytes:
    noise = Image.effect_noise((200, 200), 80).convert("RGB")
    return png_of(noise)[:5000]


BODIES: list[tuple[Any, int, str]] = [
    (b"{", 400, "not valid JSON"),
    (b"[1]", 400, "JSON object"),
    (b"[" * 100_000, 400, "not valid JSON"),
    (b"\xff\xfe{}", 400, "not valid JSON"),
    (b'{"image": ' + b"9" * 5000 + b"}", 400, "not valid JSON"),
    ({}, 422, "image"),
    ({"image": None, "classes": ["cat"]}, 422, "image"),
    ({"image": 7, "classes": ["cat"]}, 422, "image"),
    ({"image": B64, "images": [B64], "classes": ["cat"]}, 422, "image"),
    ({"images": [], "classes": ["cat"]}, 422, "empty list"),
    ({"images": [B64, None], "classes": ["cat"]}, 422, "images.1"),
    ({"images": [B64] * 17, "classes": ["cat"]}, 413, "17 pictures"),
    ({"image": {"data": B64, "size": 3}, "classes": ["cat"]}, 422, "no such field"),
    ({"image": "street.jpg", "classes": ["cat"]}, 422, "base64"),
    ({"image": "/etc/passwd", "classes": ["cat"]}, 422, ""),
    ({"image": "file:///etc/passwd", "classes": ["cat"]}, 422, "base64"),
    ({"image": "", "classes": ["cat"]}, 422, "empty"),
    ({"image": base64.b64encode(b"no picture").decode(), "classes": ["cat"]}, 422, "no picture"),
    ({"image": base64.b64encode(bomb()).decode(), "classes": ["cat"]}, 413, "pixels"),
    ({"image": base64.b64encode(truncated()).decode(), "classes": ["cat"]}, 422, "damaged"),
    ({"image": "http://127.0.0.1/a.png", "classes": ["cat"]}, 403, "addresses"),
    ({"image": B64}, 422, "what to look for"),
    ({"image": B64, "prompt": "cat", "classes": ["cat"]}, 422, "one way"),
    ({"image": B64, "prompt": ""}, 422, ""),
    ({"image": B64, "prompt": " . "}, 422, ""),
    ({"image": B64, "prompt": 5}, 422, "prompt"),
    ({"image": B64, "classes": []}, 422, ""),
    ({"image": B64, "classes": [""]}, 422, "empty"),
    ({"image": B64, "classes": "cat"}, 422, "classes"),
    ({"image": B64, "classes": [["cat"]]}, 422, "classes.0"),
    ({"image": B64, "classes": [f"cat {n}" for n in range(301)]}, 413, "301 names"),
    ({"image": B64, "classes": ["word " * 300]}, 422, "tokens"),
    ({"image": B64, "prompt": "x" * 20_001}, 413, "20,001 letters"),
    ({"image": B64, "prompts": ["cat", "dog"]}, 422, "2 prompts for 1 pictures"),
    ({"image": B64, "task": "nothing"}, 404, "no task 'nothing'"),
    ({"image": B64, "task": "damage", "classes": ["cat"]}, 422, "does not know 'cat'"),
    ({"image": B64, "classes": ["cat"], "threshold": 1.5}, 422, "threshold"),
    ({"image": B64, "classes": ["cat"], "threshold": "high"}, 422, "threshold"),
    ({"image": B64, "classes": ["cat"], "nms": -1}, 422, "nms"),
    ({"image": B64, "classes": ["cat"], "max_detections": 0}, 422, "max_detections"),
    ({"image": B64, "classes": ["cat"], "aggregate": "median"}, 422, "aggregate"),
    ({"image": B64, "classes": ["cat"], "treshold": 0.3}, 422, "treshold: no such field"),
]


def filled(value: Any, photo: bytes) -> Any:
    """The body with the picture in the place of its sign."""
    if value == B64:
        return base64.b64encode(photo).decode()
    if isinstance(value, dict):
        return {key: filled(one, photo) for key, one in value.items()}
    return [filled(one, photo) for one in value] if isinstance(value, list) else value


def check(answer: Any, status: int, message: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    for secret in ("Traceback", "/home", "/usr", "/tmp", "site-packages", ".py"):
        assert secret not in answer.text
    assert len(answer.text) < 1000


@pytest.mark.parametrize(("body", "status", "message"), BODIES)
def test_bad_bodies(client: TestClient, photo: bytes, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(filled(body, photo))
    headers = {"Content-Type": "application/json"}
    check(client.post("/v1/detect", content=content, headers=headers), status, message)


def test_nan_is_no_threshold(client: TestClient, photo: bytes) -> None:
    body = json.dumps({"image": filled(B64, photo), "classes": ["cat"], "threshold": float("nan")})
    headers = {"Content-Type": "application/json"}
    check(client.post("/v1/detect", content=body, headers=headers), 422, "threshold")


FORMS: list[tuple[list[tuple[str, Any]], dict[str, Any], int, str]] = [
    ([], {"classes": "cat"}, 422, "image"),
    ([("image", b"")], {"classes": "cat"}, 422, "empty"),
    ([("image", b"GIF89a")], {"classes": "cat"}, 422, "no picture"),
    ([("image", b"<svg xmlns='http://www.w3.org/2000/svg'/>")], {"classes": "cat"}, 422, "no pic"),
    ([("image", b"%!PS-Adobe-3.0 EPSF-3.0")], {"classes": "cat"}, 422, "no picture"),
    ([("image", B64), ("image", B64)], {"classes": "cat"}, 422, "send several as images"),
    (
        [("photo", B64)],
        {"classes": "cat"},
        422,
        "photo is a file; pictures are sent as image or images",
    ),
    ([("image", B64)], {"classes": "cat", "threshold": ["0.1", "0.2"]}, 422, "threshold"),
    ([("image", B64)], {"prompts": ["cat", "dog"]}, 422, "2 prompts for 1"),
]


@pytest.mark.parametrize(("files", "data", "status", "message"), FORMS)
def test_bad_forms(
    client: TestClient,
    photo: bytes,
    files: list[tuple[str, Any]],
    data: dict[str, Any],
    status: int,
    message: str,
) -> None:
    parts: list[tuple[str, Any]] = [
        (key, ("a.png", photo if value == B64 else value)) for key, value in files
    ]
    parts.append(("exclusive", (None, b"false")))  # as httpx makes no form of text alone
    check(client.post("/v1/detect", files=parts, data=data), status, message)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/page/../app.py", 404, "not_found"),
        ("GET", "/page/%2e%2e%2fapp.py", 404, "not_found"),
        ("GET", "/v1/detect", 405, "wrong_method"),
        ("DELETE", "/v1/model", 405, "wrong_method"),
    ],
)
def test_wrong_doors(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "", "multipart/form-data"])
def test_other_content(client: TestClient, kind: str) -> None:
    answer = client.post("/v1/detect", content=b"abc", headers={"Content-Type": kind})
    assert answer.status_code in (400, 415)
    assert answer.json()["error"]["message"]


def test_a_caption_must_be_there(client: TestClient, photo: bytes) -> None:
    check(client.post("/v1/ground", files={"image": photo}, data={}), 422, "caption: is missing")
    data = {"caption": "a dog", "phrases": "cat"}
    check(client.post("/v1/ground", files={"image": photo}, data=data), 422, "cat")


def test_a_bad_picture_is_counted_from_nought(client: TestClient, photo: bytes) -> None:
    files = [("images", ("a.png", photo)), ("images", ("b.png", b"broken"))]
    answer = client.post("/v1/detect", files=files, data={"classes": "cat"})
    assert answer.json()["error"]["picture"] == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DeviceError("cuda:3 of /dev/nvidia3 has too little memory"), 503, "no_memory"),
        (NotFiniteError("/usr/share/weights gives NaN"), 500, "internal"),
        (RuntimeError("secret /usr/share"), 500, "internal"),
    ],
)
def test_the_model_fails(
    client: TestClient,
    served: Detector,
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(served, "detect", fail)
        answer = client.post("/v1/detect", files={"image": photo}, data={"classes": "cat"})
    check(answer, status, "")
    assert answer.json()["error"]["code"] == code
    again = client.post("/v1/detect", files={"image": photo}, data={"classes": "cat"})
    assert again.status_code == 200


def test_limits_of_bytes_and_pixels(make_client: MakeClient, photo: bytes) -> None:
    from glip.serve.options import Limits

    small = make_client(limits=Limits(max_bytes=1000))
    assert len(photo) > 1000
    files = {"image": photo}
    check(small.post("/v1/detect", files=files, data={"classes": "cat"}), 413, "1,000 bytes")
    chunks = iter([b"x" * 600, b"x" * 600])  # without a length in its head
    headers = {"Content-Type": "application/json"}
    check(small.post("/v1/detect", content=chunks, headers=headers), 413, "1,000 bytes")
    few = make_client(limits=Limits(max_pixels=120 * 90 - 1))
    check(few.post("/v1/detect", files=files, data={"classes": "cat"}), 413, "120 x 90 pixels")


def test_pictures_of_many_kinds_are_read(client: TestClient, photo: bytes) -> None:
    picture = Image.open(io.BytesIO(photo))
    for kind in ("JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        buffer = io.BytesIO()
        picture.save(buffer, format=kind)
        files = {"image": ("a", buffer.getvalue())}
        answer = client.post("/v1/detect", files=files, data={"classes": "cat"})
        assert answer.status_code == 200, kind
