"""async-batch-llm on a CSV, with its JSONL checkpoints and their resume."""

import asyncio
import csv
import os
from pathlib import Path

from asked import measure, prompts_of
from async_batch_llm import ArtifactIdentity, JsonlArtifactStore, ResumePolicy, llm, process_prompts

MODEL = "gpt-5-mini"


async def _ask(questions: Path, answers: Path, in_flight: int) -> int:
    model = llm(f"openai-compatible:{MODEL}", base_url=os.environ["OPENAI_BASE_URL"], api_key="offline")
    identity = ArtifactIdentity(
        provider="mock", model=MODEL, prompt_version="1", parser_version="1", application_version="1"
    )
    batch = await process_prompts(
        model,
        prompts_of(questions),
        concurrency=in_flight,
        artifact_store=JsonlArtifactStore(f"{answers}.jsonl", identity=identity),
        resume=ResumePolicy.REUSE_SUCCESSES,
    )
    texts = [result.output for result in batch.results if result.output]
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows([text] for text in texts)
    return len(texts)


if __name__ == "__main__":
    measure(lambda questions, answers, in_flight: asyncio.run(_ask(questions, answers, in_flight)))
