"""The page: batches, a new batch, one batch with its rows. Rendered here; it works without scripts."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response, StreamingResponse

from askmill.jobs.display import status_text
from askmill.jobs.display.html_report import report_sections, sample_rows
from askmill.jobs.display.row_history import in_progress
from askmill.jobs.display.shards_text import shards_line
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.local.open_store import resolve_row
from askmill.jobs.model.errors import AskmillError, UsageError
from askmill.jobs.model.models import UNSUCCESSFUL, BatchState, JobStatus
from askmill.jobs.results import Format
from askmill.jobs.results.collect import additions_of
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import RowView, StatusView
from askmill.jobs.submit import control
from askmill.jobs.submit.cleanup import purge_batch
from askmill.web.context import Server, Web
from askmill.web.http.guard import is_https, set_session
from askmill.web.http.problems import Problem, Refused, problem_of
from askmill.web.pages.render import redirect, render, render_text
from askmill.web.services import batches
from askmill.web.services.batches import newest_batches
from askmill.web.services.rows import row_summary, search, search_page

BATCHES_PER_PAGE, ROWS_PER_PAGE, SEARCH_ROWS = 50, 50, 200
MAX_FRAGMENTS = 100
CHARTED_ROWS = 5000
"""A larger batch has charts of a sample, because a click may not read a million rows."""
SHOWN_CHARACTERS = 400
"""Of a question or answer in the table of rows."""

router = APIRouter(include_in_schema=False)


@router.get("/login")
async def sign_in_page(request: Request) -> Response:
    """Ask for the access token."""
    return render(request, "sign_in.html", problem=None, next_path="/")


@router.post("/login")
async def sign_in(
    request: Request, web: Server, token: Annotated[str, Form()], next_path: Annotated[str, Form()] = "/"
) -> Response:
    """Change the token for a cookie."""
    if not secrets.compare_digest(token.strip().encode(), web.options.token.encode()):
        wrong = Problem(401, "Wrong token", "That is not the access token of this server.")
        return render(request, "sign_in.html", 401, problem=wrong, next_path=next_path)
    response = redirect(web, "/" + next_path.lstrip("/\\"))
    set_session(response, web.options, secure=is_https(request))
    return response


@router.get("/")
async def batches_page(
    request: Request,
    web: Server,
    after: Annotated[int, Query(ge=0, le=10**9)] = 0,
    note: str = "",
    compared: Annotated[str, Query(alias="compare", max_length=100)] = "",
) -> Response:
    """The batches of this Redis, the newest first. `compare` is the batch to compare another one with."""
    views, following, total = await newest_batches(web, after, BATCHES_PER_PAGE)
    return render(
        request,
        "batches.html",
        views=views,
        total=total,
        after=after,
        following=following,
        compared=compared,
        note=web.notes.pop(note, ""),
        finished_rows=status_text.finished_rows,
        failed=_unsuccessful,
    )


def _unsuccessful(view: StatusView) -> int:
    return sum(view.counts.by_status[status] for status in UNSUCCESSFUL)


@dataclass(frozen=True)
class RowQuery:
    """Which rows of a batch the page shows."""

    status: str = ""
    search: str = ""
    after: int = 0
    before: int | None = None

    @property
    def statuses(self) -> frozenset[JobStatus] | None:
        """The statuses. Raises UsageError."""
        try:
            return frozenset({JobStatus(self.status)}) if self.status else None
        except ValueError:
            raise UsageError(f"{self.status[:40]!r} is not a status.") from None

    def url(self, **changed: Any) -> str:
        """The query of the same page with some parameters changed."""
        values = {"status": self.status, "search": self.search, **changed}
        pairs = {name: value for name, value in values.items() if value not in (None, "", 0)}
        return "?" + urlencode(pairs) if pairs else "?"


@router.get("/batches/{batch}")
async def batch_page(  # noqa: PLR0913, PLR0917 -- query parameters
    request: Request,
    web: Server,
    batch: str,
    status: str = "",
    search: Annotated[str, Query(max_length=1000)] = "",
    after: Annotated[int, Query(ge=0, le=10**12)] = 0,
    before: Annotated[int | None, Query(ge=1, le=10**12)] = None,
    row: Annotated[str, Query(max_length=1000)] = "",
    view: str = "rows",
    note: str = "",
) -> Response:
    """One batch: its progress, its rows or its charts, and the panel of one row."""
    query = RowQuery(status, search.strip(), after, before)
    found = await web.status(batch)
    values: dict[str, Any] = {"query": query, "charts": None, "rows": [], "row": None}
    if view == "charts":
        judge = additions_of(found.batch).judge
        stats = await sample_rows(found, web.store.sample(batch, CHARTED_ROWS), judge)
        values["charts"] = report_sections(found, stats)
    else:
        values |= await _rows(web, found.batch, query)
        if row:
            values["row"] = await _row(web, found.batch, await resolve_row(web.store, found.batch, row))
    values |= _live_values(web, found) | {"formats": list(Format), "note": web.notes.pop(note, "")}
    template = "rows.html" if request.headers.get("x-fragment") == "rows" else "batch.html"
    return render(request, template, **values)


async def _rows(web: Web, batch: Batch, query: RowQuery) -> dict[str, Any]:
    """The page's rows, and the keys of the pages before and behind it."""
    searched = None
    if query.search:
        wanted = (batch.id, query.search, query.after, query.statuses)
        views, following, searched = await search_page(web.store, wanted, ROWS_PER_PAGE)
        previous = None
    elif query.before is not None:
        page = await web.store.rows_before(batch.id, query.before, ROWS_PER_PAGE, query.statuses)
        views, previous = page.rows, page.rows[0].row if page.more else None
        following = page.rows[-1].row if page.rows else None
    else:
        page = await web.store.rows_after(batch.id, query.after, ROWS_PER_PAGE, query.statuses)
        views, following = page.rows, page.rows[-1].row if page.more else None
        previous = page.rows[0].row if query.after and page.rows else None
    return {
        "batch": batch,
        "rows": [_line(batch, view) for view in views],
        "following": following,
        "previous": previous,
        "searched": searched,
    }


