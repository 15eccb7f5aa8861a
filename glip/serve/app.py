"""The application: all routes behind their guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glip.detector import Detector
from glip.errors import GlipError
from glip.serve import api, label_studio, site
from glip.serve.guard import Guard
from glip.serve.options import ServeOptions
from glip.serve.refusals import Refusal, refusal_of
from glip.serve.service import Service
from glip.version import __version__

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN = ("/", "/docs", "/openapi.json", "/health", "/ready")
"""Answered without a key: they tell nothing about anybody's pictures."""


def build_app(
    detector: Detector,
    tasks: Mapping[str, Detector] | None = None,
    options: ServeOptions | None = None,
) -> FastAPI:
    """A server around a detector, for uvicorn or any other ASGI host.

    Args:
        detector: The model; from now on only the server may use it.
        tasks: Detectors of learned prompts on the same model (`Detector.with_prompt`), by name.
        options: Limits and doors; what they say of weights and addresses is not looked at.
    """
    options = options or ServeOptions()
    service = Service(detector, tasks or {}, options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="glip",
        version=__version__,
        description="Boxes for words.",
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(api.router(service))
    app.include_router(_state_routes(service))
    app.include_router(label_studio.router(service))
    app.include_router(site.router())
    app.add_exception_handler(GlipError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_http)
    _describe_bodies(app)
    paths = {*OPEN, *app.openapi()["paths"]}
    app.add_middleware(
        Guard,
        limits=options.limits,
        metrics=service.metrics,
        api_key=options.api_key,
        is_open=lambda path: path in OPEN or path.startswith(site.PREFIX),
        is_known=paths.__contains__,
    )
    if options.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
        )
    return app


def _state_routes(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health", summary="Whether the process lives")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "UP", "model_class": service.detector.config.name})

    @routes.get("/ready", summary="Whether requests are answered now")
    async def ready() -> JSONResponse:
        state = service.is_ready
        return JSONResponse({"ready": state}, 200 if state else 503)

    @routes.get("/metrics", summary="Counters for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=METRICS_TYPE)

    return routes


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, GlipError)
    return refusal_of(error).response()


async def _refuse_http(request: Request, error: Exception) -> Response:
    """Answers of the framework itself, in our form."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "wrong_method", 400: "bad_request"}
    response = Refusal(
        error.status_code, codes.get(error.status_code, "refused"), str(error.detail)
    ).response()
    response.headers.update(error.headers or {})
    return response


def _describe_bodies(app: FastAPI) -> None:
    """Adds to the OpenAPI description what routes read by themselves."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {}).setdefault("schemas", {}).update(api.request_schemas())
        return schema

    app.openapi = described  # type: ignore[method-assign]
