"""Cancel the runs of a cancelled batch at the API, and delete what a purged batch created there.

The key is sent only to the address that it is set for. A batch at another address is left alone, and the
message says so.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import orjson
from openai import APIStatusError, AsyncOpenAI, OpenAIError

from askmill.config.local_address import is_local
from askmill.config.settings import Credentials, Settings
from askmill.config.text import count_of
from askmill.jobs.display.stall_text import server_settings
from askmill.jobs.local import EmulatorService, ServiceLease
from askmill.jobs.model.api_target import NO_CONSENT, Consent, permitted_credentials
from askmill.jobs.model.errors import Unavailable, UsageError
from askmill.jobs.model.models import Api, BatchState, JobStatus, Server
from askmill.jobs.openai_client.client import describe_error, make_client
from askmill.jobs.openai_client.uploads import ObjectKind, purge_objects
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import StatusView

CANCELS_AT_ONCE = 32
CANCEL_TIMEOUT_S = 60.0
"""A worker waits half a minute for a run to be cancelled."""
POLL_S = 0.2
OBJECTS_PER_PURGE = 5000
ALREADY_ENDED = frozenset({400, 404, 409, 422})
"""Statuses of the APIs' replies when a run to cancel has ended or is gone."""
RESOURCES_PER_UNLINK = 200
"""One script looks them up in every batch."""
ApiObject = tuple[ObjectKind, str]
KINDS: dict[str, ObjectKind] = {"assistant": "assistant", "file": "file", "vector_store": "vector_store"}
"""Kinds of objects that a batch records beside those of its rows."""


@asynccontextmanager
async def open_api(
    batch: Batch, settings: Settings, consent: Consent = NO_CONSENT
) -> AsyncIterator[AsyncOpenAI | None]:
    """Yield a client for the batch's API, or None if these settings have no key for its address and account.

    Raises UsageError if the key may not be sent to that address.
    """
    has_key = settings.credentials.key is not None
    if batch.base_url == settings.base_url and (has_key or is_local(batch.base_url)):
        credentials, _ = permitted_credentials(settings, consent)
        if batch.server != _server_of(settings, credentials, batch.api):
            yield None
            return
        key = None if credentials.key is None else credentials.key.get_secret_value()
        async with make_client(key, batch.base_url, credentials.organization, credentials.project) as client:
            yield client
    elif batch.base_url == EmulatorService(settings.data_dir).address():
        with ServiceLease(EmulatorService(settings.data_dir)) as emulator:
            async with make_client("offline", emulator.wait_ready(), environ={}) as client:
                yield client
    else:
        yield None


def _server_of(settings: Settings, credentials: Credentials, api: Api) -> Server:
    """The address and account of these settings; any key for them will do, whatever API they choose."""
    _, organization, project = credentials
    return Server(api, settings.base_url, organization or "", project or "")


async def end_runs(store: Store, batch: Batch, settings: Settings, consent: Consent = NO_CONSENT) -> None:
    """Cancel the runs in flight of a cancelled batch at the API, if no worker is alive to do it.

    A worker reads later how each ended. Raises Unavailable if a run could not be cancelled, and UsageError if
    the key may not be sent to the API.
    """
    runs = [run async for run in _active_runs(store, batch)]
    if not runs:
        return
    async with _open_api_to_cancel(batch, len(runs), settings, consent) as api_client:
        if api_client is None:
            needed = server_settings(batch.server, _server_of(settings, settings.credentials, batch.api))
            fault = f"no key for it is set here (OPENAI_API_KEY, with {needed})"
            raise _still_running(batch, len(runs), fault)
        gate, faults = asyncio.Semaphore(CANCELS_AT_ONCE), list[OpenAIError]()

        async def cancel_run(thread_id: str, run_id: str) -> None:
            async with gate:
                try:
                    await _cancel_run(api_client, batch, thread_id, run_id)
                except APIStatusError as refused:
                    # A run that has ended or is gone need not be cancelled.
                    if refused.status_code not in ALREADY_ENDED:
                        faults.append(refused)
                except OpenAIError as fault:
                    faults.append(fault)

        async with asyncio.TaskGroup() as group:
            for thread_id, run_id in runs:
                group.create_task(cancel_run(thread_id, run_id), name=f"cancel {run_id}")
        if faults:
            raise _still_running(batch, len(faults), describe_error(faults[0], api_client).rstrip("."))


async def _cancel_run(api_client: AsyncOpenAI, batch: Batch, thread_id: str, run_id: str) -> None:
    if batch.in_shards:
        await api_client.batches.cancel(run_id)
    elif batch.api == "assistants":
        await api_client.beta.threads.runs.cancel(run_id, thread_id=thread_id)
    else:
        await api_client.responses.cancel(run_id)


@asynccontextmanager
async def _open_api_to_cancel(
    batch: Batch, runs: int, settings: Settings, consent: Consent
) -> AsyncIterator[AsyncOpenAI | None]:
    async with AsyncExitStack() as stack:
        try:
            api_client = await stack.enter_async_context(open_api(batch, settings, consent))
        except UsageError as refused:
            raise UsageError(_still_running_message(batch, runs, str(refused).rstrip("."))) from None
        yield api_client


def _still_running(batch: Batch, runs: int, fault: str) -> Unavailable:
    return Unavailable(_still_running_message(batch, runs, fault))


