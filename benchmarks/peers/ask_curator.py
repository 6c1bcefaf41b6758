"""bespokelabs-curator on a CSV. Instead of the tokenizer that it downloads: one token per four characters."""

import csv
import os
from pathlib import Path

import tiktoken


class _Tokens:
    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * (len(text) // 4)


tiktoken.get_encoding = tiktoken.encoding_for_model = lambda _: _Tokens()
os.environ.update(CURATOR_DISABLE_CACHE="1", TELEMETRY_ENABLED="0", CURATOR_VIEWER="0")

from asked import measure  # noqa: E402
from bespokelabs import curator  # noqa: E402


def _ask(questions: Path, answers: Path, in_flight: int) -> None:
    with questions.open(newline="") as file:
        prompts = [row["question"] for row in csv.DictReader(file)]
    limits = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
    model = curator.LLM(
        model_name="gpt-4o-mini",
        backend="openai",
        backend_params={
            "base_url": os.environ["OPENAI_BASE_URL"],
            "max_concurrent_requests": in_flight,
            **limits,
        },
    )
    answered = model(prompts, working_dir=str(answers))
    rows = getattr(answered, "dataset", answered)
    assert len(rows) == len(prompts)


if __name__ == "__main__":
    measure(_ask)
