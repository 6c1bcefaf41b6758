"""loom-batch on a CSV: its threads (`--sync`), which take finished answers from its cache on disk."""

from pathlib import Path

from asked import measure, prompts_of
from loom import Loom


def _ask(questions: Path, answers: Path, in_flight: int) -> int:
    client = Loom("openai", "gpt-4o-mini", api_key="offline", workers=in_flight, cache_dir=str(answers))
    return sum(bool(result.text) for result in client.generate_many(prompts_of(questions)).results)


if __name__ == "__main__":
    measure(_ask)
