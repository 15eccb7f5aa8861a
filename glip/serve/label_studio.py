"""Label Studio's machine learning backend: pre-annotations for its projects.

Label Studio posts its tasks and the project's labelling configuration; the names of the labels are
what is looked for. Two attributes that its own backends know are read from that configuration:
`predicted_values="car,lorry"` of a Label names other words to look for, and
`model_score_threshold="0.5"` of RectangleLabels another threshold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from glip.config import PostprocessOptions
from glip.serve.api import Limit, departure
from glip.serve.fetch import ask_trusted
from glip.serve.options import LabelStudio, Limits
from glip.serve.pictures import ADDRESS, Picture
from glip.serve.refusals import Refusal
from glip.serve.service import Ask, Service
from glip.structures import Detections
from glip.text.prompt import Prompt

TOKEN_SECONDS = 120.0
"""How long an access token is used, which a new key is exchanged for; it lasts five minutes."""


@dataclass(frozen=True)
class Labelling:
    """What a project wants: which field of a task is the picture, and which labels are drawn."""

    picture: str
    from_name: str
    to_name: str
    label_of: Mapping[str, str]
    """Words to look for, and the label that their boxes get."""
    threshold: float | None

    @classmethod
    def read(cls, xml: object) -> Labelling:
        """From a labelling configuration.

        Raises:
            Refusal: It is none, or has no RectangleLabels on an Image.
        """
        if not isinstance(xml, str) or "<!" in xml.replace("<!--", ""):
            raise _bad("label_config must be the XML of a labelling configuration")
        try:
            root = ElementTree.fromstring(xml)
        except (ElementTree.ParseError, UnicodeError) as error:  # the latter of lone surrogates
            raise _bad("label_config is not valid XML") from error
        pictures = {one.get("name"): one.get("value", "") for one in root.iter("Image")}
        for control in root.iter("RectangleLabels"):
            target = control.get("toName", "")
            if target in pictures:
                return cls(
                    picture=pictures[target].removeprefix("$"),
                    from_name=control.get("name", ""),
                    to_name=target,
                    label_of=_label_of(control),
                    threshold=_threshold(control.get("model_score_threshold")),
                )
        raise _bad("the labelling configuration has no RectangleLabels for an Image")


def router(service: Service) -> APIRouter:
    """`/setup`, `/predict` and what else Label Studio asks of a backend."""
    routes = APIRouter(tags=["Label Studio"])
    backend = Backend(service)

    @routes.post("/setup", summary="A project wants to use this backend")
    async def setup(request: Request) -> JSONResponse:
        body = await _json(request)
        if body.get("schema"):
            backend.check(Labelling.read(body["schema"]))
        return JSONResponse({"model_version": backend.version})

    @routes.post("/predict", summary="Boxes for tasks")
    async def predict(request: Request) -> JSONResponse:
        with service.places(1):
            return JSONResponse(await backend.predict(request))

    @routes.post("/validate", summary="Whether a labelling configuration can be served")
    async def validate(request: Request) -> JSONResponse:
        body = await _json(request)
        backend.check(Labelling.read(body.get("config", body.get("label_config"))))
        return JSONResponse({"status": "ok"})

    @routes.get("/versions", summary="Which versions of the model there are")
    async def versions() -> JSONResponse:
        return JSONResponse({"versions": [backend.version]})

    @routes.post("/webhook", summary="News of a project, which change nothing here")
    async def webhook(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ignored"}, 201)

    return routes


class Backend:
    """Answers Label Studio with the base model of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = Limit(service.options.limits)
        self._studio = service.options.label_studio
        self._token: tuple[str, float] | None = None

    @property
    def version(self) -> str:
        """What Label Studio files predictions under."""
        detector = self._service.detector
        return f"{detector.config.name}-{detector.fingerprint[:8]}"

    def check(self, labelling: Labelling) -> Prompt:
        """The prompt of a project.

        Raises:
            Refusal: Too many or too long labels.
        """
        names = list(labelling.label_of)
        self._limit.text(*names)
        return self._limit.prompt(Prompt.from_classes(names))

    async def predict(self, request: Request) -> dict[str, Any]:
        """Predictions for tasks, in Label Studio's form."""
        body = await _json(request)
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise _bad("tasks must be a list of objects")
        labelling = Labelling.read(body.get("label_config"))
        prompt = self.check(labelling)
        limits = self._service.options.limits
        if len(tasks) > limits.max_pictures:
            raise Refusal(
                413,
                "too_many_pictures",
                f"{len(tasks)} tasks in one request; this server takes {limits.max_pictures}",
            )
        with self._service.places(max(0, len(tasks) - 1)):
            async with departure(request) as gone:
                pictures = await asyncio.gather(
                    *(self._picture(task, labelling.picture) for task in tasks)
                )
                detector = self._service.detector
                threshold = labelling.threshold
                options = PostprocessOptions(
                    score=detector.lowest_threshold if threshold is None else threshold,
                    exclusive=True,  # whoever labels wants one label for each thing
                )
                asks = [Ask(picture, prompt, detector, options, False) for picture in pictures]
                seen = await self._service.answer(asks, deadline=request.state.deadline, gone=gone)
        return {
            "results": [self._prediction(labelling, one.detections) for one in seen],
            "model_version": self.version,
        }

    def _prediction(self, labelling: Labelling, found: Detections) -> dict[str, Any]:
        height, width = found.image_hw
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.phrases, strict=True)
        results = [
            {
                "id": f"box{number}",
                "type": "rectanglelabels",
                "from_name": labelling.from_name,
                "to_name": labelling.to_name,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": score,
                "value": {
                    "x": 100 * x1 / width,
                    "y": 100 * y1 / height,
                    "width": 100 * (x2 - x1) / width,
                    "height": 100 * (y2 - y1) / height,
                    "rotation": 0,
                    "rectanglelabels": [labelling.label_of[phrase]],
                },
            }
            for number, ((x1, y1, x2, y2), score, phrase) in enumerate(rows)
        ]
        # The lowest score sorts the doubtful pictures to one end.
        return {
            "result": results,
            "score": min(found.scores.tolist(), default=0.0),
            "model_version": self.version,
        }

    async def _picture(self, task: Mapping[str, Any], field: str) -> Picture:
        """The picture of a task, fetched if it is Label Studio's own."""
        data = task.get("data")
        value = data.get(field) if isinstance(data, dict) else None
        if not isinstance(value, str):
            raise _bad(f"a task has no picture under data.{field[:60]}")
        name = f"task {task.get('id', '')}"
        url = self._own_address(value)
        if url is None:
            return Picture(value, name)
        return Picture(await asyncio.to_thread(self._fetch_own, url), name)

    def _own_address(self, value: str) -> str | None:
        """The address below Label Studio's, if a value means one there."""
        is_path = value.startswith("/") and not value.startswith("//")
        if self._studio is None:
            if is_path:
                raise Refusal(
                    422,
                    "address_failed",
                    "the picture lies in Label Studio: start this server with --label-studio URL",
                )
            return None
        base = urlsplit(self._studio.url)
        if is_path:
            return urljoin(self._studio.url, value)
        with contextlib.suppress(ValueError):  # brackets that hold no address: refused later on
            if ADDRESS.match(value) and urlsplit(value)[:2] == base[:2]:
                return value
        return None

    def _fetch_own(self, url: str) -> bytes:
        assert self._studio is not None
        limits = self._service.options.limits
        headers = self._authorization(self._studio, limits)
        return ask_trusted(url, headers=headers, max_bytes=limits.max_bytes, seconds=limits.seconds)

    def _authorization(self, studio: LabelStudio, limits: Limits) -> dict[str, str]:
        """Old keys are sent as they are; new ones are exchanged for short-lived tokens."""
        if studio.key is None:
            return {}
        if studio.key.count(".") != 2:
            return {"Authorization": f"Token {studio.key}"}
        if self._token is None or self._token[1] < time.monotonic():
            answer = ask_trusted(
                f"{studio.url}/api/token/refresh",
                headers={"Content-Type": "application/json"},
                body=json.dumps({"refresh": studio.key}).encode(),
                max_bytes=limits.max_bytes,
                seconds=limits.seconds,
            )
            try:
                access = str(json.loads(answer)["access"])
            except (ValueError, KeyError, TypeError) as error:
                raise Refusal(
                    422, "address_failed", "Label Studio gives no token for the key"
                ) from error
            self._token = access, time.monotonic() + TOKEN_SECONDS
        return {"Authorization": f"Bearer {self._token[0]}"}


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_json", "the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "bad_json", "the body must be a JSON object")
    return body


def _label_of(control: ElementTree.Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in control.iter("Label"):
        value = label.get("value", "")
        others = label.get("predicted_values")
        for word in [value] if others is None else others.split(","):
            if word.strip():
                found.setdefault(word.strip(), value)
    if not found:
        raise _bad("the labelling configuration has no labels")
    return found


def _threshold(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise _bad(f"model_score_threshold must lie between 0 and 1, got {text[:20]!r}")
    return value


def _bad(message: str) -> Refusal:
    return Refusal(422, "bad_option", message)
