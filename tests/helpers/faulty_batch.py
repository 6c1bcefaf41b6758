"""A batch that runs while the API has faults, and the check of every row against the emulator's own objects.

`FaultPlan` says what goes wrong, `run_batch` returns a `FinishedBatch`, and `find_violations` lists what is wrong
with it. Each run is read from the emulator by its id once the faults have ended.
"""

import csv
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from askmill.jobs.model.models import Api, Attempt, JobStatus, Result
from askmill.jobs.store.views import StatusView
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
"""The endings of each API; Responses has no `expired`."""
GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.csv"
ADOPTED = {"completed", "incomplete"}
"""Statuses of an answer adopted from its conversation, whose items have neither the response's id nor a reason."""
RETRIED = {"expired", "server_error", "rate_limit_exceeded"}
MAX_ATTEMPTS = 3


def gsm8k_table(rows: int | None = None) -> list[dict[str, str]]:
    """The first `rows` rows of GSM8K's test set, by default all 1,319: `question` and `answer`."""
    if not GSM8K.exists():
        pytest.skip(f"{GSM8K.name} is missing (it belongs beside the repository, in shared/data)")
    with GSM8K.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[:rows]


def gsm8k(rows: int | None = None) -> list[str]:
    """The questions of `gsm8k_table`."""
    return [row["question"] for row in gsm8k_table(rows)]


@dataclass(frozen=True)
class FaultPlan:
    """What goes wrong."""

    http: float = 0.2
    """Share of requests with a fault, each of `kinds` equally often."""
    outcomes: float = 0.2
    """Share of runs that do not complete."""
    kinds: tuple[str, ...] = KINDS
    late_s: float = 0.0
    run_s: float = 0.2
    only: tuple[str, ...] = ()
    create_limit_s: float | None = None
    """How long a worker looks for the run of a create without a reply, by default 60 s."""

    def toml(self, api: Api) -> str:
        """The emulator's scenario."""
        faults = [f"{kind} = {self.http / len(self.kinds):.6f}" for kind in self.kinds]
        endings = [f'"{outcome}" = {self.outcomes / 5:.6f}' for outcome in OUTCOMES[api]]
        lines = ["[latency]", f"median_s = {self.run_s}", "sigma = 0.5", "[outcomes]", *endings]
        lines += ["[http]", *faults, "retry_after_s = 0.1", f"late_s = {self.late_s}"]
        return "\n".join([*lines, f"only = {json.dumps(self.only)}"])


@dataclass(frozen=True)
class FinishedBatch:
    """The batch at its end. `runs` has the server's own object of every run in a result, by id."""

    api: Api
    batch_id: str
    results: list[Result]
    status: StatusView
    stats: dict[str, Any]
    logs: dict[int, list[dict[str, Any]]]
    runs: dict[str, dict[str, Any]] = field(repr=False)
    took_s: float = 0.0

    def runs_created(self, row: int) -> int:
        """The number of runs that the emulator created for a row."""
        return int(self.stats["runs_by_job"].get(f"{self.batch_id}:{row}", 0))

    @property
    def extra_runs(self) -> dict[int, int]:
        """Rows with more runs at the emulator than attempts in their result, and the difference."""
        extra = {result.row: self.runs_created(result.row) - result.attempt_count for result in self.results}
        return {row: count for row, count in extra.items() if count > 0}

    @property
    def unknown_creates(self) -> int:
        return int(self.status.to_json()["unknown_creates"])


def start_worker(stack: Stack, plan: FaultPlan, concurrency: int) -> Child:
    """Start a worker with debug logs and the plan's limit for lost creates."""
    worker = stack.worker(concurrency, ASKMILL_LOG_LEVEL="debug")
    if plan.create_limit_s is None:
        return worker
    worker.kill()
    worker.command[2:4] = [str(Path(__file__).parent / "workers" / "hasty_worker.py")]
    worker.env["HASTY_CREATE_LIMIT_S"] = str(plan.create_limit_s)
    return worker.start()


async def run_batch(
    folder: Path, api: Api, questions: Sequence[str], plan: FaultPlan, timeout_s: float = 100
) -> FinishedBatch:
    """Run the questions with the plan's faults to the end of the batch, then read the runs without faults."""
    with Stack(folder, api=api, scenario=plan.toml(api)) as stack:
        started = time.monotonic()
        start_worker(stack, plan, concurrency=400)
        batch_id = await stack.submit(questions)
        status = await stack.wait_for(batch_id, timeout_s=timeout_s)
        took_s = time.monotonic() - started
        stack.scenario("")
        late_until_s = time.monotonic() + plan.late_s
        wait_until(
            lambda: time.monotonic() >= late_until_s, "late requests have been carried out", plan.late_s + 5
        )
        results = [row.result for row in await stack.rows(batch_id) if row.result]
        runs = dict(_server_runs(stack, results))
        logs = _logs(stack.workers[0].log)
        return FinishedBatch(api, batch_id, results, status, stack.stats(), logs, runs, took_s)


