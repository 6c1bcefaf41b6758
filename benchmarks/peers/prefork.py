"""Celery prefork, one process per run: `asyncio.run` of the SDK's create_and_run_poll in each task.

`python -m benchmarks.peers.prefork PROCESSES` serves the broker PREFORK_BROKER until SIGTERM.
"""

import asyncio
import os
import sys
import warnings
from typing import Any

from celery import Celery
from openai import AsyncOpenAI

warnings.simplefilter("ignore", DeprecationWarning)  # of the Assistants API
app = Celery("prefork", broker=os.environ.get("PREFORK_BROKER"))
app.conf.update(worker_prefetch_multiplier=1, task_ignore_result=True)


@app.task(name="ask")
def ask(assistant: str, question: str, done: str) -> None:
    asyncio.run(_ask(assistant, question))
    with app.connection_for_write() as connection:
        connection.default_channel.client.incr(done)


async def _ask(assistant: str, question: str) -> str:
    async with AsyncOpenAI() as client:
        run = await client.beta.threads.create_and_run_poll(
            assistant_id=assistant, thread={"messages": [{"role": "user", "content": question}]}
        )
        messages = await client.beta.threads.messages.list(run.thread_id, run_id=run.id)
        steps = await client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id)
        assert steps.data
        part: Any = messages.data[0].content[0]
        return str(part.text.value)


if __name__ == "__main__":
    app.worker_main(["worker", "-P", "prefork", "-c", sys.argv[1], "--loglevel", "error"])
