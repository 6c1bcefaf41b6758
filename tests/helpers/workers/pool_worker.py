"""A Celery worker with the pool, for tests. Settings are JSON in POOL_TEST; records go to a file.

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

from askmill.worker.celery import kombu_transport
from askmill.worker.celery.greenlet_pool import await_coroutine

options: dict[str, Any] = json.loads(os.environ["POOL_TEST"])
if options["install_transport"]:
    kombu_transport.install()
app = Celery("pool_test", broker=options["broker"])
app.conf.update(options["conf"])


def record(kind: str, *details: object) -> None:
    with Path(options["log"]).open("a") as log:
        log.write(json.dumps([kind, *details]) + "\n")


async def hold(name: str, seconds: float) -> None:
    record("begins", name)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        record("cancelled", name)
        raise
    record("ends", name)


@app.task(name="nap")
def nap(name: str, seconds: float) -> str:
    await_coroutine(hold(name, seconds))
    return name


@app.task(bind=True, name="who_am_i")
def who_am_i(self: Any) -> None:
    """Records its id between awaits, as its request and Celery's current task have it."""
    ids = [self.request.id]
    for _ in range(2):
        await_coroutine(asyncio.sleep(0.01))
        ids += [self.request.id, current_task.request.id]
    record("ends", *ids)


@worker_ready.connect
def _ready(**_: Any) -> None:
    record("ready")


if __name__ == "__main__":
    worker = app.Worker(**options["options"])
    worker.start()
    sys.exit(worker.exitcode)
