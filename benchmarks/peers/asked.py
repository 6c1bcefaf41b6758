"""What the peers that answer a CSV share: questions, a measured pass after a warm one, figures as JSON.

Each peer runs in its own environment, so this imports nothing but Python's own.
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
"""Answers the questions of one CSV into another file, so many at once."""


def questions(path: Path, rows: int) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "question"])
        table.writerows([number, f"What is {number} * 34?"] for number in range(rows))
    return path


def measure(ask: Ask) -> None:
    """`SCRIPT JOBS IN_FLIGHT`: 20 rows to warm up, then the measured pass; children's CPU counts too."""
    jobs, in_flight = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        ask(questions(at / "warm.csv", 20), at / "warm.out", in_flight)
        file = questions(at / "questions.csv", jobs)
        cpu, began = sum(os.times()[:4]), time.perf_counter()
        ask(file, at / "answers.out", in_flight)
        took, used = time.perf_counter() - began, sum(os.times()[:4]) - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"wall_s": took, "cpu_s": used, "peak_kb": peak}))
