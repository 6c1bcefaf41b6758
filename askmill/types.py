"""The results of the Python API: the JSON fields of the command line, typed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

RowStatus = Literal[
    "queued", "running", "completed", "incomplete", "expired", "failed", "cancelled", "rejected"
]
"""`queued` and `running` are unfinished. See docs/reference/statuses.md."""
BatchState = Literal["queued", "running", "paused", "cancelled", "done"]


@dataclass(frozen=True)
class Tokens:
    """Tokens of all attempts; None while unknown."""

    prompt: int | None
    completion: int | None


@dataclass(frozen=True)
class Status:
    """The progress of a batch: the fields of `askmill status --json`. Unknown numbers are None, never 0.

    `counts` has every status, including those at 0. Times are UTC. `cost_usd` is the cost so far in US
    dollars. `rows_per_s` is the rate of the last five minutes, `eta_s` the seconds left at that rate.
    `workers` counts the live workers that use the batch's API. `unknown_creates` counts unconfirmed creates:
    runs that may exist although the API never confirmed them (docs/apis.md). `waiting`: a wait that the API
    has asked for: who, for, since, until. `last_fault`: what the API last refused or failed: words, request,
    count, since, at. `recovered_writes` counts changes that Redis had lost and workers wrote again.
    `cut_contexts` counts prompts that the server has probably cut (chat completions).
    `tier` is the tier asked for; `tier_fallbacks` counts requests in the standard tier in place of flex.
    `schema_misses` counts answers that missed the response schema, by field. `shards`: of a batch with tier
    `batch`, how many are in which phase and status, when the oldest was cut, when the first expires.
    `accuracy` has judged, correct, share, low and high, of a batch with expected answers.
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
    waiting: Mapping[str, Any] | None
    last_fault: Mapping[str, Any] | None
    recovered_writes: int
    cut_contexts: int
    tier: str
    tier_fallbacks: int
    schema_misses: Mapping[str, int]
    shards: Mapping[str, Any] | None
    accuracy: Mapping[str, Any] | None


@dataclass(frozen=True)
class Step:
    """One step of a run: a message or a tool call, the same for all APIs. Times are Unix seconds.

    `type` is message, code_interpreter, file_search, function, reasoning, web_search or other. `details`
    depends on the type: code, logs, results, …
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

    `row` counts from 1 in file order. `input` has every input column, unchanged. `answer` is the text of all
    messages of the run. `parsed` is that answer as data, if it satisfies the response schema: an instance of
    the pydantic model, or plain data. `error` is the error message if the row did not complete. Tokens,
    `cost_usd` (US dollars) and `attempts` include every attempt; `duration_s` is the time from the start of
    the first attempt to the end of the last. Unknown values are None, never 0.
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
    parsed: Any = None


@dataclass(frozen=True)
class TierEstimate:
    """What a batch would cost in one tier: `standard`, `flex`, `2h window`, `8h window`, `priority`, `batch`.

    `cost_usd` is in US dollars; None if the tier has no known price. `ends` says when the batch ends;
    `ends_within_s` is the time that the API promises, in seconds, where it does. `refusal` says why this
    batch cannot use the tier; None if it can.
    """

    tier: str
    cost_usd: tuple[float, float] | None
    ends: str
    ends_within_s: float | None
    refusal: str | None


@dataclass(frozen=True)
class ComparedBatch:
    """One batch of a comparison. Unknown numbers are None, never 0.

    `duration_s` is the time from its first run to its last. `accuracy` has judged, correct, share, low and
    high, where there are expected answers.
    """

    name: str
    batch: str
    rows: int
    completed: int
    cost_usd: float | None
    tokens: Tokens
    duration_s: float | None
    accuracy: Mapping[str, Any] | None


@dataclass(frozen=True)
class Estimate:
    """What a batch would cost. Output length is unknown in advance, so it and the cost are ranges: low, high.

    `cost_usd` is in US dollars; None if the model has no known price. `tiers` has the API's tiers.
    """

    rows: int
    prompt_tokens: int
    completion_tokens: tuple[int, int]
    cost_usd: tuple[float, float] | None
    tiers: tuple[TierEstimate, ...] = ()


def status_from_json(fields: dict[str, Any]) -> Status:
    """The output of `status --json` as a `Status`."""
    times = {name: _time(fields[name]) for name in ("submitted_at", "started_at", "finished_at")}
    values = {field.name: fields[field.name] for field in dataclasses.fields(Status)}
    return Status(**{**values, **times, "tokens": Tokens(**fields["tokens"])})


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
