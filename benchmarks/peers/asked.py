"""Shared by the peers that answer a CSV: questions, a measured pass after a warm-up, figures as JSON.

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

Ask = Callable[[Path, Path, int], None]
"""Answers the questions of one CSV into another file, with this many requests in flight."""


def questions(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "question"])
        table.writerows([number, f"What is {number} * 34?"] for number in range(rows))
    return path


def measure(ask: Ask) -> None:
    """`SCRIPT JOBS IN_FLIGHT`: 20 rows of warm-up, then the measured pass; CPU includes children."""
    jobs, in_flight = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        ask(questions(work / "warm.csv", 20), work / "warm.out", in_flight)
        file = questions(work / "questions.csv", jobs)
        cpu_s, start = sum(os.times()[:4]), time.perf_counter()
        ask(file, work / "answers.out", in_flight)
        wall_s, used_s = time.perf_counter() - start, sum(os.times()[:4]) - cpu_s
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"wall_s": wall_s, "cpu_s": used_s, "peak_kb": peak}))
