"""The data of askmill: statuses, input, limits, attempts, steps, results. No I/O.

The states of a row, with the byte that stands for each in the batch's status string:

    q queued ─▶ p published ─▶ r running ─▶ c completed · i incomplete · e expired · f failed · x cancelled
    ▲ h held (an earlier turn of its conversation)     │
    └─────────────── w waiting (a back-off) ◀──────────┘            j rejected (a bad row, never asked)

Users see q, p, w and h as `queued`.
"""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple

EMULATOR_MODEL = "askmill-emulator"
"""The model of all rows asked with `--offline`. It has no price, so its rows have no cost."""
Api = Literal["assistants", "responses", "chat"]
"""`chat`: plain chat completions, which any compatible server has."""
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
"""A column's name in braces, in a template; format instructions are not supported, so no file can hold one.
A doubled brace stands for a brace, as in Python's format strings; it has no group 1."""
BY_ITEMS = "items:"
"""Prefix of the id of a run that is known only by the items of its conversation: `items:CONVERSATION`."""


class JobStatus(StrEnum):
    """The status of a row, as users see it."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


UNFINISHED = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
FINISHED = frozenset(JobStatus) - UNFINISHED
UNSUCCESSFUL = FINISHED - {JobStatus.COMPLETED}
RETRIED_BY_DEFAULT = (JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.INCOMPLETE)

STATUS_OF_BYTE = {
    "q": JobStatus.QUEUED,
    "p": JobStatus.QUEUED,
    "w": JobStatus.QUEUED,
    "h": JobStatus.QUEUED,
    "r": JobStatus.RUNNING,
    "c": JobStatus.COMPLETED,
    "i": JobStatus.INCOMPLETE,
    "e": JobStatus.EXPIRED,
    "f": JobStatus.FAILED,
    "x": JobStatus.CANCELLED,
    "j": JobStatus.REJECTED,
}
BYTE_OF_FINISHED = {status: byte for byte, status in STATUS_OF_BYTE.items() if status in FINISHED}


class BatchState(StrEnum):
    """State of a batch: `queued` until its first run is created, `done` when every row is finished."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class OnIncomplete(StrEnum):
    """What to do after a run that ended at a token limit (docs/reference/statuses.md, `incomplete`)."""

    KEEP = "keep"
    RAISE_LIMIT = "raise-limit"
    CONTINUE = "continue"


class OnUnknown(StrEnum):
    """What to do after a call whose answer was lost, where the API cannot be asked for it."""

    AGAIN = "again"
    STOP = "stop"


class Server(NamedTuple):
    """The API that a batch or a worker uses, and the account that it bills ('' where none is set).

    What one account has created does not exist for another, so workers take only batches of their own.
    A worker without ASKMILL_API has the API '': it takes batches of any API at its address.
    """

    api: Api | Literal[""]
    base_url: str
    organization: str = ""
    project: str = ""

    def serves(self, other: "Server") -> bool:
        """Whether a worker of this server takes batches of the other one (as lua/lib/keys.lua)."""
        return self == other or self == other._replace(api="")


@dataclass(frozen=True)
class InputSpec:
    """How a file's rows become questions; frozen into the batch.

    `columns` is the header in file order. The question is rendered from `template`, with `{column}` names, or
    is the cell in `question_column`. `arrow_schema` has the types of a file that declares them (Parquet), as
    Arrow's bytes in base64; it is no part of a batch's identity.
    """

    columns: tuple[str, ...]
    question_column: str | None
    template: str | None = None
    id_column: str | None = None
    conversation_column: str | None = None
    overrides: tuple[str, ...] = ()
    arrow_schema: str = ""

    def question(self, cells: list[Any]) -> str:
        """Return the row's question. `cells` are in the order of `columns`."""
        texts = {name: as_text(cell) for name, cell in zip(self.columns, cells, strict=False)}
        if self.template is not None:
            return PLACEHOLDER.sub(
                lambda match: texts.get(match[1], "") if match[1] else match[0][0], self.template
            )
        return texts.get(self.question_column or "", "")

    def cell(self, column: str | None, cells: list[Any]) -> str:
        """Return the text in a column; empty when there is no such column."""
        if column is None or column not in self.columns:
            return ""
        index = self.columns.index(column)
        return as_text(cells[index]) if index < len(cells) else ""


