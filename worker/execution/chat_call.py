"""One call of chat completions: what it sends besides the row, what may end it early, and its acceptance.

A run on the other APIs goes on by itself and is polled. A call lives as long as its connection: a cancelled
batch or a lost claim closes it, a paused batch and the end of the process let it end.
"""

import asyncio
from base64 import b64encode
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import orjson

from askmill.jobs.model.models import BatchState
from askmill.jobs.model.profile import IMAGE
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch
from askmill.worker.backends.base import Backend, RunRequest
from askmill.worker.backends.chat_request import image_paths, own_question
from askmill.worker.backends.context_check import warnings_in
from askmill.worker.execution.request_builder import build_request
from askmill.worker.execution.stored_state import state_to_json
from askmill.worker.lifecycle.api_types import Run
from askmill.worker.lifecycle.state import JobState
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.context import WorkerContext
from askmill.worker.runtime.interrupts import ClaimLost, Interrupts


async def with_exchange(
    request: RunRequest, context: WorkerContext, claim: Claim, batch: BatchContext
) -> RunRequest:
    """The request with the earlier turns of its conversation and the time limit of the batch."""
    earlier = await _earlier_messages(context, claim)
    question = own_question(request, first_turn=not earlier)
    images = {}
    for path in dict.fromkeys(image_paths([*earlier, question])):
        media_type, _, sha256 = request.resources.row_files[f"{IMAGE}{path}"].partition(";")
        content = await context.retry_on_outage(context.store.image, claim.batch, sha256)
        images[path] = f"data:{media_type};base64,{b64encode(content).decode()}"
    return replace(
        request,
        earlier_messages=earlier,
        images=images,
        deadline_s=batch.current.limits.deadline_s,
    )


async def _earlier_messages(context: WorkerContext, claim: Claim) -> tuple[dict[str, Any], ...]:
    """The messages of the earlier turns: each turn passes on its own, and which rows have the others."""
    if claim.previous_turn is None:
        return ()
    turn = orjson.loads(claim.previous_turn)
    rows = turn.get("turn_rows", ())
    stored = await context.retry_on_outage(context.store.previous_turns, claim.batch, rows) if rows else ()
    earlier = [message for entry in stored for message in orjson.loads(entry).get("messages", ())]
    return (*earlier, *turn.get("messages", ()))


def exchange_for_next_turn(batch: Batch, claim: Claim, state: JobState) -> dict[str, Any] | None:
    """What the next turn of a conversation starts from: this turn's messages, and the rows of the others.

    None on the other APIs, which have the messages.
    """
    if batch.api != "chat":
        return None
    request = build_request(batch, claim, state, None)
    final = state.ended_run.message if state.ended_run and state.ended_run.message else None
    question = own_question(request, first_turn=claim.previous_turn is None)
    turn = orjson.loads(claim.previous_turn) if claim.previous_turn else None
    return {
        "messages": [question, *state.messages, *([final] if final else [])],
        "turn_rows": [] if turn is None else [*turn.get("turn_rows", ()), claim.row],
    }


class Caller(Protocol):
    """What `create_run` needs of an `ActionExecutor`."""

    context: WorkerContext
    batch: BatchContext
    claim: Claim
    interrupts: Interrupts
    backend: Backend
    counters: Counter[str]


async def create_run(request: RunRequest, state: JobState, caller: Caller) -> Run | None:
    """Make the call; end it when the claim is lost or the batch is cancelled. None: cancelled.

    Raises:
        ApiError: it failed.
        ClaimLost: the claim is lost.
    """
    interrupts, batch = caller.interrupts, caller.batch

    request = replace(request, on_first_chunk=partial(_accept_once, state, caller))

    def must_end() -> bool:
        return interrupts.claim_lost or batch.current.state is BatchState.CANCELLED

    with suppress(TimeoutError):
        async with asyncio.timeout(None) as scope:
            interrupts.on_wake = lambda: scope.reschedule(0.0) if must_end() else None
            try:
                interrupts.on_wake()
                run = await caller.backend.create_run(request, state.thread_id or "")
                if warnings := warnings_in(run.answer):
                    caller.counters["cut_contexts"] += warnings
                return run
            finally:
                interrupts.on_wake = None
    if interrupts.claim_lost:
        interrupts.raise_if_ending()
    return None


async def _accept_once(state: JobState, caller: Caller) -> None:
    """The first chunk of an answer has come: the first one of a batch here is stored as an accepted run.

    Until then the batch's first row goes alone.
    """
    context, batch = caller.context, caller.batch
    if batch.accepted:
        return
    batch.accepted = True
    stored = state_to_json(state, context.clock)
    reply = await context.retry_on_outage(context.store.save, caller.claim, stored, run_created=True)
    if not reply.held:
        raise ClaimLost
    if reply.first_accepted:
        context.dispatch_needed.set()
