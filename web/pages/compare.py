"""The page that puts batches of the same questions side by side, and its download."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from askmill.jobs.display.compare_view import summary_rows
from askmill.jobs.results import Format
from askmill.jobs.results.compare import Comparison, compared_rows, open_comparison, write_comparison
from askmill.jobs.store import Store
from askmill.jobs.store.views import RowView
from askmill.web.context import Server
from askmill.web.pages.render import redirect, render
from askmill.web.services.downloads import attachment

MAX_SIDES = 6
ROWS_PER_PAGE, READ_AT_ONCE = 50, 200
SUMMARISED_ROWS = 2000
"""Differences and accuracy of larger batches are counted in so many rows, spread evenly over them."""
SEARCH_S = 1.0
"""How long differing rows are looked for; the page then says from where to go on."""

router = APIRouter(include_in_schema=False)
Batches = Annotated[list[str], Query(alias="batch", max_length=MAX_SIDES)]


@router.get("/compare", response_model=None)
async def compare_page(
    request: Request,
    web: Server,
    batches: Batches = [],  # noqa: B006 -- FastAPI copies it
    after: Annotated[int, Query(ge=0, le=10**12)] = 0,
    differing: bool = False,
) -> Response:
    """The summary of each batch, and a page of rows, all or those that differ."""
    if len(set(batches)) < 2:
        return redirect(web, "/", "Choose two batches or more of the same questions to compare them.")
    comparison = await open_comparison(web.store, list(dict.fromkeys(batches)))
    rows = min(side.batch.rows for side in comparison.sides)
    streams = [web.store.sample(side.batch.id, SUMMARISED_ROWS, rows) for side in comparison.sides]
    async for views in _together(streams):
        comparison.row(views)
    header, *summary = summary_rows(comparison)
    values: dict[str, Any] = {
        "sides": comparison.sides,
        "header": header,
        "summary": summary,
        "matrices": [(side.name, matrix) for side in comparison.sides if (matrix := side.matrix())],
        "compared": comparison.rows,
        "differing_rows": comparison.differing,
        "all_rows": rows,
        "other_lengths": any(side.batch.rows != rows for side in comparison.sides),
        "judged": comparison.expected is not None,
    }
    lines, following = await _lines(web.store, comparison, after, only_differing=differing)
    return render(
        request, "compare.html", **values, rows=lines, following=following, after=after, only=differing
    )


async def _together(streams: Sequence[AsyncIterator[list[RowView]]]) -> AsyncIterator[tuple[RowView, ...]]:
    """The same rows of all batches; their samples have the same rows as far as the shortest goes."""
    while True:
        chunks = [await anext(stream, None) for stream in streams]
        present = [chunk for chunk in chunks if chunk is not None]
        if len(present) < len(streams):
            return
        for views in zip(*present, strict=False):
            yield views


async def _lines(
    store: Store, comparison: Comparison, after: int, *, only_differing: bool
) -> tuple[list[dict[str, Any]], int | None]:
    """Rows side by side behind row `after`, and the `after` of the next page; None at the end."""
    lines, loop = list[dict[str, Any]](), asyncio.get_running_loop()
    until, rows = loop.time() + SEARCH_S, min(side.batch.rows for side in comparison.sides)
    while after < rows:
        pages = [await store.rows_after(side.batch.id, after, READ_AT_ONCE) for side in comparison.sides]
        for views in zip(*(page.rows for page in pages), strict=False):
            line = _line(comparison, views)
            if not only_differing or line["differs"]:
                lines.append(line)
            after = views[0].row
            if len(lines) == ROWS_PER_PAGE:
                return lines, after if after < rows else None
        if loop.time() > until:
            return lines, after if after < rows else None
    return lines, None


def _line(comparison: Comparison, views: Sequence[RowView]) -> dict[str, Any]:
    values, width, count = comparison.row(views), comparison.columns.width, len(comparison.sides)
    fields = iter(values[width + 1 : -1])
    names = ("answer", *(("correct",) if comparison.expected else ()), "status", "cost_usd", "duration_s")
    by_name = {name: [next(fields) for _ in range(count)] for name in names}
    sides = [{name: by_name[name][side] for name in names} for side in range(count)]
    question = comparison.sides[0].batch.spec.question(values[:width])
    return {"row": values[width], "question": question, "sides": sides, "differs": values[-1]}


@router.get("/compare/results")
async def comparison_file(
    web: Server,
    batches: Batches,
    result_format: Annotated[Format, Query(alias="format")] = Format.CSV,
) -> Response:
    """The whole comparison as a file, which is written here first."""
    folder = Path(tempfile.mkdtemp(dir=web.uploads))
    try:
        comparison = await open_comparison(web.store, batches)
        rows = compared_rows(web.store, comparison)
        path = await write_comparison(comparison, rows, str(folder / f"comparison.{result_format}"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    assert path is not None
    return FileResponse(
        path,
        media_type="application/octet-stream",
        headers={"Content-Disposition": attachment(path.name)},
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )
