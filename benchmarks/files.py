"""Big files: CPU and peak memory of `submit` and `collect`, compared with one pass that parses and validates.

`collect` is measured twice: for a batch of queued rows, and for one of completed rows (`collect, done`).
"""

import asyncio
import csv
import itertools
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from askmill.jobs.model.models import InputSpec
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import NewRow
from benchmarks.samples import computed
from tests.helpers.batches import new_batch
from tests.stack import Stack

Used = tuple[float, float]
"""CPU seconds and peak MB."""
PASS = """
import csv, sys
with open(sys.argv[1], newline="", encoding="utf-8-sig") as file:
    rows = csv.reader(file)
    width = len(next(rows))
    for row in rows:
        assert len(row) == width and row[1].strip() and not any("\\0" in cell for cell in row)
"""


LAUNCH = """
import os, sys
out = [(os.POSIX_SPAWN_DUP2, 2, 1)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=out)
_, status, used = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""A small parent process: the kernel's peak memory of a child starts at its parent's."""


def _file(path: Path, rows: int) -> Path:
    """Write a CSV of 99 bytes per row."""
    with path.open("w") as file:
        file.write("id,question,note\n")
        for number in range(rows):
            question = f"What is {number:07} * 34? Show your reasoning in one short sentence please"
            file.write(f"{number:07},{question:78.78},n{number % 1000:08}\n")
    return path


def _answered(file: Path) -> Iterator[NewRow]:
    chance = random.Random(7)
    with file.open(newline="") as rows:
        for row, cells in enumerate(itertools.islice(csv.reader(rows), 1, None), 1):
            yield NewRow(cells, reused_result=pack_result(computed(row, chance)))


async def _load(redis_url: str, file: Path) -> str:
    """Store a batch of completed rows in Redis, as workers would; return its id."""
    async with await Store.open(redis_url) as store:
        spec = InputSpec(columns=("id", "question", "note"), question_column="question")
        batch = await store.create_batch(new_batch(spec=spec))
        rows, first = _answered(file), 1
        while chunk := list(itertools.islice(rows, 4096)):
            await store.add_rows(batch, first, chunk)
            first += len(chunk)
        await store.seal_batch(batch)
    return batch


def _run(command: Sequence[str], env: dict[str, str]) -> Used:
    """Resources of a command, its start and its children included."""
    return measured(command, env)[0]


def measured(command: Sequence[str], env: dict[str, str]) -> tuple[Used, str]:
    """Resources of a command, and what it wrote to either of its outputs."""
    done = subprocess.run(
        [sys.executable, "-ISc", LAUNCH, *command], env=env, check=True, capture_output=True, text=True
    )
    code, cpu_s, peak_kb = done.stdout.split()[-3:]
    assert code in {"0", "4"}, done.stderr
    return (float(cpu_s), float(peak_kb) / 1024), done.stderr


def main(rows: int, rounds: int) -> dict[int, dict[str, Used]]:
    """The minimum CPU of some rounds; also for 1,000 rows, to compare the memory."""
    figures: dict[int, dict[str, Used]] = {}
    for size in (1000, rows):
        each = [_round(size) for _ in range(rounds)]
        figures[size] = {what: min(used[what] for used in each) for what in each[0]}
    print(f"{'rows':>10}{'':15}{'CPU s':>8}{'ratio':>8}{'peak MB':>9}")
    for size, used in figures.items():
        for what, (cpu_s, peak_mb) in used.items():
            print(f"{size:>10}{what:>15}{cpu_s:8.2f}{cpu_s / used['pass'][0]:8.1f}{peak_mb:9.1f}")
    return figures


def _round(rows: int) -> dict[str, Used]:
    """One round on a new Redis, because a file that is already stored is not read again."""
    askmill = str(Path(sys.executable).with_name("askmill"))
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        file, answers = _file(Path(folder) / "questions.csv", rows), f"{folder}/answers.csv"
        env = {**os.environ, **stack.settings()}
        used = {
            "pass": _run([sys.executable, "-c", PASS, str(file)], env),
            "submit": _run([askmill, "submit", str(file)], env),
            "collect": _run([askmill, "collect", "--out", answers], env),
        }
        batch = asyncio.run(_load(stack.redis_url, file))
        return {**used, "collect, done": _run([askmill, "collect", batch, "--out", answers], env)}
