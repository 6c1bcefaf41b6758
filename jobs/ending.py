"""What a person ends at the API from here: the runs of a cancelled batch, everything of a purged one.

The key goes only to the address it was given for: another batch's API is left alone, and that is said.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from openai import APIStatusError, AsyncOpenAI, OpenAIError

from config.settings import Settings
from jobs.api import client, sentence
from jobs.errors import Unavailable, UsageError
from jobs.local import EmulatorService, Lease
from jobs.models import BatchState, JobStatus
from jobs.objects import Kind, purge_objects
from jobs.records import Batch
from jobs.store import Store
from jobs.telling import counted

AT_ONCE = 32
PURGED_AT_ONCE = 5000
ENDED = frozenset({400, 404, 409, 422})
"""What the APIs answer to the cancelling of a run that has ended or is gone."""


@asynccontextmanager
async def api_of(batch: Batch, settings: Settings) -> AsyncIterator[AsyncOpenAI | None]:
    """A client for the batch's API; None when these settings have no key for that address."""
    if batch.base_url == settings.base_url and settings.openai_api_key is not None:
        key = settings.openai_api_key.get_secret_value()
        async with client(key, batch.base_url, settings.openai_org_id, settings.openai_project_id) as made:
            yield made
    elif batch.base_url == EmulatorService(settings.data_dir).address():
        with Lease(EmulatorService(settings.data_dir)) as emulator:
            async with client("offline", emulator.wait_ready()) as made:
                yield made
    else:
        yield None


async def end_runs(store: Store, batch: Batch, settings: Settings) -> None:
    """Cancel the runs in flight of a cancelled batch at the API, with no worker alive to do it.

    How each ended a worker reads later. Raises Unavailable when the API could not be told.
    """
    runs = [run async for run in _runs_under_way(store, batch)]
    if not runs:
        return
    async with api_of(batch, settings) as api_client:
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
            raise _still_running(batch, len(faults), sentence(faults[0], api_client).rstrip("."))


def _still_running(batch: Batch, runs: int, fault: str) -> Unavailable:
    return Unavailable(
        f"{batch.id} is cancelled, but {counted(runs, 'run')} may go on at {batch.base_url}: {fault}. "
        f"`askmill cancel {batch.id}` tries again."
    )


async def _runs_under_way(store: Store, batch: Batch) -> AsyncIterator[tuple[str, str]]:
    async for view in store.results(batch.id, {JobStatus.RUNNING, JobStatus.QUEUED}):
        state = (await store.row(batch.id, view.row)).state
        known = orjson.loads(state) if state else {}
        if known.get("thread_id") and known.get("run_id"):
            yield known["thread_id"], known["run_id"]


async def purge_batch(store: Store, batch: Batch, settings: Settings) -> str:
    """Delete at the API, then here; returns what was done, in a sentence.

    Raises UsageError while the batch is under way, Unavailable when the API keeps some of it: the batch then
    stays here, for its list of them, and `purge` may be repeated.
    """
    going = {BatchState.QUEUED, BatchState.RUNNING}
    if batch.state in going and (await store.counts(batch.id)).unfinished:
        raise UsageError(f"{batch.id} is {batch.state}: cancel it first (`askmill cancel {batch.id}`).")
    async with api_of(batch, settings) as api_client:
        there = await _purge_there(store, batch, api_client) if api_client is not None else None
    if there is None and not await _made_anything(store, batch):
        there = 0
    await store.purge(batch.id)
    if there == 0:
        return f"{batch.id} is deleted here; at {batch.base_url} there is nothing of it."
    if there is None:
        return f"{batch.id} is deleted here; what it made at {batch.base_url} is left (no key for it is set)."
    return f"{batch.id} is deleted here, and {counted(there, 'object')} at {batch.base_url}."


async def _purge_there(store: Store, batch: Batch, api_client: AsyncOpenAI) -> int:
    """How many objects were deleted."""
    deleted, objects, uploads = 0, list[tuple[Kind, str]](), batch.options.get("uploads", {})
    async for one in _objects(store, batch):
        objects.append(one)
        if one[1] in uploads:
            # Before it is deleted: a batch that comes meanwhile then uploads its own.
            await store.forget(one[0], uploads[one[1]])
        if len(objects) == PURGED_AT_ONCE:
            deleted += await _purge_some(batch, api_client, objects)
            objects = []
    return deleted + await _purge_some(batch, api_client, objects)


async def _made_anything(store: Store, batch: Batch) -> bool:
    async for _ in _objects(store, batch):
        return True
    return False


async def _purge_some(batch: Batch, api_client: AsyncOpenAI, objects: list[tuple[Kind, str]]) -> int:
    report = await purge_objects(api_client, objects)
    if report.faults:
        left = counted(len(report.faults), "object")
        raise Unavailable(
            f"{left} of {batch.id} could not be deleted at {batch.base_url}, the first: {report.faults[0]}. "
            "The batch stays until then; try again, or unset OPENAI_API_KEY to delete it only here."
        )
    return report.deleted


async def _objects(store: Store, batch: Batch) -> AsyncIterator[tuple[Kind, str]]:
    """All that the batch made and no other batch uses."""
    borrowed = await _borrowed(store, batch)
    thread: Kind = "thread" if batch.api == "assistants" else "conversation"
    last = None
    async for thread_id, run_id in store.ledger(batch.id):
        if thread_id and thread_id not in borrowed and thread_id != last:
            yield thread, thread_id
            last = thread_id
        if run_id and batch.api == "responses" and thread_id not in borrowed:
            yield "response", run_id
    others = [other for other in await store.list_batches() if other.id != batch.id]
    used = {id_ for other in others for id_ in other.options.get("uploads", {})}
    for id_ in batch.options.get("uploads", {}):
        if id_ not in used:
            yield "vector_store" if id_ == batch.resources.vector_store_id else "file", id_


async def _borrowed(store: Store, batch: Batch) -> set[str]:
    """Threads of answers that were taken from other batches."""
    if not batch.options.get("reuse_answers"):
        return set()
    borrowed = set()
    async for view in store.results(batch.id, {JobStatus.COMPLETED}):
        stored = view.stored
        if stored and stored.get("attempts_made") == 0 and stored.get("thread_id"):
            borrowed.add(stored["thread_id"])
    return borrowed
