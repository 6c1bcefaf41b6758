"""A batch played while the API misbehaves, and every row checked against what the server really holds.

`Scene` says what goes wrong; `play` asks the questions and returns `Played`; `faults_of` lists what is wrong.
The truth about each run is read from the emulator by its id once the faults are over.
"""

import csv
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from askmill.jobs.model.models import Api, Attempt, JobStatus, Result
from askmill.jobs.store.records import StatusView
from tests.stack import Child, Stack
from tests.support import wait_until

KINDS = ("rate_429", "rate_500", "rate_503", "drop_before", "drop_after")
OUTCOMES: dict[Api, tuple[str, ...]] = {
    "assistants": (
        "expired",
        "failed(server_error)",
        "failed(rate_limit_exceeded)",
        "failed(invalid_prompt)",
        "incomplete(max_completion_tokens)",
    ),
    "responses": (
        "failed(server_error)",
        "failed(rate_limit_exceeded)",
        "failed(invalid_prompt)",
        "incomplete(max_completion_tokens)",
        "incomplete(content_filter)",
    ),
}
"""Endings that each API has; `expired` is none of Responses'."""
GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.csv"
ADOPTED = {"completed", "incomplete"}
"""An answer taken from its conversation, whose items tell neither the response's id nor why it was cut off."""
RETRIED = {"expired", "server_error", "rate_limit_exceeded"}
MOST_ATTEMPTS = 3


def gsm8k(rows: int | None = None) -> list[str]:
    """The questions of GSM8K's test set (1,319), or the first of them."""
    if not GSM8K.exists():
        pytest.skip(f"{GSM8K.name} is not here (it lies beside the repository, in shared/data)")
    with GSM8K.open(encoding="utf-8", newline="") as file:
        return [row["question"] for row in csv.DictReader(file)][:rows]


@dataclass(frozen=True)
class Scene:
    """What goes wrong. `http`: share of requests that meet any fault, every kind alike; `outcomes`: share of runs.

    `create_limit_s` shortens how long a create without a reply is looked for (the worker's own: 60 s).
    """

    http: float = 0.2
    outcomes: float = 0.2
    kinds: tuple[str, ...] = KINDS
    late_s: float = 0.0
    run_s: float = 0.2
    only: tuple[str, ...] = ()
    create_limit_s: float | None = None

    def toml(self, api: Api) -> str:
        """The scenario, for the emulator."""
        faults = [f"{kind} = {self.http / len(self.kinds):.6f}" for kind in self.kinds]
        endings = [f'"{outcome}" = {self.outcomes / 5:.6f}' for outcome in OUTCOMES[api]]
        lines = ["[latency]", f"median_s = {self.run_s}", "sigma = 0.5", "[outcomes]", *endings]
        lines += ["[http]", *faults, "retry_after_s = 0.1", f"late_s = {self.late_s}"]
        return "\n".join([*lines, f"only = {json.dumps(self.only)}"])


@dataclass(frozen=True)
class Played:
    """What came of it. `runs`: the server's own object of every run that a result names, by id."""

    api: Api
    batch: str
    results: list[Result]
    status: StatusView
    stats: dict[str, Any]
    logs: dict[int, list[dict[str, Any]]]
    runs: dict[str, dict[str, Any]] = field(repr=False)
    took_s: float = 0.0

    def made(self, row: int) -> int:
        """Runs that the emulator made for a row."""
        return int(self.stats["runs_by_job"].get(f"{self.batch}:{row}", 0))

    @property
    def surplus(self) -> dict[int, int]:
        """Rows with more runs at the emulator than attempts in their result, and how many more."""
        more = {result.row: self.made(result.row) - result.attempt_count for result in self.results}
        return {row: count for row, count in more.items() if count > 0}

    @property
    def unknown_creates(self) -> int:
        return int(self.status.to_json()["unknown_creates"])


def hasty_worker(mill: Stack, scene: Scene, concurrency: int) -> Child:
    """A real worker that tells everything in its log, and looks for lost creates as long as the scene says."""
    worker = mill.worker(concurrency, ASKMILL_LOG_LEVEL="debug")
    if scene.create_limit_s is None:
        return worker
    worker.kill()
    worker.command[2:4] = [str(Path(__file__).parent / "workers" / "hasty_worker.py")]
    worker.env["HASTY_CREATE_LIMIT_S"] = str(scene.create_limit_s)
    return worker.start()


async def play(
    folder: Path, api: Api, questions: Sequence[str], scene: Scene, timeout_s: float = 100
) -> Played:
    """Ask the questions amid the scene's faults, to the end of the batch; then peace, and a look at the truth."""
    with Stack(folder, api=api, scenario=scene.toml(api)) as mill:
        started = time.monotonic()
        hasty_worker(mill, scene, concurrency=400)
        batch = await mill.submit(questions)
        status = await mill.wait_for(batch, timeout_s=timeout_s)
        took_s = time.monotonic() - started
        mill.scenario("")
        over_s = time.monotonic() + scene.late_s
        wait_until(lambda: time.monotonic() >= over_s, "what comes late has come", scene.late_s + 5)
        results = [row.result for row in await mill.rows(batch) if row.result]
        runs = dict(_truth(mill, results))
        logs = _logs(mill.workers[0].log)
        return Played(api, batch, results, status, mill.stats(), logs, runs, took_s)


