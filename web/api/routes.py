"""The HTTP API under /api. Each route calls the use case of the command with the same name."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Form, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from askmill.jobs.display.row_history import row_json
from askmill.jobs.local.open_store import resolve_row
from askmill.jobs.model.errors import NotFound, UsageError
from askmill.jobs.options.statuses import parse_statuses
from askmill.jobs.results import Format
from askmill.jobs.submit import control
from askmill.jobs.submit.cleanup import purge_batch
from askmill.web.api.models import (
    Batches,
    Change,
    ProblemDetails,
    Row,
    Rows,
    Status,
    SubmittedBatch,
)
from askmill.web.context import Server
from askmill.web.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from askmill.web.http.problems import Refused
from askmill.web.services import batches
from askmill.web.services.batches import newest_batches, submit_form
from askmill.web.services.downloads import IMAGE_TYPES, MEDIA_TYPES, generated_file, results
from askmill.web.services.rows import MAX_ROWS, row_summary, search_lines, search_page
from askmill.web.uploads.forms import read_form

BYTES = {"schema": {"type": "string", "format": "binary"}}
RESULT_TYPES = {kind.partition(";")[0]: BYTES for kind in MEDIA_TYPES.values()}
FILE_TYPES = dict.fromkeys(
    (*sorted(set(IMAGE_TYPES.values())), "image/webp", "application/octet-stream"), BYTES
)
NDJSON, EVENTS = "application/x-ndjson", "text/event-stream"
BatchId = Annotated[str, Path(description="Id of a batch, such as `b_7hq2m9`.", max_length=100)]
RowId = Annotated[str, Path(description="Number of the row, or its own id.", max_length=1000)]
Statuses = Annotated[
    str | None, Query(alias="status", description="Only rows with these statuses, such as `failed,expired`.")
]
After = Annotated[int, Query(ge=0, le=10**12, description="Only rows behind this one.")]


def problem(description: str) -> dict[str, Any]:
    """A response with problem details, for OpenAPI."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {"description": description, "model": ProblemDetails, "content": content}


COMMON: dict[int | str, dict[str, Any]] = {
    400: problem("The header `Host` has a name that this server does not answer to."),
    401: problem("The access token is missing or wrong."),
    422: problem("A parameter or option is wrong; nothing was changed."),
    503: problem("Redis or the API does not answer."),
}
CHANGES: dict[int | str, dict[str, Any]] = {403: problem("The request comes from another origin.")}
GONE: dict[int | str, dict[str, Any]] = {404: problem("There is no such batch or row.")}

router = APIRouter(prefix="/api", responses=COMMON)


