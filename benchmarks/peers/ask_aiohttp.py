"""Bare aiohttp on a CSV: all answers in memory, written at the end. A second start begins anew."""

import asyncio
import csv
import json
import os
from pathlib import Path

import aiohttp
from asked import measure, prompts_of


async def _ask(questions: Path, answers: Path, in_flight: int) -> int:
    url, slots = f"{os.environ['OPENAI_BASE_URL']}/chat/completions", asyncio.Semaphore(in_flight)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def answer(prompt: str) -> str:
            body = {"model": "mock", "messages": [{"role": "user", "content": prompt}]}
            async with slots, session.post(url, data=json.dumps(body)) as reply:
                return str(json.loads(await reply.read())["choices"][0]["message"]["content"])

        texts = await asyncio.gather(*map(answer, prompts_of(questions)))
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows([text] for text in texts)
    return sum(map(bool, texts))


if __name__ == "__main__":
    measure(lambda questions, answers, in_flight: asyncio.run(_ask(questions, answers, in_flight)))
