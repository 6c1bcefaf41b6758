"""Batches, claims and results for tests of the store and its users."""

from collections.abc import Sequence
from typing import Any

import redis

from askmill.jobs.model.models import Attempt, InputSpec, JobStatus, Limits, Result
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store, keys
from askmill.jobs.store.claim_records import Claim, DispatchedRow
from askmill.jobs.store.records import NewBatch, NewRow
from askmill.jobs.store.views import WorkerInfo

BASE_URL = "http://127.0.0.1:9/v1"


def worker_info(worker_id: str = "w1", slots: int = 100, **changed: Any) -> WorkerInfo:
    """Return a worker that uses the API of `new_batch`."""
    defaults: dict[str, Any] = {"host": "here", "pid": 1, "api": "assistants", "base_url": BASE_URL}
    return WorkerInfo(worker_id, slots=slots, **{**defaults, **changed})


def new_batch(**changed: Any) -> NewBatch:
    """Return a batch with one question column."""
    defaults: dict[str, Any] = {
        "name": "questions",
        "file": "questions.csv",
        "spec": InputSpec(("question",), "question"),
        "profile": Profile(),
        "resources": Resources(),
        "api": "assistants",
        "base_url": BASE_URL,
        "model": "a-model",
        "limits": Limits(),
        "identity": "0" * 64,
    }
    return NewBatch(**{**defaults, **changed})


async def submit_batch(store: Store, rows: int | Sequence[NewRow], **changed: Any) -> str:
    """Load and seal a batch of so many questions, or of these rows; return its id."""
    if isinstance(rows, int):
        rows = [NewRow([f"question {row}"]) for row in range(1, rows + 1)]
    batch = await store.create_batch(new_batch(**changed))
    for first in range(0, len(rows), 4096):
        await store.add_rows(batch, first + 1, rows[first : first + 4096])
    await store.seal_batch(batch)
    return batch


async def claim_row(store: Store, row: DispatchedRow, worker_id: str = "w1") -> Claim:
    """Claim a dispatched row, which must succeed."""
    claim = await store.claim(row.batch, row.row, worker_id)
    assert isinstance(claim, Claim), claim
    return claim


def make_result(row: int, status: JobStatus = JobStatus.COMPLETED, **changed: Any) -> Result:
    """Return a result with one attempt."""
    attempt = Attempt(1, f"thread_{row}", f"run_{row}", status.value)
    defaults: dict[str, Any] = {
        "answer": "42",
        "attempts": (attempt,),
        "thread_id": f"thread_{row}",
        "run_id": f"run_{row}",
    }
    return Result(row, status, **{**defaults, **changed})


async def finish_all_rows(
    store: Store, status: JobStatus = JobStatus.COMPLETED, worker_id: str = "w1"
) -> list[int]:
    """Dispatch, claim and finish until no row is left; return the rows in that order."""
    finished = []
    while dispatched := await store.dispatch(10):
        for row in dispatched:
            claim = await claim_row(store, row, worker_id)
            await store.save(claim, b'{"phase": "polling"}', run_created=True)
            assert await store.finish(
                claim, make_result(row.row, status), next_turn_state=f"after {row.row}".encode()
            )
            finished.append(row.row)
    return finished


def expire_worker(redis_url: str, worker: str) -> None:
    """Delete the worker's key, as when a lifetime has passed without a heartbeat."""
    with redis.Redis.from_url(redis_url) as client:
        client.delete(keys.worker(worker))
