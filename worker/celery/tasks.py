"""The Celery tasks: a row, and a shard of tier batch. A message holds only ids; the state is in Redis."""

from askmill.jobs.store.broker import SHARD_TASK, TASK
from askmill.worker.celery.celery_app import app, worker_process
from askmill.worker.celery.greenlet_pool import await_coroutine
from askmill.worker.celery.request import Request


@app.task(name=TASK, Request=Request)
def answer(batch: str, row: int) -> None:
    """Claim the row, follow its run to the end and store the result (`worker.execution.job_runner`)."""
    await_coroutine(worker_process().answer(batch, row))


@app.task(name=SHARD_TASK, Request=Request)
def follow_shard(batch: str, number: int) -> None:
    """Claim the shard and follow its job of the Batch API (`worker.execution.shard_runner`)."""
    await_coroutine(worker_process().shards.follow(batch, number))
