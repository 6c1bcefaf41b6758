"""Random results like those of workers, for measurements and for training `jobs/store/result.zdict`.

`python -m benchmarks.samples FILE` trains a dictionary. A new `jobs/store/result.zdict` needs a new
SCHEMA_VERSION (jobs/store/keys.py), because no stored result can be read with another dictionary.
"""

import random
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import zstandard

from askmill.jobs.model.models import Attempt, JobStatus, Result, Step, Usage
from askmill.jobs.store.codec import serialize_result

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MODELS = ("gpt-5-mini", "gpt-5", "gpt-5-nano", "gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "o4-mini")
ENDINGS = {
    JobStatus.FAILED: ("server_error", "rate_limit_exceeded", "deadline", "no_message", "schema"),
    JobStatus.INCOMPLETE: ("max_completion_tokens", "max_prompt_tokens", "content_filter"),
    JobStatus.EXPIRED: ("expired",),
}
DICTIONARY_BYTES, TRAINED_ON = 8192, 8000

StepContent = tuple[str, dict[str, Any]]
"""A step's type and details."""


def computed(row: int, chance: random.Random) -> Result:
    """A result of the Assistants API with a code interpreter step and an answer of about 40 characters."""
    answer = f"{row:07} times 34 is {row * 34}; I computed it."
    code = {"code": f"print({row} * 34)", "logs": str(row * 34), "images": []}
    return _assistants(row, chance, answer, [("code_interpreter", code)])


def _assistants(row: int, chance: random.Random, answer: str, steps_before: list[StepContent]) -> Result:
    thread, run, message = (_id(chance, kind, 24) for kind in ("thread", "run", "msg"))
    result = _result(row, chance, answer, (thread, run))
    attempt, message_step = result.attempts[-1], ("message", {"message_id": message, "text": answer})
    began, ended = int(attempt.started_at or 0), int(attempt.finished_at or 0)
    steps = [
        Step(run, 1, kind, "completed", began, ended, _usage(chance), details)
        for kind, details in [*steps_before, message_step]
    ]
    return replace(result, steps=tuple(steps))


def _responses(row: int, chance: random.Random, answer: str, steps_before: list[StepContent]) -> Result:
    """A result of the Responses API, whose steps have neither times nor tokens."""
    conversation, run, message = (_id(chance, kind, 48) for kind in ("conv", "resp", "msg"))
    message_step = ("message", {"message_id": message, "text": answer})
    steps = [
        Step(run, 1, kind, "completed", details=details) for kind, details in [*steps_before, message_step]
    ]
    return replace(_result(row, chance, answer, (conversation, run)), steps=tuple(steps))


def _result(row: int, chance: random.Random, answer: str, ids: tuple[str, str]) -> Result:
    began = round(1_760_000_000 + chance.random() * 60_000_000, 3)
    ended, usage = round(began + chance.uniform(1, 60), 3), _usage(chance)
    cost_usd = ((usage.prompt_tokens or 0) * 0.25 + (usage.completion_tokens or 0) * 2) / 1_000_000
    return Result(
        row,
        JobStatus.COMPLETED,
        answer,
        attempts=(Attempt(1, *ids, "completed", None, began, ended, usage, cost_usd),),
        thread_id=ids[0],
        run_id=ids[1],
        model="gpt-5-mini",
        usage=usage,
        cost_usd=cost_usd,
        duration_s=round(ended - began, 3),
    )


def _usage(chance: random.Random) -> Usage:
    return Usage(chance.randint(40, 2000), chance.randint(8, 700))


def _id(chance: random.Random, kind: str, length: int) -> str:
    letters = LETTERS if length < 30 else "0123456789abcdef"
    return f"{kind}_{''.join(chance.choices(letters, k=length))}"


def varied(row: int, chance: random.Random, words: list[str]) -> Result:
    """Any kind of result: of either API, with any steps, of any ending, asked once or twice."""

    def text(longest: int) -> str:
        return " ".join(chance.choices(words, k=chance.randint(2, longest)))

    file = {"file_id": _id(chance, "file-", 22).replace("_", ""), "filename": f"{chance.choice(words)}.pdf"}
    number, name = chance.randint(1, 10**6), chance.choice(words)
    lines = chance.choice((f"{name} = {number} + 1\nprint({name})", f"print({number} / 7)", f"{number} ** 2"))
    code = {"code": lines, "logs": str(number + 1), "images": []}
    kinds: list[StepContent] = [
        ("code_interpreter", code),
        ("file_search", {"queries": [text(5)], "results": [{**file, "score": round(chance.random(), 3)}]}),
        ("function", {"name": "look_up", "arguments": '{"name": "' + text(3) + '"}', "output": text(6)}),
        ("reasoning", {"text": ""}),
        ("web_search", {"action": "search", "queries": [text(4)], "results": [], "url": None}),
    ]
    steps = [kind for kind in kinds if chance.random() < (0.6 if kind is kinds[0] else 0.15)]
    make = chance.choice((_assistants, _responses))
    result = make(row, chance, text(chance.choice((6, 12, 60))), steps)
    result = replace(result, model=chance.choice(MODELS))
    if chance.random() < 0.08:
        result = replace(result, citations=({"index": 1, **file},), files=({**file, "number": 0},))
    if chance.random() < 0.15:
        status = chance.choice(list(ENDINGS))
        error = chance.choice(ENDINGS[status])
        lost = replace(result.attempts[0], status=status.value, error=error)
        again = replace(result.attempts[0], number=2)
        result = replace(result, attempts=chance.choice(((lost,), (lost, again))))
        if len(result.attempts) == 1:
            result = replace(result, status=status, error=error, answer="", steps=())
    return result


def main(into: Path) -> None:
    """Train a dictionary; the words of the docs serve as words of answers."""
    chance = random.Random(7)
    docs = "".join(page.read_text() for page in sorted(Path("docs").glob("*.md")))
    words = re.findall(r"[A-Za-z]{2,12}[.,]?", docs)
    texts = [serialize_result(varied(row, chance, words)) for row in range(1, TRAINED_ON + 1)]
    into.write_bytes(zstandard.train_dictionary(DICTIONARY_BYTES, texts, level=3).as_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
