"""Start times: `askmill --help` compared with `python -c pass`, and `askmill run` up to its first create."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.stack import Stack

ASKMILL = (str(Path(sys.executable).with_name("askmill")),)
IMPORT = (sys.executable, "-c", "import openai, celery")
COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "askmill --help": (*ASKMILL, "--help"),
    "askmill run --help": (*ASKMILL, "run", "--help"),
    "import openai, celery": IMPORT,
}


def _cpu_s(command: Sequence[str]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime


def _wall_s(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def _cold_s(stack: Stack, folder: Path) -> float:
    """Seconds from the command to the first run at the emulator, Redis and worker started by it."""
    before = stack.stats()["runs_created"]
    folder.mkdir()
    (folder / "questions.csv").write_text("question\nWhat is 1 + 1?\n")
    unset = {"ASKMILL_REDIS_URL", "ASKMILL_DATA_DIR"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env |= {"OPENAI_BASE_URL": stack.base_url, "OPENAI_API_KEY": "offline", "ASKMILL_API": stack.api}
    env["ASKMILL_DATA_DIR"] = str(folder / "data")
    start = time.perf_counter()
    command = [*ASKMILL, "run", "questions.csv"]
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while stack.stats()["runs_created"] == before:
            assert process.poll() is None or stack.stats()["runs_created"] > before, "it ended without a run"
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        process.wait(60)


def main(rounds: int) -> dict[str, float]:
    """The minimum of some rounds, in seconds."""
    cpu_times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cold, wall = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        for number in range(rounds):
            for name, command in COMMANDS.items():
                cpu_times[name].append(_cpu_s(command))
            wall.append(_wall_s(IMPORT))
            cold.append(_cold_s(stack, Path(folder) / f"cold-{number}"))
    minimum = {name: min(times) for name, times in cpu_times.items()}
    for name, cpu_s in minimum.items():
        print(f"{name:24}{1000 * cpu_s:8.0f} ms of CPU{cpu_s / minimum['python -c pass']:8.1f}")
    ratio = min(cold) / min(wall)
    print(
        f"cold `askmill run` to the first run: {min(cold):.2f} s; the import: {min(wall):.2f} s; {ratio:.1f}"
    )
    return {**minimum, "cold_run_s": min(cold), "import_wall_s": min(wall)}
