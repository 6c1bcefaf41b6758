"""Tier batch: GSM8K questions through the emulator's Batch API, beside the same rows in tier standard.

Requests by kind, creates, lines bought, doubles, cost, CPU and peak memory of client, worker, Redis and
emulator. `--kill N` kills worker, Redis and emulator at N random moments; `--lose-creates` loses the reply of
every create; `--at-once N` is an enqueued-token limit that has room for N full shards. Up to 20,000 rows are
also asked in tier standard: the results may differ only in ids, cost and time.
"""

import csv
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import redis

from askmill.jobs.store import keys
from benchmarks.files import measured
from benchmarks.measure import cpu_of, peak_of, pid_of
from tests.helpers.faulty_batch import GSM8K
from tests.stack import Child, Stack

ASKMILL = str(Path(sys.executable).with_name("askmill"))
MODEL = "gpt-5-mini"
SHARD_ROWS = 2000
COMPARED_ROWS = 20_000
DIFFERENT = frozenset({"thread_id", "run_id", "cost_usd", "duration_s"})
"""Columns that two tiers cannot share: ids of other objects, the price, the time."""
POLL = "GET /batches"
STEPS = ("POST /files", "POST /batches", POLL, "GET /files/{file_id}/content")
"""Requests on a shard's way: a kill comes at one of them."""
CURVE_LINES = 24
NAMES = ("worker", "redis", "emulator")
COLUMNS = (
    *("s", "rows", "shards", "used_mb", "peak_mb"),
    *(f"{name}_mb" for name in NAMES),
    *(f"{name}_cpu_s" for name in NAMES),
)
"""Of the curve. `used_mb`, `peak_mb`: of Redis' data, now and at most."""


@dataclass(frozen=True)
class Plan:
    """What is measured. `run_s`: the emulator's time for a batch; `at_once`: shards, 0: any number."""

    rows: int
    run_s: float
    kills: int = 0
    at_once: int = 0
    lose_creates: bool = False

    @property
    def list_s(self) -> float:
        """Between two lists: a twelfth of a batch's time, at least a second."""
        return max(1.0, self.run_s / 12)

    def scenario(self, tokens_a_row: float) -> str:
        limit = int(self.at_once * SHARD_ROWS * tokens_a_row)
        http = '[http]\ndrop_after = 1.0\nonly = ["POST /batches"]\n' if self.lose_creates else ""
        batches = (
            f"[batches]\nvalidate_s = {self.run_s / 10}\nrun_s = {self.run_s}\nenqueued_limit = {limit}\n"
        )
        return f"{http}{batches}"


@dataclass
class Meter:
    """CPU and peak memory of the three kinds of processes, over all their lives; and the curve of both."""

    stack: Stack
    batch: str
    rows: int
    cpu_s: dict[int, tuple[str, float]] = field(default_factory=dict)
    peak_kb: dict[str, int] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    printed: list[float] = field(default_factory=list)
    """The rows done in each line that was printed."""
    began: float = field(default_factory=time.monotonic)

    def sample(self) -> None:
        point = {"s": time.monotonic() - self.began}
        for name, child in zip(NAMES, self._children(), strict=True):
            with suppress(psutil.NoSuchProcess, FileNotFoundError, AssertionError):
                pid = pid_of(child)
                self.cpu_s[pid] = (name, cpu_of(pid))
                self.peak_kb[name] = max(self.peak_kb.get(name, 0), peak_of(pid))
                point[f"{name}_mb"] = psutil.Process(pid).memory_info().rss / 2**20
            point[f"{name}_cpu_s"] = sum(spent for kind, spent in self.cpu_s.values() if kind == name)
        with suppress(redis.RedisError), redis.Redis.from_url(self.stack.redis_url) as client:
            counters = client.hgetall(keys.part(self.batch, "counters"))
            point |= {"rows": float(counters.get(b"c", 0)), "shards": float(counters.get(b"open_shards", 0))}
            memory = client.info("memory")
            point |= {"used_mb": memory["used_memory"] / 2**20, "peak_mb": memory["used_memory_peak"] / 2**20}
        self.curve.append(point)
        self._print(point)

    def _children(self) -> tuple[Child, Child, Child]:
        return self.stack.workers[-1], self.stack.redis, self.stack.emulator

    def _print(self, point: dict[str, float]) -> None:
        """Print a point of the curve if enough rows have ended since the last line."""
        if not self.printed:
            print("".join(f"{name:>15}" for name in COLUMNS))
        if not self.printed or point.get("rows", 0.0) >= self.printed[-1] + self.rows / CURVE_LINES:
            self.printed.append(point.get("rows", 0.0))
            print("".join(f"{point.get(name, float('nan')):15,.0f}" for name in COLUMNS), flush=True)


