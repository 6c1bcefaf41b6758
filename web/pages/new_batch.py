"""The page of a new batch: choose a file, see what is in it and what it would cost, submit it."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from askmill.jobs.model.errors import AskmillError
from askmill.jobs.model.expected import Match
from askmill.web.context import Server, Web
from askmill.web.http.problems import Refused, problem_of
from askmill.web.pages.render import redirect, render
from askmill.web.services.batches import check_form, submit_form
from askmill.web.uploads.forms import fill_form, form_options, read_form

GROUPS = ("Questions", "Assistant", "Limits and money", "Output", "Input", "Running")
"""In the order of the form; others come behind them."""

router = APIRouter(include_in_schema=False)


@router.get("/new")
async def new_page(request: Request) -> Response:
    """Choose a file."""
    return render(request, "new.html", problem=None)


@router.post("/new")
async def upload(request: Request, web: Server) -> Response:
    """Keep the upload, and show what is in it."""
    try:
        form = await read_form(request, web.uploads)
    except (AskmillError, Refused) as error:
        problem = problem_of(error)
        return render(request, "new.html", problem.status, problem=problem)
    return redirect(web, f"/new/{web.drafts.add(form)}")


@router.get("/new/{draft}")
async def draft_page(request: Request, web: Server, draft: str) -> Response:
    """What is in the file, and what its batch would cost."""
    return await _draft(request, web, draft)


@router.post("/new/{draft}")
async def submit_draft(request: Request, web: Server, draft: str) -> Response:
    """Check the file with other options, or submit it."""
    form = web.drafts.get(draft)
    await fill_form(form, request)
    action = form.fields.pop("action", ["check"])[-1]
    if action != "submit":
        return await _draft(request, web, draft)
    try:
        accepted = await submit_form(web, form)
    except Exception as error:  # noqa: BLE001 -- the page shows it beside the form
        return await _draft(request, web, draft, error)
    web.drafts.discard(draft)
    notes = [note for note in accepted.notes if not note.startswith("Asks ")]
    return redirect(web, f"/batches/{accepted.submitted.batch}", "\n".join(notes))


async def _draft(request: Request, web: Web, draft: str, error: Exception | None = None) -> Response:
    form = web.drafts.get(draft)
    checked = None
    if error is None:
        try:
            checked = await check_form(web, form)
        except Exception as fault:  # noqa: BLE001 -- as above
            error = fault
    problem = None if error is None else problem_of(error)
    groups: dict[str, list[Any]] = {group: [] for group in GROUPS}
    for option in form_options():
        groups.setdefault(getattr(option, "group", ""), []).append(option)
    fields = {name: values[-1] for name, values in form.fields.items()}
    return render(
        request,
        "draft.html",
        200 if problem is None else problem.status,
        draft=draft,
        form=form,
        fields=fields,
        groups={group: options for group, options in groups.items() if options},
        checked=checked,
        problem=problem,
        functions=web.options.functions,
        matches=list(Match),
    )
