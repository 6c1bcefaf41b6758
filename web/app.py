"""The ASGI application: the API, the page, and what every response has in common."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from askmill.config.settings import BadSetting
from askmill.jobs.model.errors import AskmillError
from askmill.web.api import description, routes
from askmill.web.context import Web
from askmill.web.http.guard import Guard
from askmill.web.http.problems import Refused, problem_of
from askmill.web.pages import batches, compare, new_batch
from askmill.web.pages.render import environment, render

STATIC = Path(__file__).parent / "pages" / "static"
DESCRIPTION = """The batches of one askmill: submit files of questions, watch them, read the answers.

Send the access token as `Authorization: Bearer TOKEN`. Errors are problem details (RFC 9457)."""

log = structlog.get_logger()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    web: Web = app.state.web
    environment()
    workers = asyncio.create_task(web.workers.run(), name="workers")
    try:
        yield
    finally:
        workers.cancel()
        with suppress(asyncio.CancelledError):
            await workers


def create_app(web: Web) -> ASGIApp:
    """Return the application, with its guard around it."""
    app = FastAPI(
        title="askmill",
        version=version("askmill"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    app.state.web = web
    app.include_router(routes.router)
    app.include_router(batches.router)
    app.include_router(new_batch.router)
    app.include_router(compare.router)
    for kind in (
        Refused,
        AskmillError,
        BadSetting,
        click.ClickException,
        RequestValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, error_response)

    @cache
    def schema() -> dict[str, Any]:
        return _openapi(app, web.options.prefix)

    @app.get("/api/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(schema())

    @app.get("/api/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return render(request, "docs.html", **description.context(schema()))

    @app.get("/healthz", include_in_schema=False)
    async def health() -> Response:
        await web.store.newest_batch()
        return Response(status_code=204)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return Guard(app, web.options, str(web.uploads), lambda request, error: _refused(app, request, error))


def error_response(request: Request, error: Exception) -> Response:
    """Problem details for the API, a page for people."""
    problem = problem_of(error)
    if problem.status == 500:
        log.error("web.error", path=request.url.path, exc_info=error)
    path = request.url.path
    if path.startswith("/api/") or path in {"/api", "/healthz"}:
        return problem.response()
    template = "sign_in.html" if problem.status == 401 else "error.html"
    next_path = path + (f"?{request.url.query}" if request.url.query else "")
    return render(request, template, problem.status, problem=problem, next_path=next_path)


def _refused(app: FastAPI, request: Request, error: Exception) -> Response:
    request.scope["app"] = app
    return error_response(request, error)


def _openapi(app: FastAPI, prefix: str) -> dict[str, Any]:
    """The OpenAPI description, with the form of `POST /api/batches` after the options of `submit`."""
    schema = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=[{"url": prefix or "/"}],
    )
    return description.complete(schema)