def main(plan: Plan) -> dict[str, Any]:
    """Measure the plan; up to 20,000 rows also compare with tier standard. Print and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.csv"
        tokens_a_row = _write_questions(file, plan.rows)
        figures = _tier_batch(Path(folder), file, plan, tokens_a_row)
        _print(figures)
        if plan.rows <= COMPARED_ROWS:
            compared = _compare(Path(folder), file, figures)
            _print(compared)
            figures |= compared
    return figures


def _print(figures: dict[str, Any]) -> None:
    for what, value in figures.items():
        if isinstance(value, int | float):
            print(
                f"{what:44}{value:>16,.4f}" if isinstance(value, float) else f"{what:44}{value:>16,}",
                flush=True,
            )


# --- the file --------------------------------------------------------------------------------------------
def _write_questions(file: Path, rows: int) -> float:
    """GSM8K's questions, repeated; returns the tokens of a row, as the emulator counts them, on average."""
    from askmill.emulator.simulation.answer import count_tokens  # noqa: PLC0415 -- its limit counts so

    tokens = 0
    with file.open("w", newline="", encoding="utf-8") as target:
        table = csv.writer(target)
        table.writerow(["id", "question"])
        for number, question in enumerate(itertools.islice(itertools.cycle(_questions()), rows), 1):
            table.writerow([number, question])
            tokens += count_tokens(question)
    return tokens / rows


def _questions() -> list[str]:
    if not GSM8K.exists():
        return [f"What is {number} * 34? Show your reasoning in one sentence." for number in range(1319)]
    with GSM8K.open(encoding="utf-8", newline="") as file:
        return [row["question"] for row in csv.DictReader(file)]


# --- tier batch ------------------------------------------------------------------------------------------
def _tier_batch(folder: Path, file: Path, plan: Plan, tokens_a_row: float) -> dict[str, Any]:
    (folder / "batch").mkdir()
    scenario = plan.scenario(tokens_a_row)
    with Stack(folder / "batch", api="responses", scenario=scenario) as stack:
        env = {**os.environ, **stack.settings(), "ASKMILL_BATCH_LIST_S": str(plan.list_s)}
        submit, batch = _submit(env, file, "batch")
        meter = Meter(stack, batch, plan.rows)
        killed_at = _work(stack, meter, plan)
        answers = folder / "batch.csv"
        collect, _ = measured([ASKMILL, "collect", batch, "-o", str(answers)], env)
        figures = _figures(stack, meter, _status(env, batch), plan)
        return {
            "rows": plan.rows,
            **figures,
            "submit: peak MB": submit[1],
            "submit: CPU s": submit[0],
            "collect: peak MB": collect[1],
            "collect: CPU s": collect[0],
            "kills": len(killed_at),
            "curve": meter.curve,
            "answers": str(answers),
        }


def _submit(env: dict[str, str], file: Path, tier: str) -> tuple[tuple[float, float], str]:
    """CPU seconds and peak MB of the command, and the id of the batch."""
    used, output = measured([ASKMILL, "submit", str(file), "--tier", tier, "--model", MODEL], env)
    found = re.search(r"^b_[a-z0-9]+$", output, re.MULTILINE)
    assert found, output
    return used, found[0]


def _work(stack: Stack, meter: Meter, plan: Plan) -> list[float]:
    """Work to the batch's end, with kills on the way; returns the seconds of the kills."""
    worker_env = {"ASKMILL_BATCH_LIST_S": str(plan.list_s)}
    stack.worker(None, **worker_env)
    chance, killed_at = random.Random(plan.kills), list[float]()
    interval_s = 5.0 if plan.rows > COMPARED_ROWS else 0.5
    moment = _moment(stack, chance) if plan.kills else {}
    while not _is_done(stack, meter.batch):
        meter.sample()
        if len(killed_at) < plan.kills and _has_come(stack, moment):
            stack.crash()
            stack.worker(None, **worker_env)
            killed_at.append(time.monotonic() - meter.began)
            print(f"killed at {killed_at[-1]:.1f} s, due at {moment}", flush=True)
            moment = _moment(stack, chance)
        time.sleep(interval_s)
    meter.sample()
    return killed_at