def _still_running_message(batch: Batch, runs: int, fault: str) -> str:
    return (
        f"{batch.id} is cancelled, but {count_of(runs, 'run')} may go on at {batch.base_url}: {fault}. "
        f"`askmill cancel {batch.id}` tries again."
    )


async def _active_runs(store: Store, batch: Batch) -> AsyncIterator[tuple[str, str]]:
    """Yield thread and run of each row in progress; with tier batch, the API's batches, without a thread."""
    if batch.in_shards:
        for shard in await store.list_shards(batch.id):
            if shard.phase != "done" and shard.api_batch:
                yield "", shard.api_batch
        return
    if batch.api == "chat":  # its calls end with the connections of their workers
        return
    async for _, state in store.unfinished_states(batch.id):
        stored = orjson.loads(state)
        if stored.get("thread_id") and stored.get("run_id"):
            yield stored["thread_id"], stored["run_id"]


async def purge_batch(store: Store, batch: Batch, settings: Settings, consent: Consent = NO_CONSENT) -> str:
    """Delete a batch's objects at the API, then the batch here. Return a sentence that says what was deleted.

    Raises UsageError while rows are active or if the key may not be sent to the API. Raises Unavailable if
    the API keeps some objects: the batch, which lists them, then stays, and `purge` can be repeated.
    """
    await _wait_until_no_row_runs(store, batch)
    async with open_api(batch, settings, consent) as api_client:
        deleted_at_api = await _purge_at_api(store, batch, api_client) if api_client is not None else None
    if deleted_at_api is None and not await _has_objects(store, batch):
        deleted_at_api = 0
    await store.purge(batch.id)
    if deleted_at_api == 0:
        return f"{batch.id} is deleted here; at {batch.base_url} there is nothing of it."
    if deleted_at_api is None:
        return f"{batch.id} is deleted here; what it made at {batch.base_url} is left (no key for it is set)."
    return f"{batch.id} is deleted here, and {count_of(deleted_at_api, 'object')} at {batch.base_url}."


async def _wait_until_no_row_runs(store: Store, batch: Batch) -> None:
    """Wait until workers have ended a cancelled batch's rows: without it no run could be cancelled."""
    until_s = time.monotonic() + CANCEL_TIMEOUT_S
    while active := _count_active_rows(status := await store.status(batch.id)):
        state, rows = status.batch.state, count_of(active, "row")
        if state is not BatchState.CANCELLED:
            cancel = f"cancel it first (`askmill cancel {batch.id}`)"
            raise UsageError(f"{batch.id} is {state}, {rows} of it are under way: {cancel}.")
        if time.monotonic() > until_s:
            raise UsageError(
                f"{rows} of {batch.id} did not end within {CANCEL_TIMEOUT_S:.0f} s: try again later."
            )
        await asyncio.sleep(POLL_S)


def _count_active_rows(status: StatusView) -> int:
    """Count the rows that a worker or command still runs or ends."""
    state, counts = status.batch.state, status.counts
    if state in {BatchState.QUEUED, BatchState.RUNNING}:
        return counts.unfinished
    if not status.workers:
        return 0
    return counts.by_status[JobStatus.RUNNING] if state is BatchState.PAUSED else counts.unfinished


async def _purge_at_api(store: Store, batch: Batch, api_client: AsyncOpenAI) -> int:
    """Delete all objects of the batch; return how many were deleted."""
    deleted, objects = 0, list[ApiObject]()
    async for api_object in _objects_of_rows(store, batch):
        objects.append(api_object)
        if len(objects) == OBJECTS_PER_PURGE:
            deleted += await _purge_objects(batch, api_client, objects)
            objects = []
    deleted += await _purge_objects(batch, api_client, objects)
    shared = await store.list_resources(batch.id)
    for at in range(0, len(shared), RESOURCES_PER_UNLINK):
        unused = await store.unlink_unused(batch.id, shared[at : at + RESOURCES_PER_UNLINK])
        deleted += await _purge_objects(batch, api_client, [(KINDS[kind], id_) for kind, id_ in unused])
    return deleted


async def _has_objects(store: Store, batch: Batch) -> bool:
    async for _ in _objects_of_rows(store, batch):
        return True
    return bool(await store.list_resources(batch.id))


async def _purge_objects(batch: Batch, api_client: AsyncOpenAI, objects: list[ApiObject]) -> int:
    report = await purge_objects(api_client, objects)
    if report.faults:
        left = count_of(len(report.faults), "object")
        raise Unavailable(
            f"{left} of {batch.id} could not be deleted at {batch.base_url}, the first: {report.faults[0]}. "
            "The batch stays until then; try again, or unset OPENAI_API_KEY to delete it only here."
        )
    return report.deleted


async def _objects_of_rows(store: Store, batch: Batch) -> AsyncIterator[ApiObject]:
    """Yield threads, responses and generated files; an Assistants run is deleted with its thread.

    Servers of chat completions keep nothing. The files of shards are in the batch's ledger.
    """
    if batch.api == "chat" or batch.in_shards:
        return
    thread: ObjectKind = "thread" if batch.api == "assistants" else "conversation"
    uploads, last = {id_ for _, id_ in await store.list_resources(batch.id)}, None
    async for kind, id_ in store.created_objects(batch.id):
        if kind == "thread" and id_ != last:
            yield thread, id_
            last = id_
        elif kind == "run" and batch.api == "responses":
            yield "response", id_
        # A run may return a file that was uploaded for it.
        elif kind == "file" and id_ not in uploads:
            yield "file", id_