def _truth(mill: Stack, results: Sequence[Result]) -> Iterator[tuple[str, dict[str, Any]]]:
    headers = {"Authorization": "Bearer offline", "OpenAI-Beta": "assistants=v2"}
    with httpx2.Client(headers=headers) as client:
        for attempt in (attempt for result in results for attempt in result.attempts if attempt.run_id):
            where = f"threads/{attempt.thread_id}/runs" if mill.api == "assistants" else "responses"
            reply = client.get(f"{mill.base_url}/{where}/{attempt.run_id}")
            yield attempt.run_id or "", reply.raise_for_status().json()


def _logs(file: Path) -> dict[int, list[dict[str, Any]]]:
    """The worker's log lines of each row, as written."""
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in file.read_text().splitlines():
        if line.startswith("{") and "row" in (said := json.loads(line)):
            rows[said["row"]].append(said)
    return rows


# ── what is wrong with it ──


def faults_of(played: Played, questions: Sequence[str]) -> list[str]:
    """Everything that is not as CONTRACT says; empty when all is well."""
    faults = []
    if [result.row for result in played.results] != list(range(1, len(questions) + 1)):
        faults.append("rows are missing or out of order")
    for result in played.results:
        faults += [f"row {result.row}: {fault}" for fault in _faults_of_row(played, result)]
    return faults


def _faults_of_row(played: Played, result: Result) -> Iterator[str]:
    yield from _ledger_faults(played, result)
    yield from _log_faults(played, result)
    endings = [_ending(attempt) for attempt in result.attempts]
    if not endings:
        yield f"no attempt, {result.status}"
        return
    status, error = _expected(endings[-1])
    if (result.status, (result.error or "").split(":")[0]) != (status, error):
        yield f"{result.status} {result.error}, but its last run ended {endings[-1]}"
    if any(ending not in RETRIED for ending in endings[:-1]):
        yield f"asked again after {endings}"
    if endings[-1] in RETRIED and len(endings) < MOST_ATTEMPTS:
        yield f"given up after {endings}"
    if status in {JobStatus.COMPLETED, JobStatus.INCOMPLETE} and not result.answer:
        yield "no answer"


def _ledger_faults(played: Played, result: Result) -> Iterator[str]:
    """Each attempt is a run of the server's, each run of the server's an attempt."""
    for attempt in result.attempts:
        truth = played.runs.get(attempt.run_id or "")
        if truth is None and not (played.api == "responses" and attempt.status in ADOPTED):
            yield f"attempt {attempt.number} has no run"
        elif truth is not None and truth["status"] != attempt.status:
            yield f"attempt {attempt.number} is {attempt.status}, at the server {truth['status']}"
    made, counted = played.made(result.row), result.attempt_count
    if counted > MOST_ATTEMPTS or made < counted or (played.api == "assistants" and made != counted):
        yield f"{made} runs made, {counted} attempts recorded"


def _log_faults(played: Played, result: Result) -> Iterator[str]:
    """The row's lines: each attempt's run, then its end; at last, once, how the row ended."""
    said = [line for line in played.logs[result.row] if line["event"] in STORY]
    if [line["timestamp"] for line in said] != sorted(line["timestamp"] for line in said):
        yield "its log is out of order"
    each = [(line["event"], line.get("run")) for line in said]
    # A row that changed hands tells its run again.
    told = [pair for pair, before in zip(each, [None, *each], strict=False) if pair != before]
    runs = [attempt.run_id for attempt in result.attempts]
    wanted = [pair for run in runs for pair in (("run.known", run), ("attempt.ended", run))]
    if wanted:
        wanted[-1] = ("job.finished", runs[-1])
    if [pair for pair in told if pair != ("run.known", None)] != [
        w for w in wanted if w != ("run.known", None)
    ]:
        yield f"its log tells {told}, its attempts were {runs}"


STORY = {"run.known", "attempt.ended", "job.finished"}


def _ending(attempt: Attempt) -> str:
    code = (attempt.error or "").split(":")[0]
    return code if attempt.status in {"failed", "incomplete"} else attempt.status


def _expected(ending: str) -> tuple[JobStatus, str]:
    if ending == "completed":
        return JobStatus.COMPLETED, ""
    if ending == "expired":
        return JobStatus.EXPIRED, ""
    if ending.startswith(("max_", "content_filter", "incomplete")):
        return JobStatus.INCOMPLETE, ending
    return JobStatus.FAILED, ending


def told(played: Played) -> str:
    """The figures, a line each."""
    faulted = Counter(
        line["fault"].split(":")[0]
        for lines in played.logs.values()
        for line in lines
        if line["event"] == "request.failed"
    )
    attempts = sum(result.attempt_count for result in played.results)
    counts = Counter(result.status.value for result in played.results)
    adopted = sum(1 for result in played.results for attempt in result.attempts if not attempt.run_id)
    lines = {
        "rows": f"{len(played.results)} in {played.took_s:.0f} s",
        "statuses": ", ".join(f"{name} {count}" for name, count in counts.most_common()),
        "requests that failed": ", ".join(f"{name} {count}" for name, count in faulted.most_common()),
        "requests at the server": sum(played.stats["requests"].values()),
        "attempts recorded": attempts,
        "runs made at the server": sum(played.stats["runs_by_job"].values()),
        "rows with more runs than attempts": f"{len(played.surplus)} ({sum(played.surplus.values())} runs)",
        "unknown_creates": played.unknown_creates,
        "answers adopted without their run's id": adopted,
    }
    return "\n".join(f"  {name:42}{value}" for name, value in lines.items())
