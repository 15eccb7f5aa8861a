"""`/v1`: detect, ground, and what model this is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.serve.options import Limits
from glip.serve.refusals import Refusal
from glip.serve.service import Ask, Seen, Service
from glip.serve.wire import (
    FORM,
    SCHEMAS,
    Answer,
    Asked,
    DetectQuestion,
    Error,
    GroundAnswer,
    GroundQuestion,
    Question,
    answer,
    by_phrase,
    data_url,
    png,
    read_request,
)
from glip.text.prompt import Prompt
from glip.version import __version__
from glip.visualize import page_colours

REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": Error} for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
}


@dataclass(frozen=True)
class Limit:
    """Checks of what a prompt may cost."""

    limits: Limits

    def text(self, *texts: str) -> None:
        """Refuse texts of too many letters, before anything reads them."""
        letters = sum(map(len, texts))
        if letters > self.limits.max_letters:
            raise Refusal(
                413,
                "long_prompt",
                f"the prompt has {letters:,} letters, this server takes "
                f"{self.limits.max_letters:,}",
            )

    def prompt(self, prompt: Prompt) -> Prompt:
        """The prompt, if it does not name too much."""
        if len(prompt) > self.limits.max_names:
            raise Refusal(
                413,
                "too_many_names",
                f"the prompt has {len(prompt)} names, this server takes {self.limits.max_names}; "
                "ask in several requests",
            )
        return prompt


def router(service: Service) -> APIRouter:
    """The routes of a service."""
    routes = APIRouter(prefix="/v1")
    check = Limit(service.options.limits)

    @routes.post(
        "/detect",
        summary="Boxes for names or the phrases of a text",
        responses={200: {"model": Answer | list[Answer]}, **REFUSED},
        openapi_extra=_body("DetectBody"),
    )
    async def detect(request: Request) -> Response:
        with service.places(1):
            asked, question = await read_request(request, DetectQuestion, service.options.limits)
            with service.places(len(asked.pictures) - 1):
                detector = service.task(question.task)
                prompts = await service.in_thread(
                    partial(_prompts, question, len(asked.pictures), detector, check)
                )
                asks = _asks(asked, question, prompts, detector)
                return await _answered(request, service, asks, asked.several, question)

    @routes.post(
        "/ground",
        summary="Boxes for the phrases of a sentence, phrase by phrase",
        responses={200: {"model": GroundAnswer | list[GroundAnswer]}, **REFUSED},
        openapi_extra=_body("GroundBody"),
    )
    async def ground(request: Request) -> Response:
        with service.places(1):
            asked, question = await read_request(request, GroundQuestion, service.options.limits)
            with service.places(len(asked.pictures) - 1):
                prompt = await service.in_thread(partial(_caption, question, check))
                asks = _asks(asked, question, [prompt] * len(asked.pictures), service.detector)
                return await _answered(
                    request, service, asks, asked.several, question, phrases=True
                )

    @routes.get("/model", summary="The model, its tasks, and the limits of this server")
    async def model() -> JSONResponse:
        return JSONResponse(described(service))

    return routes


def _body(schema: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": reference, FORM: reference},
        }
    }


def request_schemas() -> dict[str, Any]:
    """Schemas of the bodies, which routes read themselves, for the OpenAPI description."""
    schemas: dict[str, Any] = {}
    for model in SCHEMAS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return schemas


def described(service: Service) -> dict[str, Any]:
    """What `/v1/model` says."""
    detector, limits = service.detector, service.options.limits
    return {
        "version": __version__,
        "model": detector.config.name,
        "fingerprint": detector.fingerprint,
        "device": str(detector.device),
        "dtype": str(detector.dtype).removeprefix("torch."),
        "threshold": detector.lowest_threshold,
        "short_side": detector.config.pixels.short_side,
        "long_side": detector.config.pixels.long_side,
        "colours": page_colours(),
        "tasks": {name: list(task.task.names) for name, task in service.tasks.items() if task.task},
        "limits": {**vars(limits), "urls": service.options.urls},
    }


def _prompts(
    question: DetectQuestion, count: int, detector: Detector, check: Limit
) -> list[Prompt]:
    """The prompt of each picture.

    Raises:
        Refusal: Not exactly one way of asking, or too much of it.
        PromptError: It names nothing.
    """
    ways = [question.prompt, question.classes, question.prompts]
    given = [way for way in ways if way is not None]
    if not given and detector.task is not None:
        return [check.prompt(detector.task.prompt)] * count
    if len(given) != 1:
        raise Refusal(
            422,
            "bad_option",
            "say what to look for in one way: prompt, classes or prompts"
            + ("" if given else ", or a task of this server"),
        )
    if question.prompts is None:
        text = question.prompt
        return [_prompt(question.classes or [] if text is None else text, check)] * count
    if len(question.prompts) != count:
        raise Refusal(
            422,
            "bad_option",
            f"got {len(question.prompts)} prompts for {count} pictures; send one for each, or one "
            "for all as prompt or classes",
        )
    return [_prompt(one, check) for one in question.prompts]


def _prompt(asked: str | list[str], check: Limit) -> Prompt:
    check.text(*([asked] if isinstance(asked, str) else asked))
    return check.prompt(Prompt.of(asked))


def _caption(question: GroundQuestion, check: Limit) -> Prompt:
    check.text(question.caption, *(question.phrases or ()))
    if question.phrases is None:
        return check.prompt(Prompt.of(question.caption))
    return check.prompt(Prompt.from_caption(question.caption, question.phrases))


def _asks(
    asked: Asked, question: Question, prompts: Sequence[Prompt], detector: Detector
) -> list[Ask]:
    fitted = question.threshold is None
    options = PostprocessOptions(
        score=detector.lowest_threshold if question.threshold is None else question.threshold,
        nms=question.nms,
        max_detections=question.max_detections,
        aggregate=question.aggregate,
        exclusive=question.exclusive,
    )
    return [
        Ask(picture, prompt, detector, options, fitted)
        for picture, prompt in zip(asked.pictures, prompts, strict=True)
    ]


async def _answered(
    request: Request,
    service: Service,
    asks: Sequence[Ask],
    several: bool,
    question: Question,
    *,
    phrases: bool = False,
) -> Response:
    """The answer in JSON, or for one picture as that picture if `image/png` is preferred."""
    as_picture = request.headers.get("accept", "").startswith("image/png")
    if as_picture and several:
        raise Refusal(
            422, "bad_option", "image/png is one picture; ask for JSON with annotated instead"
        )
    async with departure(request) as gone:
        seen = await service.answer(asks, deadline=request.state.deadline, gone=gone)
        if as_picture:
            return Response(await _drawn(service, seen[0]), media_type="image/png")
        records = []
        for ask, one in zip(asks, seen, strict=True):
            record = answer(ask.picture.name, one.detections)
            if phrases:
                record["phrases"] = by_phrase(one.detections)
            if question.annotated:
                record["annotated"] = data_url(await _drawn(service, one))
            records.append(record)
    return JSONResponse(records if several else records[0])


async def _drawn(service: Service, seen: Seen) -> bytes:
    return await service.in_thread(lambda: png(service.draw(seen)))


@contextlib.asynccontextmanager
async def departure(request: Request) -> AsyncIterator[asyncio.Future[Any]]:
    """Done once whoever sent a request, whose body was read, has gone."""
    gone = asyncio.ensure_future(request.receive())
    try:
        yield gone
    finally:
        gone.cancel()
