"""What Label Studio sends, and what it gets back."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from starlette.testclient import TestClient

from glip.detector import Detector
from glip.serve.options import LabelStudio, Limits
from tests.serve.conftest import MakeClient

pytestmark = pytest.mark.whole

CONFIG = """
<View>
  <!-- two kinds -->
  <Image name="img" value="$photo"/>
  <RectangleLabels name="what" toName="img" model_score_threshold="0.1">
    <Label value="Animal" predicted_values="cat, dog"/>
    <Label value="Car"/>
  </RectangleLabels>
</View>
"""


def data_url(photo: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(photo).decode()


def task(value: Any, number: int = 7) -> dict[str, Any]:
    return {"id": number, "data": {"photo": value}}


def test_the_sdks_three_questions(client: TestClient, served: Detector, photo: bytes) -> None:
    assert client.get("/health").json()["status"] == "UP"
    setup = {"project": "1.2", "schema": CONFIG, "hostname": "http://x", "access_token": "secret"}
    version = client.post("/setup", json=setup).json()["model_version"]
    assert version.startswith(f"{served.config.name}-")
    body = {
        "tasks": [task(data_url(photo)), task(data_url(photo), 8)],
        "label_config": CONFIG,
        "project": "1.2",
        "params": {"login": None, "password": None, "context": None},
    }
    answer = client.post("/predict", json=body).json()
    assert len(answer["results"]) == 2
    assert answer["model_version"] == version
    first = answer["results"][0]
    assert first["model_version"] == version
    assert first["score"] == min(one["score"] for one in first["result"]) > 0.1
    wanted = client.post(
        "/v1/detect",
        json={
            "image": data_url(photo),
            "classes": ["cat", "dog", "Car"],
            "threshold": 0.1,
            "exclusive": True,
        },
    ).json()
    assert len(first["result"]) == len(wanted["detections"]) > 0
    labels = {"cat": "Animal", "dog": "Animal", "Car": "Car"}
    for one, other in zip(first["result"], wanted["detections"], strict=True):
        assert (one["type"], one["from_name"], one["to_name"]) == ("rectanglelabels", "what", "img")
        assert (one["original_width"], one["original_height"]) == (120, 90)
        value = one["value"]
        assert value["rectanglelabels"] == [labels[other["phrase"]]]
        x1, y1, x2, y2 = other["box"]
        percent = [
            value["x"],
            value["y"],
            value["x"] + value["width"],
            value["y"] + value["height"],
        ]
        corners = [x1 / 1.2, y1 / 0.9, x2 / 1.2, y2 / 0.9]
        assert percent == pytest.approx(corners, abs=1e-3)


def test_the_other_questions(client: TestClient) -> None:
    assert client.post("/validate", json={"config": CONFIG}).status_code == 200
    assert len(client.get("/versions").json()["versions"]) == 1
    assert client.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 201


class Studio:
    """A Label Studio with one picture, which notes who asked for it."""

    def __init__(self, photo: bytes) -> None:
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                self.answer(photo)

            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, content["refresh"]))
                self.answer(b'{"access": "short-lived"}')

            def answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def studio(photo: bytes) -> Iterator[Studio]:
    made = Studio(photo)
    yield made
    made.server.shutdown()
    made.server.server_close()


def predicted(client: TestClient, value: str) -> Any:
    return client.post("/predict", json={"tasks": [task(value)], "label_config": CONFIG})


def test_pictures_of_the_studio_itself_are_fetched(make_client: MakeClient, studio: Studio) -> None:
    client = make_client(label_studio=LabelStudio(studio.url, "old-key"))
    for value in ("/data/upload/1/a.png", f"{studio.url}/data/upload/1/a.png"):
        assert predicted(client, value).status_code == 200
    assert studio.asked == [("/data/upload/1/a.png", "Token old-key")] * 2


def test_new_keys_are_exchanged_once(make_client: MakeClient, studio: Studio) -> None:
    client = make_client(label_studio=LabelStudio(studio.url, "a.b.c"))
    for _ in range(2):
        assert predicted(client, "/data/a.png?x=1").status_code == 200
    assert studio.asked == [
        ("/api/token/refresh", "a.b.c"),
        ("/data/a.png?x=1", "Bearer short-lived"),
        ("/data/a.png?x=1", "Bearer short-lived"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        "http://127.0.0.1:1/a.png",
        "http://localhost/a.png",
        "//127.0.0.1/a.png",
        "http://evil/a.png",
        "http://[/a.png",
    ],
)
def test_no_other_private_address_is(make_client: MakeClient, studio: Studio, value: str) -> None:
    client = make_client(label_studio=LabelStudio(studio.url, "old-key"))
    assert predicted(client, value).status_code in (403, 422)
    assert studio.asked == []


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"label_config": None}, 422, "label_config"),
        ({"label_config": "<View>"}, 422, "not valid XML"),
        ({"label_config": "<View a='\ud800'/>"}, 422, "not valid XML"),
        ({"label_config": "<!DOCTYPE x [<!ENTITY a 'b'>]><View/>"}, 422, "label_config"),
        ({"label_config": "<View/>"}, 422, "no RectangleLabels"),
        ({"label_config": CONFIG.replace("<Label ", "<Choice ")}, 422, "no labels"),
        ({"label_config": CONFIG.replace('"0.1"', '"high"')}, 422, "model_score_threshold"),
        ({"label_config": CONFIG.replace("$photo", "$other")}, 422, "data.other"),
        ({"tasks": None}, 422, "tasks"),
        ({"tasks": [1]}, 422, "tasks"),
        ({"tasks": [{"id": 1}]}, 422, "data.photo"),
        ({"tasks": [task(5)]}, 422, "data.photo"),
        ({"tasks": [task("/data/upload/1/a.png")]}, 422, "--label-studio"),
        ({"tasks": [task("s3://bucket/a.png")]}, 422, "base64"),
        ({"tasks": [task("x")] * 17}, 413, "17 tasks"),
    ],
)
def test_bad_questions(
    client: TestClient, photo: bytes, change: dict[str, Any], status: int, message: str
) -> None:
    body = {"tasks": [task(data_url(photo))], "label_config": CONFIG, **change}
    answer = client.post("/predict", content=json.dumps(body))
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_too_many_labels(make_client: MakeClient) -> None:
    client = make_client(limits=Limits(max_names=2))
    assert client.post("/setup", json={"schema": CONFIG}).status_code == 413
    assert client.post("/setup", content=b"[").status_code == 400
