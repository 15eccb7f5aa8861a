"""`/v1` as clients see it, with answers compared to `Detector.predict`."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from glip.detector import Detector
from glip.text.prompt import Prompt

pytestmark = pytest.mark.whole

NAMES = ["cat", "traffic light"]


def as_json(value: object) -> Any:
    return json.loads(json.dumps(value))


def expected(detector: Detector, photo: bytes, prompt: Any, **options: Any) -> dict[str, Any]:
    [found] = detector.predict(Image.open(io.BytesIO(photo)), prompt, **options)
    return as_json(found.to_dict())


def same(answer: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Equal but for rounding: batches of other sizes add up in another order."""
    assert {key: answer[key] for key in ("width", "height", "prompt")} == {
        key: wanted[key] for key in ("width", "height", "prompt")
    }
    assert len(answer["detections"]) == len(wanted["detections"]) > 0
    for one, other in zip(answer["detections"], wanted["detections"], strict=True):
        assert (one["phrase"], one["span"]) == (other["phrase"], other["span"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["box"] == pytest.approx(other["box"], abs=1e-2)


def test_a_form_gets_what_predict_gives(
    client: TestClient, tiny_detector: Detector, photo: bytes
) -> None:
    answer = client.post(
        "/v1/detect",
        files={"image": ("street.png", photo)},
        data={"prompt": "cat. traffic light.", "threshold": "0.1", "exclusive": "true"},
    )
    assert answer.status_code == 200
    assert list(answer.json())[:5] == ["image", "width", "height", "prompt", "detections"]
    assert answer.json()["image"] == "street.png"
    wanted = expected(tiny_detector, photo, "cat. traffic light.", threshold=0.1, exclusive=True)
    same(answer.json(), wanted)


def test_json_with_base64_and_a_default_threshold(
    client: TestClient, tiny_detector: Detector, photo: bytes
) -> None:
    text = base64.b64encode(photo).decode()
    answer = client.post("/v1/detect", json={"image": text, "classes": NAMES, "aggregate": "max"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"] == "image 0"
    same(answer.json(), expected(tiny_detector, photo, NAMES, aggregate="max"))


def test_several_pictures_with_a_prompt_each(
    client: TestClient, tiny_detector: Detector, photo: bytes
) -> None:
    text = "data:image/png;base64," + base64.b64encode(photo).decode()
    answer = client.post(
        "/v1/detect",
        json={
            "images": [{"data": text, "name": "a.png"}, text],
            "prompts": ["a dog on a mat", NAMES],
            "threshold": 0,
        },
    ).json()
    assert [one["image"] for one in answer] == ["a.png", "image 1"]
    same(answer[0], expected(tiny_detector, photo, "a dog on a mat", threshold=0.0))
    same(answer[1], expected(tiny_detector, photo, NAMES, threshold=0.0))


def test_one_picture_in_a_list_gives_a_list(client: TestClient, photo: bytes) -> None:
    files = [("images", ("a.png", photo))]
    answer = client.post("/v1/detect", files=files, data={"classes": "cat, dog"}).json()
    assert [one["prompt"] for one in answer] == [Prompt.from_classes(["cat", "dog"]).text]


def test_phrases_of_a_sentence_have_their_own_detections(client: TestClient, photo: bytes) -> None:
    answer = client.post(
        "/v1/ground",
        files={"image": photo},
        data={"caption": "a red umbrella and a dog", "threshold": "0"},
    ).json()
    assert [one["phrase"] for one in answer["phrases"]] == ["a red umbrella", "a dog"]
    assert answer["phrases"][1]["spans"] == [[19, 24]]
    for one in answer["phrases"]:
        assert one["detections"]
        for place in one["detections"]:
            assert answer["detections"][place]["phrase"] == one["phrase"]
    places = sorted(place for one in answer["phrases"] for place in one["detections"])
    assert places == list(range(len(answer["detections"])))


def test_phrases_that_are_pointed_out(client: TestClient, photo: bytes) -> None:
    data = {"caption": "a red umbrella and a dog", "phrases": "umbrella"}
    answer = client.post("/v1/ground", files={"image": photo}, data=data).json()
    assert [one["phrase"] for one in answer["phrases"]] == ["umbrella"]


def test_a_task_is_asked_by_its_name(client: TestClient, task: Detector, photo: bytes) -> None:
    whole = client.post("/v1/detect", files={"image": photo}, data={"task": "damage"}).json()
    same(whole, expected(task, photo, None))
    some = {"task": "damage", "classes": "rust", "threshold": "0"}
    part = client.post("/v1/detect", files={"image": photo}, data=some).json()
    assert {one["phrase"] for one in part["detections"]} == {"rust"}


def test_an_empty_list_of_classes_is_told_as_such(client: TestClient, photo: bytes) -> None:
    answer = client.post(
        "/v1/detect", json={"image": base64.b64encode(photo).decode(), "classes": []}
    )
    assert answer.status_code == 422
    assert "list of class names is empty" in answer.json()["error"]["message"]


def test_an_annotated_picture_in_both_ways(client: TestClient, photo: bytes) -> None:
    data = {"classes": "cat", "annotated": "true", "threshold": "0"}
    url = client.post("/v1/detect", files={"image": photo}, data=data).json()["annotated"]
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    direct = client.post(
        "/v1/detect",
        files={"image": photo},
        data={"classes": "cat", "threshold": "0"},
        headers={"Accept": "image/png"},
    )
    assert direct.headers["content-type"] == "image/png"
    assert direct.content == base64.b64decode(content) != photo
    assert Image.open(io.BytesIO(direct.content)).size == (120, 90)


def test_the_model_says_what_it_is(client: TestClient, served: Detector) -> None:
    answer = client.get("/v1/model").json()
    assert answer["model"] == served.config.name
    assert answer["tasks"] == {"damage": ["crack", "rust"]}
    assert answer["limits"]["max_pictures"] == 16
    assert answer["colours"][0] == {"fill": "#d55e00", "ink": "#000000"}


def test_openapi_describes_bodies_and_answers(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    body = api["paths"]["/v1/detect"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    text = json.dumps(api)
    for name in {ref.split('"')[0] for ref in text.split("#/components/schemas/")[1:]}:
        assert name in api["components"]["schemas"]