def as_text(cell: Any) -> str:
    """Return a cell as text: text unchanged, typed values of .jsonl and .parquet as compact JSON."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    import orjson  # noqa: PLC0415 -- only files with typed cells need it

    return orjson.dumps(cell).decode()


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits per row and for the whole batch. Submitting the same file again may change them."""

    attempts: int = 3
    deadline_s: float | None = None
    budget_usd: float | None = None
    on_incomplete: OnIncomplete = OnIncomplete.KEEP
    on_unknown: OnUnknown = OnUnknown.AGAIN
    tier_fallback: str | None = None
    """`standard`: a row for which the flex tier has no capacity is asked in the standard tier."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """How a batch's rows fared around a refusal that does not say what it is about."""

    accepted_since: bool = False
    """Another row's run was accepted after an earlier refusal of this row."""
    refused_alone: int = 1
    """Rows refused, each dispatched alone, since the API last accepted a run of the batch."""
    other_rows: int = 0
    """Unfinished rows that have not been refused since then."""
    ever_accepted: bool = False
    """The API has accepted some run of the batch."""
    rows: tuple[int, ...] = ()
    """The rows refused since then, the oldest first."""


@dataclass(frozen=True)
class Usage:
    """Tokens of a run or a step; None where the API reports none."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Those of `prompt_tokens` that were read from the prompt cache."""
    cache_write_tokens: int | None = None
    """Those of `prompt_tokens` that were written to the prompt cache."""
    reasoning_tokens: int | None = None
    """Those of `completion_tokens` that are not in the answer."""
    longest_prompt_tokens: int | None = None
    """The longest prompt of a run of several requests, where prices depend on it; None: `prompt_tokens`."""

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum, without `longest_prompt_tokens`; an unknown number counts as nothing."""
        return Usage(
            _sum_known(self.prompt_tokens, other.prompt_tokens),
            _sum_known(self.completion_tokens, other.completion_tokens),
            _sum_known(self.cached_tokens, other.cached_tokens),
            _sum_known(self.cache_write_tokens, other.cache_write_tokens),
            _sum_known(self.reasoning_tokens, other.reasoning_tokens),
        )

    def plus_request(self, own: "Usage") -> "Usage":
        """Return the tokens of a run's requests so far and of its next one.

        Each request is charged by the length of its own prompt, so the longest is kept.
        """
        if self == NO_USAGE:
            return own
        longest = max(self.longest_prompt_tokens or self.prompt_tokens or 0, own.prompt_tokens or 0)
        return replace(self.plus(own), longest_prompt_tokens=longest)


NO_USAGE = Usage()


def _sum_known(left: int | None, right: int | None) -> int | None:
    return right if left is None else left if right is None else left + right


@dataclass(frozen=True)
class Attempt:
    """One run of a job, as it ended. Times are Unix seconds; `status` is the API's."""

    number: int
    thread_id: str | None
    run_id: str | None
    status: str
    error: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    model: str | None = None
    """The model that the reply names."""
    tier: str | None = None
    """The service tier that the reply names, which it is charged by; several are joined by `+`."""


@dataclass(frozen=True)
class Step:
    """One thing a run did, the same for all APIs. `details` depend on `type`: code, logs, results, …"""

    run_id: str | None
    attempt: int
    type: str
    status: str
    started_at: float | None = None
    finished_at: float | None = None
    usage: Usage = field(default_factory=Usage)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The result of a finished job. `files`: names, or the reason why a file was not stored."""

    row: int
    status: JobStatus
    answer: str = ""
    error: str | None = None
    attempts: tuple[Attempt, ...] = ()
    thread_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    duration_s: float | None = None
    citations: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    steps: tuple[Step, ...] = ()
    attempts_made: int | None = None
    """Set where it differs from `len(attempts)`: it is 0 for a reused answer."""

    @property
    def attempt_count(self) -> int:
        """The number of all attempts of the row."""
        return len(self.attempts) if self.attempts_made is None else self.attempts_made

    def steps_began_at(self, attempt: int) -> float | None:
        """Return when the attempt's first step began, by the API's clock; None where unknown."""
        times = (step.started_at for step in self.steps if step.attempt == attempt)
        return min((at for at in times if at is not None), default=None)
