"""The CVAT functions of deploy/cvat against a server."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image

pytestmark = pytest.mark.whole

FOLDER = Path(__file__).parents[2] / "deploy" / "cvat"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"cvat_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch, address: str) -> Any:
    """In the place of nuclio's, with the environment of function.yaml."""
    function = yaml.safe_load((FOLDER / "function.yaml").read_text())
    for entry in function["spec"]["env"]:
        monkeypatch.setenv(entry["name"], entry["value"])
    monkeypatch.setenv("GLIP_URL", address)
    return SimpleNamespace(
        user_data=SimpleNamespace(), Response=lambda **fields: SimpleNamespace(**fields)
    )


def test_nuclio_gets_shapes_with_the_labels_of_the_function(context: Any, photo: bytes) -> None:
    main = module("main")
    main.init_context(context)
    body = {"image": base64.b64encode(photo).decode(), "threshold": 0.1}
    for sent in (body, json.dumps(body).encode()):
        answer = main.handler(context, SimpleNamespace(body=sent))
        assert answer.status_code == 200
        shapes = json.loads(answer.body)
        assert shapes
        function = yaml.safe_load((FOLDER / "function.yaml").read_text())
        labels = json.loads(function["metadata"]["annotations"]["spec"])
        assert {one["label"] for one in shapes} <= {label["name"] for label in labels}
        for one in shapes:
            assert (one["type"], len(one["points"])) == ("rectangle", 4)
            assert float(one["confidence"]) > 0.1


def test_nuclio_is_told_what_is_wrong(context: Any) -> None:
    main = module("main")
    main.init_context(context)
    answer = main.handler(context, SimpleNamespace(body={"image": "bm8gcGljdHVyZQ=="}))
    assert answer.status_code == 422
    assert json.loads(answer.body)["error"]["code"] == "bad_picture"


@pytest.mark.clients
def test_the_function_for_the_command_line(address: str, photo: bytes) -> None:
    pytest.importorskip("cvat_sdk")
    function = module("auto_annotation").create(url=address, classes="person, traffic light")
    assert [label.name for label in function.spec.labels] == ["person", "traffic light"]
    picture = Image.open(io.BytesIO(photo))
    shapes = function.detect(SimpleNamespace(conf_threshold=0.1), picture)
    assert shapes
    for shape in shapes:
        assert shape.type.value == "rectangle"
        assert shape.label_id in (0, 1)
