"""A CSV of questions, answered by public tools and by askmill: CPU per question and questions per second.

The tools request chat completions, one request per question, held open until its answer (`peers/chat.py`).
askmill creates a thread and a run, polls it, reads messages and steps, and stores everything (the emulator).
So the tools do less work per question.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks import speed
from benchmarks.measure import Load, Run, cpu_of, table
from benchmarks.peers.environments import python_of

PEERS = ("curator", "async_batch_llm", "inspect_ai")


@contextmanager
def _chat_server(run_s: float) -> Iterator[tuple[str, int]]:
    """URL and process id of a server of chat completions."""
    command = [sys.executable, "-m", "benchmarks.peers.chat", str(run_s)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip(), server.pid
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _peer(name: str, load: Load, url: str, server: int) -> Run | None:
    script = Path(__file__).parent / "peers" / f"ask_{name}.py"
    command = [python_of(name), str(script), str(load.jobs), str(load.in_flight)]
    env = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "offline"}
    before = cpu_of(server)
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=600)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        print(f"{name} ended with an error: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    figures = json.loads(lines[-1])
    return Run(name, load, emulator_cpu_s=cpu_of(server) - before, requests=1.0, **figures)


def main(load: Load, rounds: int) -> list[dict[str, object]]:
    """Measure all of them in turn; print the table and return its rows."""
    runs = speed.measured(load, rounds, {"askmill": speed.askmill})
    with _chat_server(load.run_s) as (url, server):
        for name in PEERS * rounds:
            run = _peer(name, load, url, server)
            if run is not None:
                runs.append(run)
                print(run, file=sys.stderr)
    table(runs, "askmill")
    return [asdict(run) for run in runs]
