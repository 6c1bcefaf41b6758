"""What a person ends at the API from here: the runs of a cancelled batch, everything of a purged one.

The key goes only to the address it was given for: another batch's API is left alone, and that is said.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import orjson
from openai import APIStatusError, AsyncOpenAI, OpenAIError

from askmill.config.local_address import is_local
from askmill.config.settings import Settings
from askmill.config.text import count_of
from askmill.jobs.local import EmulatorService, ServiceLease
from askmill.jobs.model.api_target import NO_CONSENT, Consent, permitted_credentials
from askmill.jobs.model.errors import Unavailable, UsageError
from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.openai_client.client import describe_error, make_client
from askmill.jobs.openai_client.uploads import ObjectKind, purge_objects
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch, StatusView

AT_ONCE = 32
ENDED_WITHIN_S = 60.0
"""A worker gives a run half a minute to be cancelled."""
LOOK_S = 0.2
PURGED_AT_ONCE = 5000
ENDED = frozenset({400, 404, 409, 422})
"""What the APIs answer to the cancelling of a run that has ended or is gone."""
DISOWNED_AT_ONCE = 200
"""Looked up in every batch by one script."""
Made = tuple[ObjectKind, str]
KINDS: dict[str, ObjectKind] = {"assistant": "assistant", "file": "file", "vector_store": "vector_store"}
"""What stands in a batch's ledger beside its rows' own."""


@asynccontextmanager
async def api_of(
    batch: Batch, settings: Settings, consent: Consent = NO_CONSENT
) -> AsyncIterator[AsyncOpenAI | None]:
    """A client for the batch's API; None when these settings have no key for that address.

    Raises UsageError where the key may not go to that address.
    """
    has_key = settings.credentials.key is not None
    if batch.base_url == settings.base_url and (has_key or is_local(batch.base_url)):
        allowed, _ = permitted_credentials(settings, consent)
        key = None if allowed.key is None else allowed.key.get_secret_value()
        async with make_client(key, batch.base_url, allowed.organization, allowed.project) as made:
            yield made
    elif batch.base_url == EmulatorService(settings.data_dir).address():
        with ServiceLease(EmulatorService(settings.data_dir)) as emulator:
            async with make_client("offline", emulator.wait_ready(), environ={}) as made:
                yield made
    else:
        yield None


async def end_runs(store: Store, batch: Batch, settings: Settings, consent: Consent = NO_CONSENT) -> None:
    """Cancel the runs in flight of a cancelled batch at the API, with no worker alive to do it.

    How each ended a worker reads later. Raises Unavailable when the API could not be told, and UsageError
    when the key may not go there.
    """
    runs = [run async for run in _runs_under_way(store, batch)]
    if not runs:
        return
    async with _api_to_end_runs_at(batch, len(runs), settings, consent) as api_client:
        if api_client is None:
            fault = f"no key for it is set here (OPENAI_API_KEY, with OPENAI_BASE_URL={batch.base_url})"
            raise _still_running(batch, len(runs), fault)
        gate, faults = asyncio.Semaphore(AT_ONCE), list[OpenAIError]()

        async def end(thread_id: str, run_id: str) -> None:
            async with gate:
                try:
                    if batch.api == "assistants":
                        await api_client.beta.threads.runs.cancel(run_id, thread_id=thread_id)
                    else:
                        await api_client.responses.cancel(run_id)
                except APIStatusError as refused:
                    # One that has ended, or is gone, needs no cancelling.
                    if refused.status_code not in ENDED:
                        faults.append(refused)
                except OpenAIError as fault:
                    faults.append(fault)

        async with asyncio.TaskGroup() as group:
            for thread_id, run_id in runs:
                group.create_task(end(thread_id, run_id), name=f"cancel {run_id}")
        if faults:
            raise _still_running(batch, len(faults), describe_error(faults[0], api_client).rstrip("."))


@asynccontextmanager
async def _api_to_end_runs_at(
    batch: Batch, runs: int, settings: Settings, consent: Consent
) -> AsyncIterator[AsyncOpenAI | None]:
    async with AsyncExitStack() as stack:
        try:
            api_client = await stack.enter_async_context(api_of(batch, settings, consent))
        except UsageError as refused:
            raise UsageError(_may_go_on(batch, runs, str(refused).rstrip("."))) from None
        yield api_client


def _still_running(batch: Batch, runs: int, fault: str) -> Unavailable:
    return Unavailable(_may_go_on(batch, runs, fault))


def _may_go_on(batch: Batch, runs: int, fault: str) -> str:
    return (
        f"{batch.id} is cancelled, but {count_of(runs, 'run')} may go on at {batch.base_url}: {fault}. "
        f"`askmill cancel {batch.id}` tries again."
    )


async def _runs_under_way(store: Store, batch: Batch) -> AsyncIterator[tuple[str, str]]:
    async for view in store.results(batch.id, {JobStatus.RUNNING, JobStatus.QUEUED}):
        state = (await store.row(batch.id, view.row)).state
        known = orjson.loads(state) if state else {}
        if known.get("thread_id") and known.get("run_id"):
            yield known["thread_id"], known["run_id"]


async def purge_batch(store: Store, batch: Batch, settings: Settings, consent: Consent = NO_CONSENT) -> str:
    """Delete at the API, then here; returns what was done, in a sentence.

    Raises UsageError while rows are under way or when the key may not go to the API, Unavailable when the API
    keeps some of it: the batch then stays here, for its list of them, and `purge` may be repeated.
    """
    await _until_no_row_runs(store, batch)
    async with api_of(batch, settings, consent) as api_client:
        there = await _purge_there(store, batch, api_client) if api_client is not None else None
    if there is None and not await _made_anything(store, batch):
        there = 0
    await store.purge(batch.id)
    if there == 0:
        return f"{batch.id} is deleted here; at {batch.base_url} there is nothing of it."
    if there is None:
        return f"{batch.id} is deleted here; what it made at {batch.base_url} is left (no key for it is set)."
    return f"{batch.id} is deleted here, and {count_of(there, 'object')} at {batch.base_url}."


async def _until_no_row_runs(store: Store, batch: Batch) -> None:
    """Nothing is deleted under a run, which nobody could cancel then. Workers end a cancelled one's."""
    until_s = time.monotonic() + ENDED_WITHIN_S
    while under_way := _under_way(status := await store.status(batch.id)):
        state, rows = status.batch.state, count_of(under_way, "row")
        if state is not BatchState.CANCELLED:
            cancel = f"cancel it first (`askmill cancel {batch.id}`)"
            raise UsageError(f"{batch.id} is {state}, {rows} of it are under way: {cancel}.")
        if time.monotonic() > until_s:
            raise UsageError(
                f"{rows} of {batch.id} did not end within {ENDED_WITHIN_S:.0f} s: try again later."
            )
        await asyncio.sleep(LOOK_S)


