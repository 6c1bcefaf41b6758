"""The one Celery task: a row. Its message holds only ids; the row itself is in Redis."""

from askmill.jobs.store.broker import TASK
from askmill.worker.celery.celery_app import app, worker_process
from askmill.worker.celery.greenlet_pool import await_coroutine
from askmill.worker.celery.request import Request


@app.task(name=TASK, Request=Request)
def answer(batch: str, row: int) -> None:
    """Claim the row, follow its run to the end and store the result (`worker.execution.job_runner`)."""
    await_coroutine(worker_process().answer(batch, row))