def _line(batch: Batch, view: RowView) -> dict[str, Any]:
    """A row of the table, its texts cut."""
    summary = row_summary(batch, view)
    for name in ("question", "answer", "error"):
        text = str(summary[name] or "")
        summary[name] = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    own_id = batch.spec.cell(batch.spec.id_column, view.cells)
    return {**summary, "own_id": own_id}


async def _row(web: Web, batch: Batch, row: int) -> dict[str, Any]:
    """The panel of a row."""
    detail = await web.store.row(batch.id, row)
    result, state = detail.view.result, in_progress(detail)
    judge = additions_of(batch).judge
    verdict = judge and judge(detail.view.cells, detail.view.status, detail.view.stored or {})
    cells = list(zip(batch.spec.columns, detail.view.cells, strict=False))
    return {
        "number": row,
        "view": detail.view,
        "result": result,
        "question": batch.spec.question(detail.view.cells),
        "cells": cells,
        "expected": batch.spec.cell(batch.expected.column, detail.view.cells) if batch.expected else "",
        "verdict": verdict,
        "detail": detail,
        "state": state,
    }


def _live_values(web: Web, view: StatusView) -> dict[str, Any]:
    """What the part of the page shows that changes by itself."""
    batch = view.batch
    going = batch.state in {BatchState.QUEUED, BatchState.RUNNING}
    own_worker = going and not view.workers and web.workers.serves(batch.id)
    fault = web.workers.faults.get(batch.id, "")
    stall = "" if own_worker and not view.write_refusal else stall_reason(view)
    return {
        "batch": batch,
        "view": view,
        "counts": view.counts.by_status,
        "finished": status_text.finished_rows(view),
        "failed": _unsuccessful(view),
        "starting": own_worker and not fault,
        "advice": [line for line in (fault, stall) if line],
        "left": status_text.format_time_left(view.time_left) if view.time_left else "",
        "lines": [
            line
            for line in (
                status_text.anomalies_line(view),
                shards_line(view),
                status_text.fault_line(view),
                status_text.waiting_line(view),
            )
            if line
        ],
    }


