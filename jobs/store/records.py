"""Batches as the store takes and returns them. Times in `_ms` are Unix milliseconds by Redis' clock."""

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import Api, BatchState, InputSpec, Limits, Server
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store.waits import LastFault

NANO = 1_000_000_000
"""Nano-dollars per dollar. Lua's numbers are exact up to 2^53 nano-dollars: 9 million dollars."""


BATCH_TIER = "batch"
"""The service tier whose rows travel in shards (OpenAI's Batch API)."""


@dataclass(frozen=True)
class NewBatch:
    """All that is frozen when a batch is submitted."""

    name: str
    file: str
    spec: InputSpec
    profile: Profile
    resources: Resources
    api: Api
    base_url: str
    model: str
    limits: Limits
    identity: str
    options: dict[str, Any] = field(default_factory=dict)
    organization: str = ""
    project: str = ""
    expected: Expectation | None = None
    retention_days: float | None = None
    """How long its keys stay after its end; None: until `purge`."""


@dataclass(frozen=True)
class FoundBatch:
    """The existing batch of an identity. `loading`: another command is storing its rows."""

    batch: str
    loading: bool


@dataclass(frozen=True)
class BatchToLoad:
    """A batch whose rows this store is to add. `continued`: another command began it, with `options`."""

    batch: str
    continued: bool
    options: dict[str, Any]


class LeaseLost(Exception):
    """Another command loads the batch now: this one did nothing for longer than its lease."""


@dataclass(frozen=True)
class ResourceKey:
    """An object at the API, by its content, and who would create it.

    `kind`: `assistant`, `file`, `vector_store`. `batch` is empty outside a batch (`chat`).
    """

    batch: str
    kind: str
    sha256: str
    creator: str = field(default_factory=lambda: secrets.token_hex(8))


class Acquired(NamedTuple):
    """What `acquire_resource` has found."""

    is_creator: bool
    """Whether the caller is to create the object."""
    object_id: str | None = None
    lock: bytes = b""
    """Of another one that creates it. A living creator changes it every few seconds."""
    note: str = ""
    """Of a dead creator whose place the caller has taken, or the caller's own; '' for none."""


class NewRow(NamedTuple):
    """A row to store. `reject`: why it is never asked. `conversation`: name of the thread it shares, if any.

    `reused_result`: the packed result of an equal, completed row; the row is then completed with it.
    """

    cells: list[Any]
    reject: str | None = None
    conversation: str | None = None
    reused_result: bytes | None = None


@dataclass(frozen=True, slots=True)
class BatchUpdate:
    """The parts of a batch that may change while it runs."""

    state: BatchState
    limits: Limits
    paused_reason: str | None = None


@dataclass(frozen=True)
class Batch:
    """A stored batch. `accepted`: the API has accepted a run since the submit or the last fault."""

    id: str
    name: str
    file: str
    rows: int
    spec: InputSpec
    profile: Profile
    resources: Resources
    api: Api
    base_url: str
    model: str
    limits: Limits
    identity: str
    options: dict[str, Any]
    state: BatchState
    paused_reason: str | None
    accepted: bool
    submitted_at_ms: int
    started_at_ms: int | None
    finished_at_ms: int | None
    paused_at_ms: int | None = None
    paused_until_ms: int | None = None
    """When the pause ends by itself; None: only `resume` ends it."""
    last_fault: LastFault | None = None
    expected: Expectation | None = None
    organization: str = ""
    project: str = ""
    idle_ms: int = 0
    """Time between its end and the first run after a retry."""

    @property
    def server(self) -> Server:
        return Server(self.api, self.base_url, self.organization, self.project)

    @property
    def duration_s(self) -> float | None:
        """From the first run to the end, without the idle time before a retry; None before the end."""
        if self.started_at_ms is None or self.finished_at_ms is None:
            return None
        return max(0, self.finished_at_ms - self.started_at_ms - self.idle_ms) / 1000

    @property
    def in_shards(self) -> bool:
        """Whether rows travel in jobs of the Batch API (`--tier batch`)."""
        return self.profile.service_tier == BATCH_TIER

    @cached_property
    def effective_profile(self) -> Profile:
        """The profile with the model resolved at submit; a stored assistant has its own model."""
        model = self.profile.model if self.profile.assistant_id else self.model
        return self.profile.model_copy(update={"model": model})
