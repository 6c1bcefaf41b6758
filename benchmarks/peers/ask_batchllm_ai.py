"""batchllm-ai on a CSV, with its checkpoint file."""

import asyncio
import os
from pathlib import Path

from asked import measure, prompts_of
from batchllm import BatchConfig, BatchProcessor


def _ask(questions: Path, answers: Path, in_flight: int) -> int:
    config = BatchConfig(
        model="gpt-4o-mini",
        max_concurrent=in_flight,
        api_key="offline",
        base_url=os.environ["OPENAI_BASE_URL"],
    )
    processor = BatchProcessor(config)
    done = asyncio.run(processor.process_items(prompts_of(questions), checkpoint_path=answers))
    return sum(bool(result.output_text) for result in done)


if __name__ == "__main__":
    measure(_ask)
