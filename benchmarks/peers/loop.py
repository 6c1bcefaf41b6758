"""A bare asyncio loop: `python -m benchmarks.peers.loop floor|gather JOBS IN_FLIGHT RUN_S`.

floor   SDK on aiohttp; create thread, create run, one poll exactly at its end, messages, steps
gather  `asyncio.gather` over `create_and_run_poll`, SDK defaults, then messages and steps
"""

import asyncio
import json
import os
import resource
import sys
import time
import warnings
from typing import Any

from openai import AsyncOpenAI, DefaultAioHttpClient

warnings.simplefilter("ignore", DeprecationWarning)  # of the Assistants API
QUESTION = "What is 12 * 34?"


async def _read(client: AsyncOpenAI, thread_id: str, run_id: str) -> str:
    messages = await client.beta.threads.messages.list(thread_id, run_id=run_id, order="asc", limit=100)
    steps = await client.beta.threads.runs.steps.list(run_id, thread_id=thread_id, order="asc", limit=100)
    assert steps.data
    part: Any = messages.data[0].content[0]
    return str(part.text.value)


async def _floor(client: AsyncOpenAI, assistant: str, run_s: float) -> str:
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": QUESTION}])
    run = await client.beta.threads.runs.create(thread.id, assistant_id=assistant)
    await asyncio.sleep(run_s)
    while run.status in {"queued", "in_progress"}:
        run = await client.beta.threads.runs.retrieve(run.id, thread_id=thread.id)
    return await _read(client, thread.id, run.id)


async def _gather(client: AsyncOpenAI, assistant: str, _run_s: float) -> str:
    run = await client.beta.threads.create_and_run_poll(
        assistant_id=assistant, thread={"messages": [{"role": "user", "content": QUESTION}]}
    )
    return await _read(client, run.thread_id, run.id)


async def main(kind: str, jobs: int, in_flight: int, run_s: float) -> None:
    ask = _floor if kind == "floor" else _gather
    options: dict[str, Any] = {"http_client": DefaultAioHttpClient()} if kind == "floor" else {}
    slots = asyncio.Semaphore(in_flight)
    async with AsyncOpenAI(**options) as client:
        assistant = (await client.beta.assistants.create(model="gpt-5-mini")).id

        async def one() -> None:
            async with slots:
                assert await ask(client, assistant, run_s)

        await asyncio.gather(*(one() for _ in range(20)))  # the SDK builds its models at first use
        cpu_s, start = sum(os.times()[:2]), time.perf_counter()
        await asyncio.gather(*(one() for _ in range(jobs)))
        wall_s, used_s = time.perf_counter() - start, sum(os.times()[:2]) - cpu_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"wall_s": wall_s, "cpu_s": used_s, "peak_kb": peak}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