@router.get("/batches/{batch}/rows/{row}")
async def row_panel(request: Request, web: Server, batch: str, row: int) -> Response:
    """The panel of a row alone, for the script."""
    found = await web.store.batch(batch)
    return render(request, "row.html", batch=found, row=await _row(web, found, row), query=RowQuery())


@router.get("/batches/{batch}/live")
async def live(request: Request, web: Server, batch: str) -> Response:
    """Server-sent events: the part of the page that changes, as markup, rendered once for all viewers."""
    await web.store.batch(batch)
    stream = web.live.events(batch, lambda view: _fragment(request, web, view))
    return StreamingResponse(stream, media_type="text/event-stream")


def _fragment(request: Request, web: Web, view: StatusView) -> bytes:
    """The event's data; viewers of the same view share it."""
    shown, data = web.fragments.get(view.batch.id, (None, b""))
    if shown is not view:
        html = render_text(request, "live.html", **_live_values(web, view))
        counts = {status.value: rows for status, rows in view.counts.by_status.items()}
        data = orjson.dumps({"html": html, "state": view.batch.state, "counts": counts})
        web.fragments[view.batch.id] = (view, data)
        while len(web.fragments) > MAX_FRAGMENTS:
            web.fragments.pop(next(iter(web.fragments)))
    return data


@router.get("/batches/{batch}/search")
async def search_stream(
    request: Request,
    web: Server,
    batch: str,
    search_text: Annotated[str, Query(alias="search", min_length=1, max_length=1000)],
    status: str = "",
    after: Annotated[int, Query(ge=0, le=10**12)] = 0,
) -> Response:
    """A search as lines of JSON: how far it is, and each row as markup."""
    query = RowQuery(status, search_text)
    statuses, found = query.statuses, await web.store.batch(batch)

    async def lines() -> AsyncIterator[bytes]:
        count = 0
        async for step in search(web.store, batch, search_text, after, statuses):
            views = step.rows[: SEARCH_ROWS - count]
            count += len(views)
            rows = [_line(found, view) for view in views]
            html = render_text(request, "row_lines.html", batch=found, rows=rows, query=query) if rows else ""
            full = count >= SEARCH_ROWS
            last = views[-1].row if full else step.searched
            progress = {"searched": last, "of": found.rows, "html": html, "count": count, "full": full}
            yield orjson.dumps(progress, option=orjson.OPT_APPEND_NEWLINE)
            if full:
                return

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.post("/batches/{batch}/{action}")
async def change(
    web: Server,
    batch: str,
    action: str,
    status: Annotated[str, Form()] = "",
    confirmed: Annotated[str, Form()] = "",
) -> Response:
    """Pause, resume, cancel, retry or delete, and go back to the page with the sentence of the command."""
    found = await web.store.batch(batch)
    try:
        if action == "delete" and confirmed:
            return redirect(web, "/", await purge_batch(web.store, found, web.settings))
        note = (await _change(web, found, action, status)).message
    except (AskmillError, Refused) as error:
        note = problem_of(error).detail
    return redirect(web, f"/batches/{quote(batch)}", note)


async def _change(web: Web, batch: Batch, action: str, status: str) -> control.Changed:
    match action:
        case "pause":
            return await control.pause(web.store, batch)
        case "resume":
            return await batches.resume(web, batch)
        case "cancel":
            return await control.cancel(web.store, batch, web.settings)
        case "retry":
            return await batches.retry(web, batch, status)
        case _:
            raise Refused(404, "Not found", "There is no such action.")