class Json(Response):
    """JSON by orjson, which takes the stored steps as they are."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def submitted_json(accepted: Any, rows: int, state: str) -> dict[str, Any]:
    """What `POST /api/batches` answers."""
    return {
        "batch": accepted.submitted.batch,
        "created": accepted.created,
        "state": state,
        "rows": rows,
        "notes": accepted.notes,
    }


@router.post(
    "/batches",
    summary="Submit a file",
    status_code=201,
    response_model=SubmittedBatch,
    responses={
        200: {"description": "The batch of the same file and options.", "model": SubmittedBatch},
        **CHANGES,
        413: problem("The upload is larger than `--max-upload`."),
        507: problem("The upload does not fit on the disk."),
        422: problem("The file has faults, or an option is wrong; nothing was submitted."),
    },
)
async def submit_batch(
    request: Request,
    web: Server,
    idempotency_key: Annotated[
        str | None, Header(max_length=256, description="The same as the option `idempotency_key`.")
    ] = None,
) -> Response:
    """Submit a file of questions: `file` is the upload, the other fields are the options of `askmill submit`.

    Answers 201 with a new batch, or 200 with the batch of the same file, options and `Idempotency-Key`.
    """
    form = await read_form(request, web.uploads)
    try:
        if idempotency_key is not None:
            form.fields["idempotency_key"] = [idempotency_key]
        accepted = await submit_form(web, form)
    finally:
        form.discard()
    batch = await web.store.batch(accepted.submitted.batch)
    body = submitted_json(accepted, batch.rows, batch.state)
    location = f"{web.options.prefix}/api/batches/{batch.id}"
    return Json(body, 201 if accepted.created else 200, {"Location": location})


@router.get("/batches", summary="List batches", response_model=Batches)
async def list_batches(
    web: Server,
    after: Annotated[int, Query(ge=0, le=10**9, description="How many batches to leave out.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
) -> Response:
    """List the batches of this Redis, the newest first."""
    views, following, _ = await newest_batches(web, after, limit)
    return Json({"batches": [view.to_json() for view in views], "next": following})


@router.get("/batches/{batch}", summary="Progress of a batch", response_model=Status, responses=GONE)
async def batch_status(web: Server, batch: BatchId) -> Response:
    """Return what `askmill status --json` prints."""
    return Json((await web.status(batch)).to_json())


@router.get(
    "/batches/{batch}/rows",
    summary="Rows of a batch",
    response_model=Rows,
    responses={**GONE, 200: {"description": "Rows", "content": {NDJSON: {"schema": {"type": "string"}}}}},
)
async def list_rows(  # noqa: PLR0913, PLR0917 -- query parameters
    web: Server,
    request: Request,
    batch: BatchId,
    status: Statuses = None,
    search: Annotated[
        str | None, Query(max_length=1000, description="Text in the cells, the answer or the error.")
    ] = None,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
) -> Response:
    """Return rows in file order. The next page is behind the row `next`.

    A search reads for two seconds at most and says in `next` where to go on. With
    `Accept: application/x-ndjson` it streams: progress as `{"searched":n,"of":n}`, then each row.
    """
    statuses = parse_statuses(status)
    found = await web.store.batch(batch)
    if search and NDJSON in request.headers.get("accept", ""):
        lines = search_lines(web.store, found, (search, after, statuses), limit)
        return StreamingResponse(lines, media_type=NDJSON)
    searched = None
    if search:
        views, following, searched = await search_page(web.store, (batch, search, after, statuses), limit)
    else:
        page = await web.store.rows_after(batch, after, limit, statuses)
        views, following = page.rows, page.rows[-1].row if page.more else None
    return Json(
        {"rows": [row_summary(found, view) for view in views], "next": following, "searched": searched}
    )


@router.get("/batches/{batch}/rows/{row}", summary="One row", response_model=Row, responses=GONE)
async def one_row(web: Server, batch: BatchId, row: RowId) -> Response:
    """Return the row with its steps and runs, as `askmill show --json` prints it."""
    found = await web.store.batch(batch)
    return Json(row_json(found, await web.store.row(batch, await resolve_row(web.store, found, row))))


@router.get(
    "/batches/{batch}/rows/{row}/files/{number}",
    summary="A file that a run generated",
    response_class=Response,
    responses={**GONE, 200: {"description": "The file.", "content": FILE_TYPES}},
)
async def row_file(
    web: Server, batch: BatchId, row: RowId, number: Annotated[int, Path(ge=0, le=10**6)]
) -> Response:
    """Download a generated file."""
    found = await web.store.batch(batch)
    return await generated_file(web.store, found, await resolve_row(web.store, found, row), number)


@router.get(
    "/batches/{batch}/results",
    summary="Download the results",
    response_class=StreamingResponse,
    responses={**GONE, 200: {"description": "The results.", "content": RESULT_TYPES}},
)
async def download_results(
    web: Server,
    batch: BatchId,
    result_format: Annotated[Format, Query(alias="format")] = Format.CSV,
    status: Statuses = None,
    columns: Annotated[
        str | None, Query(max_length=10_000, description="Columns, such as `id,answer`.")
    ] = None,
    spreadsheet_safe: Annotated[
        bool, Query(description="Prefix cells that a spreadsheet would run as a formula.")
    ] = False,
) -> Response:
    """Download the results, complete or partial, as a stream."""
    options = {"columns": columns, "spreadsheet_safe": spreadsheet_safe, "form": result_format.value}
    return await results(web.store, await web.store.batch(batch), options, parse_statuses(status))


@router.get(
    "/batches/{batch}/events",
    summary="Progress as it happens",
    response_class=StreamingResponse,
    responses={**GONE, 200: {"description": "Events `status`, then `end`.", "content": {EVENTS: {}}}},
)
async def events(web: Server, batch: BatchId) -> Response:
    """Server-sent events: `status` with the progress at each change, and `end` when the batch is done.

    Each event has the whole progress, so a client that reconnects has missed nothing.
    """
    await web.store.batch(batch)
    stream = web.live.events(batch, lambda view: orjson.dumps(view.to_json()))
    return StreamingResponse(stream, media_type=EVENTS)


ControlResponses = {**GONE, **CHANGES}


@router.post("/batches/{batch}/pause", summary="Pause", response_model=Change, responses=ControlResponses)
async def pause(web: Server, batch: BatchId) -> Response:
    """Start no more runs; those in flight end."""
    return Json((await control.pause(web.store, await web.store.batch(batch)))._asdict())


@router.post("/batches/{batch}/resume", summary="Resume", response_model=Change, responses=ControlResponses)
async def resume(web: Server, batch: BatchId) -> Response:
    """Resume a paused batch."""
    return Json((await batches.resume(web, await web.store.batch(batch)))._asdict())


@router.post("/batches/{batch}/cancel", summary="Cancel", response_model=Change, responses=ControlResponses)
async def cancel(web: Server, batch: BatchId) -> Response:
    """Cancel the queued and running rows; finished rows stay."""
    changed = await control.cancel(web.store, await web.store.batch(batch), web.settings)
    return Json(changed._asdict())


@router.post("/batches/{batch}/retry", summary="Retry", response_model=Change, responses=ControlResponses)
async def retry(
    web: Server,
    batch: BatchId,
    status: Annotated[str | None, Form(description="Statuses of the rows, such as `failed`.")] = None,
    attempts: Annotated[int | None, Form(ge=1, le=1000, description="Additional runs per row.")] = None,
) -> Response:
    """Ask the rows again that did not complete."""
    return Json((await batches.retry(web, await web.store.batch(batch), status, attempts))._asdict())


@router.delete(
    "/batches/{batch}",
    summary="Delete",
    response_model=Change,
    responses={**ControlResponses, 409: problem("Rows of the batch are still active: cancel it first.")},
)
async def purge(web: Server, batch: BatchId) -> Response:
    """Delete the batch, and what it created at the API."""
    found = await web.store.batch(batch)
    try:
        message = await purge_batch(web.store, found, web.settings)
    except NotFound:
        raise
    except UsageError as active:
        raise Refused(409, "Still active", str(active)) from None
    return Json({"changed": True, "message": message})
