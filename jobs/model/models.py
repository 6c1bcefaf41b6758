"""What askmill talks about, as data: statuses, batches, jobs, results. No behaviour beyond reading itself.

A row's life, with the byte that stands for it in the batch's status string:

    q queued ─▶ p published ─▶ r running ─▶ c completed · i incomplete · e expired · f failed · x cancelled
    ▲ h held (an earlier turn of its conversation)     │
    └─────────────── w waiting (a back-off) ◀──────────┘            j rejected (a bad row, never asked)

To users q, p, w and h are all `queued`.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

EMULATOR_MODEL = "askmill-emulator"
"""The model of all rows asked with `--offline`. It has no price, so no answer passes for a real model's."""
Api = Literal["assistants", "responses"]
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
"""A column's name in a template: plain, so that no text of a file is ever a format instruction.
A doubled brace stands for itself, as in Python's own templates; then there is no group 1."""


BY_ITEMS = "items:"
"""Begins the id of a run that is only known by what stands on its conversation: `items:CONVERSATION`."""


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
    """`queued` until the first run is stored; `done` when every row is finished."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class OnIncomplete(StrEnum):
    """What follows a run that a token limit ended (CONTRACT: Statuses, `incomplete`)."""

    KEEP = "keep"
    RAISE_LIMIT = "raise-limit"
    CONTINUE = "continue"


@dataclass(frozen=True)
class InputSpec:
    """How a file's rows become questions; frozen into the batch.

    `columns` is the header in file order; `template` has plain `{column}` names when the question is
    rendered from several columns, else `question_column` names the one it is read from.
    """

    columns: tuple[str, ...]
    question_column: str | None
    template: str | None = None
    id_column: str | None = None
    conversation_column: str | None = None
    overrides: tuple[str, ...] = ()

    def question(self, cells: list[Any]) -> str:
        """The row's question. `cells` are in the order of `columns`."""
        named = {name: as_text(cell) for name, cell in zip(self.columns, cells, strict=False)}
        if self.template is not None:
            return PLACEHOLDER.sub(
                lambda found: named.get(found[1], "") if found[1] else found[0][0], self.template
            )
        return named.get(self.question_column or "", "")

    def cell(self, column: str | None, cells: list[Any]) -> str:
        """The text in the named column; empty when there is no such column."""
        if column is None or column not in self.columns:
            return ""
        place = self.columns.index(column)
        return as_text(cells[place]) if place < len(cells) else ""


def as_text(cell: Any) -> str:
    """A cell as a CSV shows it: text as it is, JSON values of .jsonl and .parquet as compact JSON."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    import orjson  # noqa: PLC0415 -- only files with typed cells pay for it

    return orjson.dumps(cell).decode()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may spend on a row, and altogether. Changed by submitting the same file again."""

    attempts: int = 3
    deadline_s: float | None = None
    budget_usd: float | None = None
    on_incomplete: OnIncomplete = OnIncomplete.KEEP


@dataclass(frozen=True)
class Usage:
    """Tokens of a run or a step. None where the API does not say; never 0 for unknown."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def plus(self, other: "Usage") -> "Usage":
        """The sum of what is known."""
        return Usage(
            _known_sum(self.prompt_tokens, other.prompt_tokens),
            _known_sum(self.completion_tokens, other.completion_tokens),
        )


def _known_sum(left: int | None, right: int | None) -> int | None:
    return right if left is None else left if right is None else left + right


@dataclass(frozen=True)
class Attempt:
    """One run made for a job, as it ended. Times are Unix seconds; `status` is the API's own word."""

    number: int
    thread_id: str | None
    run_id: str | None
    status: str
    error: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None


@dataclass(frozen=True)
class Step:
    """One thing a run did, the same for both APIs. `details`: what its type has (code, logs, results, …)."""

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
    """What is kept of a finished job. `files` are names, or the reason why one is not kept."""

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
    """Set where it differs from `len(attempts)`: 0 for a reused answer."""

    @property
    def attempt_count(self) -> int:
        """Every attempt ever made for the row."""
        return len(self.attempts) if self.attempts_made is None else self.attempts_made

    def steps_began_at(self, attempt: int) -> float | None:
        """When the attempt's first step began, by the API's clock: its other steps are told from there."""
        times = (step.started_at for step in self.steps if step.attempt == attempt)
        return min((at for at in times if at is not None), default=None)
