"""A real Celery worker on the pool, for tests: settings come as JSON in POOL_TEST, doings go to a file.

`python -P tests/helpers/workers/pool_worker.py` starts it as askmill starts its own; `celery -A pool_worker worker` works.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery, current_task
from celery.signals import worker_ready

from askmill.worker.celery import kombu_transport as transport
from askmill.worker.celery.greenlet_pool import await_coroutine

given: dict[str, Any] = json.loads(os.environ["POOL_TEST"])
if given["guarded"]:
    transport.install()
app = Celery("pool_test", broker=given["broker"])
app.conf.update(given["conf"])


def note(what: str, *details: object) -> None:
    with Path(given["log"]).open("a") as log:
        log.write(json.dumps([what, *details]) + "\n")


async def hold(name: str, seconds: float) -> None:
    note("begins", name)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled", name)
        raise
    note("ends", name)


@app.task(name="nap")
def nap(name: str, seconds: float) -> str:
    await_coroutine(hold(name, seconds))
    return name


@app.task(bind=True, name="who_am_i")
def who_am_i(self: Any) -> None:
    """Notes its id between awaits, as its request and Celery's current task have it."""
    seen = [self.request.id]
    for _ in range(2):
        await_coroutine(asyncio.sleep(0.01))
        seen += [self.request.id, current_task.request.id]
    note("ends", *seen)


@worker_ready.connect
def _ready(**_: Any) -> None:
    note("ready")


if __name__ == "__main__":
    worker = app.Worker(**given["options"])
    worker.start()
    sys.exit(worker.exitcode)
