"""Tokens per second of a real model: askmill beside a bare client with as many calls at once.

The server is llama.cpp's in Python with SmolLM2-135M (`--python` names its environment, see
tests/real/conftest.py). Without randomness both clients get the same texts, so the tokens are those that the
bare client counts: a chunk each. The two take turns, because the model is all that takes time, and other
programs slow it down.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from askmill.jobs.model.profile import Profile
from benchmarks.measure import Load
from tests.helpers.llama_server import MODEL, LlamaServer
from tests.stack import Stack

PLACES = ("France", "Italy", "Spain", "Japan", "Peru", "Kenya", "Egypt", "Chile")
MAX_TOKENS = 24
TIME_LIMIT_S = 1200


@dataclass(frozen=True)
class Round:
    """One round of both: tokens of all answers, and seconds to the last (askmill from the submission)."""

    tokens: int
    bare_s: float
    askmill_s: float

    @property
    def ratio(self) -> float:
        """Tokens per second of askmill divided by the bare client's."""
        return self.bare_s / self.askmill_s


def main(python: str | None, load: Load, rounds: int) -> list[dict[str, object]]:
    """Measure both in turn; print tokens per second and the ratio, and return the rounds."""
    assert python, "name the environment of the server: --python PATH (tests/real/conftest.py)"
    measured = list[Round]()
    with tempfile.TemporaryDirectory() as name, Stack(Path(name), api="chat") as stack:
        server = LlamaServer.of(python, Path(name) / "server.log")
        server.start()
        stack.base_url = server.base_url
        try:
            stack.worker(load.in_flight)
            questions = [_question(number) for number in range(load.jobs)]
            _bare(server.base_url, questions[:1], 1)  # its first call is slower
            for _ in range(rounds):
                tokens, bare_s, texts = _bare(server.base_url, questions, load.in_flight)
                measured.append(Round(tokens, bare_s, asyncio.run(_askmill(stack, questions, texts))))
                _print(measured[-1], load)
        finally:
            server.child.kill()
    print(f"median ratio {median(one.ratio for one in measured):.3f}")
    return [asdict(one) for one in measured]


def _question(number: int) -> str:
    return f"Tell me {number + 2} things about {PLACES[number % len(PLACES)]}."


def _bare(url: str, questions: list[str], in_flight: int) -> tuple[int, float, list[str]]:
    bodies = [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
        }
        for question in questions
    ]
    command = [sys.executable, "-m", "benchmarks.peers.stream_loop", str(in_flight)]
    env = {**os.environ, "OPENAI_BASE_URL": url}
    done = subprocess.run(
        command, env=env, input=json.dumps(bodies), check=True, capture_output=True, text=True
    )
    figures = json.loads(done.stdout)
    texts, tokens = zip(*figures["answers"], strict=True)
    return sum(tokens), figures["wall_s"], list(texts)


async def _askmill(stack: Stack, questions: list[str], texts: list[str]) -> float:
    profile = Profile(model=MODEL, max_completion_tokens=MAX_TOKENS, temperature=0)
    submitted_at_s = time.time()
    batch = await stack.submit(questions, profile)
    view = await stack.wait_for(batch, timeout_s=TIME_LIMIT_S)
    answers = [row.result.answer if row.result else None for row in await stack.rows(batch)]
    if answers != texts:
        equal = sum(map(str.__eq__, map(str, answers), texts))
        print(f"only {equal} of {len(texts)} answers are equal: compare with care", file=sys.stderr)
    assert view.batch.finished_at_ms
    return view.batch.finished_at_ms / 1000 - submitted_at_s


def _print(one: Round, load: Load) -> None:
    rates = f"bare {one.tokens / one.bare_s:.1f} tokens/s, askmill {one.tokens / one.askmill_s:.1f}"
    print(f"{load.jobs} rows, {load.in_flight} in flight: {rates}, ratio {one.ratio:.3f}", flush=True)
