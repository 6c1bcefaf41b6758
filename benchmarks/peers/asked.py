"""Shared by the peers that answer a CSV: questions, a measured pass, a pass that may be killed, JSON figures.

Each peer runs in its own environment, so this module imports only the standard library.
"""

import csv
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Ask = Callable[[Path, Path, int], int]
"""Answers the questions of one CSV, with this many requests in flight; returns how many rows have an answer.

The second path is the peer's own: a file or folder that it may keep its progress in.
"""


def questions(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "question"])
        table.writerows([number, f"What is {number} * 34?"] for number in range(rows))
    return path


def prompts_of(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["question"] for row in csv.DictReader(file)]


def measure(ask: Ask) -> None:
    """`SCRIPT JOBS IN_FLIGHT [FOLDER]`.

    Without a folder: 20 rows of warm-up, then the measured pass; CPU includes children. With a folder: one
    pass whose progress stays there, so that the same command goes on after a kill, as far as the peer can.
    """
    jobs, in_flight = int(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        folder = Path(sys.argv[3])
        file = folder / "questions.csv"
        rows = ask(file if file.exists() else questions(file, jobs), folder / "answers.out", in_flight)
        print(json.dumps({"rows": rows}))
        return
    with tempfile.TemporaryDirectory() as folder_name:
        work = Path(folder_name)
        ask(questions(work / "warm.csv", 20), work / "warm.out", in_flight)
        file = questions(work / "questions.csv", jobs)
        cpu_s, start = sum(os.times()[:4]), time.perf_counter()
        rows = ask(file, work / "answers.out", in_flight)
        wall_s, used_s = time.perf_counter() - start, sum(os.times()[:4]) - cpu_s
    assert rows == jobs, f"{rows} of {jobs} rows have an answer"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"wall_s": wall_s, "cpu_s": used_s, "peak_kb": peak}))
