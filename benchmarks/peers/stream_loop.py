"""Bare aiohttp that streams chat completions: `python -m benchmarks.peers.stream_loop IN_FLIGHT < BODIES`.

Standard input is a JSON list of bodies. Prints the seconds that they took, and each answer with its chunks.
"""

import asyncio
import json
import os
import sys
import time

import aiohttp
import orjson


async def _answer(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> tuple[str, int]:
    texts = []
    async with session.post(url, data=orjson.dumps({**body, "stream": True})) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                choices = orjson.loads(line[6:])["choices"]
                texts.extend(text for choice in choices if (text := choice["delta"].get("content")))
    return "".join(texts), len(texts)


async def main(in_flight: int) -> None:
    bodies, slots = json.load(sys.stdin), asyncio.Semaphore(in_flight)
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    connector, headers = aiohttp.TCPConnector(limit=0), {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

        async def one(body: dict[str, object]) -> tuple[str, int]:
            async with slots:
                return await _answer(session, url, body)

        start = time.perf_counter()
        answers = await asyncio.gather(*map(one, bodies))
        wall_s = time.perf_counter() - start
    print(json.dumps({"wall_s": wall_s, "answers": answers}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
