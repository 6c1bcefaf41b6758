"""What a batch and its rows look like to a caller: the fields that the command line's JSON has, typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

RowStatus = Literal[
    "queued", "running", "completed", "incomplete", "expired", "failed", "cancelled", "rejected"
]
"""The first two are unfinished; docs/reference/statuses.md says when a row has which."""
BatchState = Literal["queued", "running", "paused", "cancelled", "done"]


@dataclass(frozen=True)
class Tokens:
    """Of all attempts; None while the API has not said."""

    prompt: int | None
    completion: int | None


@dataclass(frozen=True)
class Status:
    """How far a batch is: the fields of `askmill status --json`. Unknown numbers are None, never 0.

    `counts` has every status, also those at 0; times are UTC; `cost_usd` is US dollars so far; `rows_per_s`
    is over the last five minutes; `eta_s` is the seconds left at that pace; `workers` counts those alive that
    speak to the batch's API; `unknown_creates` are runs that may exist though their creation was never
    confirmed (docs/apis.md).
    """

    batch: str
    name: str
    file: str
    state: BatchState
    rows: int
    counts: Mapping[RowStatus, int]
    runs: int
    requests: int
    tokens: Tokens
    cost_usd: float | None
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rows_per_s: float | None
    eta_s: float | None
    workers: int
    paused_reason: str | None
    unknown_creates: int


@dataclass(frozen=True)
class Step:
    """One thing a run did, the same for both APIs. Times are Unix seconds, as both APIs give them.

    `type`: message, code_interpreter, file_search, function, reasoning, web_search or other; `details` has
    what its type has (code, logs, results, …).
    """

    run_id: str | None
    attempt: int
    type: str
    status: str
    started_at: float | None
    finished_at: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of the input with its answer: a line of `askmill collect --format jsonl`.

    `row` counts from 1 in file order; `input` has every input column, unchanged; `answer` is the text of all
    messages of the run; `error` says why, if not well. Tokens, `cost_usd` (US dollars) and `attempts` count
    every attempt ever made; `duration_s` is of the last run. What is not known is None, never 0.
    """

    row: int
    input: Mapping[str, Any]
    status: RowStatus
    answer: str | None
    error: str | None
    attempts: int | None
    thread_id: str | None
    run_id: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    duration_s: float | None
    citations: list[dict[str, Any]]
    files: list[dict[str, Any]]
    steps: list[Step]


def row_of(line: dict[str, Any]) -> Row:
    """From a line of `--format jsonl`."""
    return Row(**{**line, "steps": [Step(**step) for step in line["steps"]]})


def status_of(told: dict[str, Any]) -> Status:
    """From what `status --json` prints."""
    times = {name: _time(told[name]) for name in ("submitted_at", "started_at", "finished_at")}
    return Status(**{**told, **times, "tokens": Tokens(**told["tokens"])})


def _time(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)
