"""What the page and the HTTP API do alike: check, estimate and submit an upload; list, resume, retry."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

from askmill.jobs.intake import Intake
from askmill.jobs.model.api_target import Target, api_target, check_connection_settings
from askmill.jobs.model.errors import InputFaults, UsageError
from askmill.jobs.model.models import as_text
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.options.request import estimates_of, submit_request
from askmill.jobs.options.statuses import parse_retried
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import StatusView
from askmill.jobs.submit import control
from askmill.jobs.submit.check import checked
from askmill.jobs.submit.request import SubmitRequest
from askmill.jobs.submit.submit import Submitted, existing_text, submit
from askmill.jobs.submit.tier_estimates import TierEstimate, tier_estimates
from askmill.web.context import Web
from askmill.web.uploads.forms import Form, option_values

SAMPLE_ROWS = 3


@dataclass(frozen=True)
class Accepted:
    """A submitted batch. `notes` are what the command line prints while it submits."""

    submitted: Submitted
    notes: list[str]

    @property
    def created(self) -> bool:
        return self.submitted.existing is None


@dataclass(frozen=True)
class Checked:
    """What a file holds and what its batch would cost.

    `rows` are those to submit, `rejected` those that are skipped; `blank_lines` are no rows. `dialect`: the
    delimiter (None unless CSV) and the encoding. `sample`: cells and question of the first rows.
    """

    columns: tuple[str, ...]
    question_column: str | None
    template: str | None
    rows: int
    rejected: int
    blank_lines: int
    dialect: tuple[str | None, str]
    sample: list[tuple[list[str], str]]
    model: str
    estimates: list[TierEstimate]
    notes: list[str] = field(default_factory=list)


@contextmanager
def _names_of_uploads(form: Form) -> Iterator[None]:
    """Messages name an upload as the user does, never by its path here."""
    try:
        yield
    except InputFaults as error:
        faults = [replace(fault, reason=form.without_paths(fault.reason)) for fault in error.faults]
        raise InputFaults(form.file, faults, error.total) from None
    except UsageError as error:
        raise type(error)(form.without_paths(str(error))) from None


def _request(web: Web, form: Form, target: Target, notes: list[str]) -> SubmitRequest:
    values = option_values(form, web.options.functions)
    request = submit_request(web.settings, values, target, notes.append)
    return replace(request, web=True, intake=replace(request.intake, confined=True))


async def submit_form(web: Web, form: Form) -> Accepted:
    """Store the batch of a form, or find it again; its worker starts.

    Raises:
        InputFaults, UsageError: nothing was stored.
        Unavailable: Redis or the API.
    """
    target, notes = web.require_target(), list[str]()
    check_connection_settings(target)
    with _names_of_uploads(form):
        request = await asyncio.to_thread(_request, web, form, target, notes)
        intake = await asyncio.to_thread(checked, str(form.path), request, web.settings)
        with intake:
            named = replace(intake, name=form.file)
            submitted = await submit(web.store, web.url, named, request, notes.append)
    web.workers.serve(await web.store.batch(submitted.batch))
    if submitted.existing is not None:
        notes.append(existing_text(submitted.existing))
    return Accepted(submitted, notes)


async def check_form(web: Web, form: Form) -> Checked:
    """Read the file of a form and estimate its batch, without a request to the API and without a key.

    Raises InputFaults and UsageError.
    """
    with _names_of_uploads(form):
        return await asyncio.to_thread(_check, web, form)


async def newest_batches(web: Web, after: int, limit: int) -> tuple[list[StatusView], int | None, int]:
    """Batches, the newest first, without the first `after`.

    Returns:
        At most `limit` of them, the `after` of the next page (None on the last), the number of all.
    """
    stored = await web.store.list_batches()
    views = [await web.store.status(batch.id) for batch in stored[after : after + limit]]
    following = after + limit if after + limit < len(stored) else None
    return views, following, len(stored)


async def resume(web: Web, batch: Batch) -> control.Changed:
    """Resume a batch, which has a worker here then."""
    web.workers.serve(batch)
    return await control.resume(web.store, batch, web.url, worker_starting=True)


async def retry(web: Web, batch: Batch, status: str | None, attempts: int | None = None) -> control.Changed:
    """Ask rows again, by status; the batch has a worker here then. Raises click's usage error."""
    changed = await control.retry(
        web.store, batch, web.url, parse_retried(status or None), attempts, worker_starting=True
    )
    if changed.changed:
        web.workers.serve(await web.store.batch(batch.id))
    return changed


def _check(web: Web, form: Form) -> Checked:
    target = web.target or api_target(web.settings, needs_key=False)
    notes = list[str]()
    request = _request(web, form, target, notes)
    with checked(str(form.path), request, web.settings) as intake:
        estimate_of = estimates_of(Prices.read(web.settings.prices), intake, request)
        return Checked(
            columns=intake.spec.columns,
            question_column=intake.spec.question_column,
            template=intake.spec.template,
            rows=intake.rows,
            rejected=intake.rejected,
            blank_lines=intake.blank_lines,
            dialect=intake.dialect,
            sample=list(_sample(intake)),
            model=request.profile.model or "",
            estimates=list(tier_estimates(request, estimate_of)),
            notes=notes,
        )


def _sample(intake: Intake) -> Iterator[tuple[list[str], str]]:
    good = (row for row in intake.rows_iter() if row.reject is None)
    for row in islice(good, SAMPLE_ROWS):
        yield [as_text(cell) for cell in row.cells], intake.spec.question(row.cells)
