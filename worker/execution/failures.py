"""From an error of the API to the event of a failed request, its log line and the batch's last fault."""

import structlog

from askmill.jobs.store.claim_records import Claim
from askmill.worker.backends.base import Backend
from askmill.worker.execution.request_builder import row_overrides, row_profile
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.decision import (
    Action,
    CancelRun,
    CreateRun,
    CreateThread,
    Decision,
    Reserve,
    SubmitOutputs,
)
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.events import RequestFailed
from askmill.worker.lifecycle.retry import fault_of, no_such_api
from askmill.worker.lifecycle.state import JobState
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext

log = structlog.get_logger()

REQUEST_KINDS: dict[type[Action], RequestKind] = {
    Reserve: RequestKind.SETUP,
    CreateThread: RequestKind.THREAD,
    CreateRun: RequestKind.CREATE,
    CancelRun: RequestKind.CANCEL,
    SubmitOutputs: RequestKind.SUBMIT,
}
"""The kind of request an action makes, for the error table; all other actions read."""


async def request_failed(
    error: ApiError, action: Action, state: JobState, batch: BatchContext, claim: Claim, backend: Backend
) -> RequestFailed:
    """The event of an action whose request failed, with the time 0.

    Where the server does not have the path of the batch's first create, the message says what it offers.
    """
    request = REQUEST_KINDS.get(type(action), RequestKind.READ)
    if no_such_api(error, request) and not batch.runs_seen:
        offered = await backend.what_is_offered()
        error.message = f"{error.message.rstrip('.')}. {offered}" if offered else error.message
    is_unknown = error.status == 404 and request is RequestKind.READ
    return RequestFailed(
        0.0,
        error=error,
        request=request,
        row_overrides=frozenset(row_overrides(batch.batch, claim)),
        model=row_profile(batch.batch, claim).model,
        taken_over=batch.taken_over.not_found(state) if is_unknown else None,
    )


async def report_fault(
    event: RequestFailed, decision: Decision, context: WorkerContext, batch: BatchContext
) -> None:
    """Log the failed request and what follows; report it as the batch's last fault where it is one."""
    meaning = fault_of(event.error, event.request, event.row_overrides, event.model)
    log.info(
        "request.failed",
        on=event.request.value,
        request=event.error.request,
        fault=str(event.error),
        about=meaning.subject.value,
        attempt=decision.state.attempt,
        then=type(decision.action).__name__,
        wait_s=decision.throttled_s,
    )
    report = batch.faults.add(event.error, meaning, context.now_s())
    if report is not None:
        await context.retry_on_outage(context.store.record_fault, batch.batch.id, report)
