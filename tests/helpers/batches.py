"""Short ways to a batch in a store, for tests of the store and of what uses it."""

from collections.abc import Sequence
from typing import Any

import redis

from askmill.jobs.model.models import Attempt, InputSpec, JobStatus, Limits, Result
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import Store, keys
from askmill.jobs.store.records import Claim, DispatchedRow, NewBatch, NewRow, WorkerInfo

BASE_URL = "http://127.0.0.1:9/v1"


def card(worker_id: str = "w1", slots: int = 100, **changed: Any) -> WorkerInfo:
    """A worker of the API that `new_batch` speaks to."""
    known: dict[str, Any] = {"host": "here", "pid": 1, "api": "assistants", "base_url": BASE_URL}
    return WorkerInfo(worker_id, slots=slots, **{**known, **changed})


def new_batch(**changed: Any) -> NewBatch:
    """A batch with one question column."""
    known: dict[str, Any] = {
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
    return NewBatch(**{**known, **changed})


async def submitted(store: Store, rows: int | Sequence[NewRow], **changed: Any) -> str:
    """A sealed batch of so many questions, or of these rows."""
    given = [NewRow([f"question {row}"]) for row in range(1, rows + 1)] if isinstance(rows, int) else rows
    batch = await store.create_batch(new_batch(**changed))
    for first in range(0, len(given), 4096):
        await store.add_rows(batch, first + 1, given[first : first + 4096])
    await store.seal_batch(batch)
    return batch


async def claimed(store: Store, fed: DispatchedRow, worker_id: str = "w1") -> Claim:
    """The claim of a fed row, which must succeed."""
    claim = await store.claim(fed.batch, fed.row, worker_id)
    assert isinstance(claim, Claim), claim
    return claim


def ended(row: int, status: JobStatus = JobStatus.COMPLETED, **changed: Any) -> Result:
    """A result with one attempt."""
    attempt = Attempt(1, f"thread_{row}", f"run_{row}", status.value)
    known: dict[str, Any] = {
        "answer": "42",
        "attempts": (attempt,),
        "thread_id": f"thread_{row}",
        "run_id": f"run_{row}",
    }
    return Result(row, status, **{**known, **changed})


async def work_off(store: Store, status: JobStatus = JobStatus.COMPLETED, worker_id: str = "w1") -> list[int]:
    """Feed, claim and finish until nothing is fed; the rows in the order they were asked."""
    asked = []
    while fed := await store.dispatch(10):
        for one in fed:
            claim = await claimed(store, one, worker_id)
            await store.save(claim, b'{"phase": "polling"}', run_made=True)
            assert await store.finish(claim, ended(one.row, status), seed=f"after {one.row}".encode())
            asked.append(one.row)
    return asked


def stop_heart(redis_url: str, worker: str) -> None:
    """As if its lifetime had passed without a beat."""
    with redis.Redis.from_url(redis_url) as client:
        client.delete(keys.worker(worker))
