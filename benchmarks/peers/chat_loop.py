"""Bare aiohttp: `python -m benchmarks.peers.chat_loop JOBS IN_FLIGHT whole|stream` asks OPENAI_BASE_URL.

It reads each answer, stores nothing and repeats nothing: what no client of this kind can do without.
"""

import asyncio
import json
import os
import resource
import sys
import time

import aiohttp
import orjson


async def _whole(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> str:
    async with session.post(url, data=orjson.dumps(body)) as reply:
        return str(orjson.loads(await reply.read())["choices"][0]["message"]["content"])


async def _stream(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> str:
    texts = []
    async with session.post(url, data=orjson.dumps({**body, "stream": True})) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                choices = orjson.loads(line[6:])["choices"]
                texts.extend(choice["delta"].get("content") or "" for choice in choices)
    return "".join(texts)


async def main(jobs: int, in_flight: int, kind: str) -> None:
    ask = _whole if kind == "whole" else _stream
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    slots = asyncio.Semaphore(in_flight)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one(number: int) -> None:
            message = {"role": "user", "content": f"What is {number} * 34?"}
            async with slots:
                assert await ask(session, url, {"model": "mock", "messages": [message]})

        await asyncio.gather(*(one(number) for number in range(20)))
        cpu_s, start = sum(os.times()[:2]), time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(jobs)))
        wall_s, used_s = time.perf_counter() - start, sum(os.times()[:2]) - cpu_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"wall_s": wall_s, "cpu_s": used_s, "peak_kb": peak}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
