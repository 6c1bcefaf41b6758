"""The one Celery task: a question. Its message holds ids only; the job itself is in Redis."""

from askmill.jobs.store.broker import TASK
from askmill.worker.celery.celery_app import app, process
from askmill.worker.celery.greenlet_pool import await_coroutine


@app.task(name=TASK, Request="askmill.worker.celery.request:Request")
def answer(batch: str, row: int) -> None:
    """Claim the row, follow its run to the end, keep the result (worker.execution.job_runner)."""
    await_coroutine(process().answer(batch, row))
