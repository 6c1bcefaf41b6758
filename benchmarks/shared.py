"""A CSV of questions, answered by public tools and by askmill: CPU per question and questions per second.

All of them send the same chat completions, one per question and unstreamed, to one mock server
(`peers/chat.py`). askmill stores every row in Redis besides.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.chat import askmill, chat_server
from benchmarks.measure import Load, Run, cpu_of, table
from benchmarks.peers.environments import python_of, script_of
from tests.stack import Stack

PEERS = ("aiohttp", "curator", "async_batch_llm", "inspect_ai", "batchllm_ai", "loom_batch")


def _peer(name: str, load: Load, url: str, server: int) -> Run | None:
    command = [python_of(name), script_of(name), str(load.jobs), str(load.in_flight)]
    env = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "offline", "CURATOR_DISABLE_CACHE": "1"}
    before = cpu_of(server)
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=600)
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        print(f"{name} ended with an error: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    figures = json.loads(lines[-1])
    return Run(name, load, emulator_cpu_s=cpu_of(server) - before, requests=1.0, **figures)


def main(load: Load, rounds: int, peers: tuple[str, ...]) -> list[dict[str, object]]:
    """Measure all of them in turn; print the table and return its rows."""
    runs = list[Run]()
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder), api="chat") as stack,
        chat_server(load.run_s) as (url, server),
    ):
        stack.base_url = url
        for _ in range(rounds):
            measured = [
                askmill("whole", load, stack, server),
                *(_peer(name, load, url, server) for name in peers),
            ]
            runs += [run for run in measured if run is not None]
    for run in runs:
        print(run, file=sys.stderr)
    table(runs, "askmill whole")
    return [asdict(run) for run in runs]
