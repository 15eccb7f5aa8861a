"""The server's own pages: plain files that load nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from glip.serve.refusals import Refusal

PREFIX = "/page/"
OWN = Path(__file__).parent / "page"
SHARED = Path(__file__).parents[1] / "page"  # the page itself, which an exported model has too
FILES = {file.name: file for folder in (SHARED, OWN) for file in sorted(folder.iterdir())}
NO_CACHE = {"Cache-Control": "no-cache"}  # a new version is seen at once; unchanged ones cost a 304


def router() -> APIRouter:
    """`/`, `/docs` and what they are made of."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def index() -> FileResponse:
        return FileResponse(FILES["index.html"], headers=NO_CACHE)

    @routes.get("/docs")
    async def docs() -> FileResponse:
        return FileResponse(FILES["docs.html"], headers=NO_CACHE)

    @routes.get(PREFIX + "{name}")
    async def file(name: str) -> FileResponse:
        if name not in FILES:
            raise Refusal(404, "not_found", "Not Found")
        return FileResponse(FILES[name], headers=NO_CACHE)

    return routes