def _under_way(status: StatusView) -> int:
    """Rows that somebody still asks, or ends."""
    state, counts = status.batch.state, status.counts
    if state in {BatchState.QUEUED, BatchState.RUNNING}:
        return counts.unfinished
    if not status.workers:
        return 0
    return counts.by_status[JobStatus.RUNNING] if state is BatchState.PAUSED else counts.unfinished


async def _purge_there(store: Store, batch: Batch, api_client: AsyncOpenAI) -> int:
    """How many objects were deleted."""
    deleted, objects = 0, list[Made]()
    async for made in _made_by_rows(store, batch):
        objects.append(made)
        if len(objects) == PURGED_AT_ONCE:
            deleted += await _purge_some(batch, api_client, objects)
            objects = []
    deleted += await _purge_some(batch, api_client, objects)
    shared = await store.list_resources(batch.id)
    for at in range(0, len(shared), DISOWNED_AT_ONCE):
        free = await store.unlink_unused(batch.id, shared[at : at + DISOWNED_AT_ONCE])
        deleted += await _purge_some(batch, api_client, [(KINDS[kind], id_) for kind, id_ in free])
    return deleted


async def _made_anything(store: Store, batch: Batch) -> bool:
    async for _ in _made_by_rows(store, batch):
        return True
    return bool(await store.list_resources(batch.id))


async def _purge_some(batch: Batch, api_client: AsyncOpenAI, objects: list[Made]) -> int:
    report = await purge_objects(api_client, objects)
    if report.faults:
        left = count_of(len(report.faults), "object")
        raise Unavailable(
            f"{left} of {batch.id} could not be deleted at {batch.base_url}, the first: {report.faults[0]}. "
            "The batch stays until then; try again, or unset OPENAI_API_KEY to delete it only here."
        )
    return report.deleted


async def _made_by_rows(store: Store, batch: Batch) -> AsyncIterator[Made]:
    """Threads, responses and generated files: a run of the Assistants API goes with its thread."""
    thread: ObjectKind = "thread" if batch.api == "assistants" else "conversation"
    uploads, last = {id_ for _, id_ in await store.list_resources(batch.id)}, None
    async for kind, id_ in store.ledger(batch.id):
        if kind == "thread" and id_ != last:
            yield thread, id_
            last = id_
        elif kind == "run" and batch.api == "responses":
            yield "response", id_
        # A run may hand back a file that it was given.
        elif kind == "file" and id_ not in uploads:
            yield "file", id_
