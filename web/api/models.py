"""The objects of the HTTP API, as OpenAPI describes them. Fields may be added."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from askmill.jobs.model.models import BatchState, JobStatus


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class ProblemDetails(_Open):
    """What went wrong (RFC 9457). `detail` has the sentence of the command line."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    faults: list[dict[str, Any]] | None = Field(
        None, description="The first 20 faults of a file, each with `line` and `reason`."
    )
    total: int | None = Field(None, description="How many faults the file has.")


class Status(_Open):
    """What `askmill status --json` prints."""

    batch: str = Field(examples=["b_7hq2m9"])
    name: str
    file: str
    state: BatchState
    rows: int
    counts: dict[str, int] = Field(description="Rows by status, also those at 0.")
    runs: int
    requests: int
    tokens: dict[str, int | None]
    cost_usd: float | None
    submitted_at: str
    started_at: str | None
    finished_at: str | None
    rows_per_s: float | None
    eta_s: float | None
    workers: int
    paused_reason: str | None
    unknown_creates: int


class Batches(BaseModel):
    """The batches of this Redis, the newest first. `next` is the `after` of the next page, or null."""

    batches: list[Status]
    next: int | None


class SubmittedBatch(BaseModel):
    """A batch that was submitted, or found by its identity."""

    batch: str = Field(examples=["b_7hq2m9"])
    created: bool
    state: BatchState
    rows: int
    notes: list[str] = Field(description="What the command line prints while it submits.")


class RowSummary(_Open):
    """A row without its steps."""

    row: int
    question: str
    input: dict[str, Any]
    status: JobStatus
    answer: str | None
    error: str | None
    attempts: int | None
    cost_usd: float | None
    duration_s: float | None


class Rows(BaseModel):
    """A page of rows. `next` is the `after` of the next page; null at the end of the batch.

    `searched` is the last row that a search has read.
    """

    rows: list[RowSummary]
    next: int | None
    searched: int | None = None


class Row(_Open):
    """A row with its steps and runs, as `askmill show --json` prints it."""

    row: int
    input: dict[str, Any]
    status: JobStatus
    answer: str | None
    error: str | None
    steps: list[dict[str, Any]]
    runs: list[dict[str, Any]]


class Change(BaseModel):
    """The result of a change: false, with the reason in `message`, if the batch was in no state for it."""

    changed: bool
    message: str
