"""The one Celery task: a question. Its message holds ids only; the job itself is in Redis."""

from jobs.queue import TASK
from worker.app import app, process
from worker.pool import await_


@app.task(name=TASK, Request="worker.messages:Request")
def answer(batch: str, row: int) -> None:
    """Claim the row, follow its run to the end, keep the result (worker.runner)."""
    await_(process().answer(batch, row))
