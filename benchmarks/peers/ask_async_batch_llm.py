"""async-batch-llm on a CSV: one prompt per row, all answers in memory until the end."""

import asyncio
import csv
import os
from pathlib import Path

from asked import measure
from async_batch_llm import llm, process_prompts


async def _ask(questions: Path, answers: Path, in_flight: int) -> None:
    with questions.open(newline="") as file:
        prompts = [row["question"] for row in csv.DictReader(file)]
    model = llm("openai-compatible:gpt-5-mini", base_url=os.environ["OPENAI_BASE_URL"], api_key="offline")
    batch = await process_prompts(model, prompts, concurrency=in_flight)
    assert batch.succeeded == len(prompts), batch.summary()
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows([result.output] for result in batch.results)


if __name__ == "__main__":
    measure(lambda questions, answers, in_flight: asyncio.run(_ask(questions, answers, in_flight)))