def _server_runs(stack: Stack, results: Sequence[Result]) -> Iterator[tuple[str, dict[str, Any]]]:
    for attempt in (attempt for result in results for attempt in result.attempts if attempt.run_id):
        path = f"threads/{attempt.thread_id}/runs" if stack.api == "assistants" else "responses"
        reply = stack.request("GET", f"{path}/{attempt.run_id}")
        yield attempt.run_id or "", reply.raise_for_status().json()


def _logs(file: Path) -> dict[int, list[dict[str, Any]]]:
    """The worker's log lines by row, in order."""
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in file.read_text().splitlines():
        if line.startswith("{") and "row" in (event := json.loads(line)):
            rows[event["row"]].append(event)
    return rows


# ── violations ──


def find_violations(batch: FinishedBatch, questions: Sequence[str]) -> list[str]:
    """Everything that differs from CONTRACT; empty if nothing does."""
    violations = []
    if [result.row for result in batch.results] != list(range(1, len(questions) + 1)):
        violations.append("rows are missing or out of order")
    for result in batch.results:
        violations += [f"row {result.row}: {violation}" for violation in _row_violations(batch, result)]
    return violations


def _row_violations(batch: FinishedBatch, result: Result) -> Iterator[str]:
    yield from _attempt_violations(batch, result)
    yield from _log_violations(batch, result)
    endings = [_ending(attempt) for attempt in result.attempts]
    if not endings:
        yield f"no attempt, {result.status}"
        return
    status, error = _expected(endings[-1])
    if (result.status, (result.error or "").split(":")[0]) != (status, error):
        yield f"{result.status} {result.error}, but its last run ended {endings[-1]}"
    if any(ending not in RETRIED for ending in endings[:-1]):
        yield f"retried after {endings}"
    if endings[-1] in RETRIED and len(endings) < MAX_ATTEMPTS:
        yield f"not retried after {endings}"
    if status in {JobStatus.COMPLETED, JobStatus.INCOMPLETE} and not result.answer:
        yield "no answer"


def _attempt_violations(batch: FinishedBatch, result: Result) -> Iterator[str]:
    """Each attempt is a run of the server, and each run of the server is an attempt."""
    for attempt in result.attempts:
        run = batch.runs.get(attempt.run_id or "")
        if run is None and not (batch.api == "responses" and attempt.status in ADOPTED):
            yield f"attempt {attempt.number} has no run"
        elif run is not None and run["status"] != attempt.status:
            yield f"attempt {attempt.number} is {attempt.status}, at the server {run['status']}"
    created, counted = batch.runs_created(result.row), result.attempt_count
    if counted > MAX_ATTEMPTS or created < counted or (batch.api == "assistants" and created != counted):
        yield f"{created} runs created, {counted} attempts recorded"


def _log_violations(batch: FinishedBatch, result: Result) -> Iterator[str]:
    """The row's log: each attempt's run, then its end, and once, last, the end of the row."""
    lines = [line for line in batch.logs[result.row] if line["event"] in ROW_EVENTS]
    if [line["timestamp"] for line in lines] != sorted(line["timestamp"] for line in lines):
        yield "its log is out of order"
    events = [(line["event"], line.get("run")) for line in lines]
    # A row that changes workers logs its run again.
    logged = [event for event, previous in zip(events, [None, *events], strict=False) if event != previous]
    runs = [attempt.run_id for attempt in result.attempts]
    expected = [event for run in runs for event in (("run.observed", run), ("attempt.ended", run))]
    if expected:
        expected[-1] = ("job.finished", runs[-1])
    without_run = ("run.observed", None)
    if [e for e in logged if e != without_run] != [e for e in expected if e != without_run]:
        yield f"its log has {logged}, its attempts were {runs}"


ROW_EVENTS = {"run.observed", "attempt.ended", "job.finished"}


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


def summary(batch: FinishedBatch) -> str:
    """The figures of the batch, one a line."""
    failed_requests = Counter(
        line["fault"].split(":")[0]
        for lines in batch.logs.values()
        for line in lines
        if line["event"] == "request.failed"
    )
    attempts = sum(result.attempt_count for result in batch.results)
    counts = Counter(result.status.value for result in batch.results)
    adopted = sum(1 for result in batch.results for attempt in result.attempts if not attempt.run_id)
    lines = {
        "rows": f"{len(batch.results)} in {batch.took_s:.0f} s",
        "statuses": ", ".join(f"{name} {count}" for name, count in counts.most_common()),
        "requests that failed": ", ".join(f"{name} {count}" for name, count in failed_requests.most_common()),
        "requests at the server": sum(batch.stats["requests"].values()),
        "attempts recorded": attempts,
        "runs created at the server": sum(batch.stats["runs_by_job"].values()),
        "rows with more runs than attempts": f"{len(batch.extra_runs)} ({sum(batch.extra_runs.values())} runs)",
        "unknown_creates": batch.unknown_creates,
        "answers adopted without their run's id": adopted,
    }
    return "\n".join(f"  {name:42}{value}" for name, value in lines.items())