def _moment(stack: Stack, chance: random.Random) -> dict[str, int]:
    """The next request of a random step, or the next but one; a list soon, where that step comes no more."""
    step, served = chance.choice(STEPS), _requests(stack)
    moment = {POLL: served.get(POLL, 0) + chance.randint(2, 6)}
    return moment | {step: served.get(step, 0) + chance.randint(1, 2)}


def _has_come(stack: Stack, moment: dict[str, int]) -> bool:
    served = _requests(stack)
    return any(served.get(step, 0) >= count for step, count in moment.items())


def _requests(stack: Stack) -> dict[str, int]:
    """Requests by kind. The emulator may be busy with lines for some seconds."""
    while True:
        with suppress(httpx2.HTTPError):
            return dict(stack.stats()["requests"])


def _is_done(stack: Stack, batch: str) -> bool:
    with suppress(redis.RedisError), redis.Redis.from_url(stack.redis_url) as client:
        return bool(client.hget(keys.batch(batch), "state") == b"done")
    return False


def _status(env: dict[str, str], batch: str) -> dict[str, Any]:
    done = subprocess.run([ASKMILL, "status", batch, "--json"], env=env, check=False, capture_output=True)
    return dict(json.loads(done.stdout))


def _figures(stack: Stack, meter: Meter, status: dict[str, Any], plan: Plan) -> dict[str, Any]:
    requests, ledger = _requests(stack), stack.ledger()
    lines, completed = ledger["lines"], status["counts"]["completed"]
    ended = dict[str, int]()
    for each in ledger["batches"]:
        ended[each["status"]] = ended.get(each["status"], 0) + 1
    figures: dict[str, Any] = {
        "rows lost": plan.rows - completed,
        "rows bought twice": len(lines["jobs_bought_again"]),
        "lines bought": lines["bought"],
        "lines bought twice": len(lines["bought_again"]),
        "creates": ledger["creates"],
        **{f"batches {state}": count for state, count in sorted(ended.items())},
        **{f"requests: {kind}": count for kind, count in sorted(requests.items())},
        "requests without lists": sum(requests.values()) - requests.get(POLL, 0),
        "unknown creates": status["unknown_creates"],
        "cost USD": status["cost_usd"],
        "wall s": meter.curve[-1]["s"],
    }
    for name in NAMES:
        figures[f"{name}: peak MB"] = meter.peak_kb[name] / 1024
        figures[f"{name}: CPU s"] = meter.curve[-1][f"{name}_cpu_s"]
        figures[f"{name}: CPU ms per row"] = 1000 * figures[f"{name}: CPU s"] / plan.rows
    figures["Redis: bytes per row"] = meter.curve[-1]["used_mb"] * 2**20 / plan.rows
    return figures


# --- tier standard ---------------------------------------------------------------------------------------
def _compare(folder: Path, file: Path, batch: dict[str, Any]) -> dict[str, Any]:
    """The same rows in tier standard: their cost, and where the results differ."""
    (folder / "standard").mkdir()
    with Stack(folder / "standard", api="responses") as stack:
        env = {**os.environ, **stack.settings()}
        _, standard = _submit(env, file, "standard")
        meter = Meter(stack, standard, batch["rows"])
        stack.worker(None)
        while not _is_done(stack, standard):
            meter.sample()
            time.sleep(0.5)
        meter.sample()
        answers = folder / "standard.csv"
        measured([ASKMILL, "collect", standard, "-o", str(answers)], env)
        cost_usd = _status(env, standard)["cost_usd"]
    differing = list(_differences(Path(batch["answers"]), answers))
    for line in differing[:5]:
        print(line)
    return {
        "standard: cost USD": cost_usd,
        "cost, batch to standard": batch["cost USD"] / cost_usd,
        "standard: wall s": meter.curve[-1]["s"],
        "standard: worker CPU ms per row": 1000 * meter.curve[-1]["worker_cpu_s"] / batch["rows"],
        "standard: worker peak MB": meter.peak_kb["worker"] / 1024,
        "rows that differ from standard": len(differing),
    }


def _differences(one: Path, other: Path) -> Iterator[str]:
    with one.open(newline="") as first, other.open(newline="") as second:
        for row, twin in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            different = [name for name in row if name not in DIFFERENT and row[name] != twin[name]]
            if different:
                words = [f"{name}: {row[name]!r}, {twin[name]!r}" for name in different]
                yield f"row {row['row']}: {', '.join(words)}"
