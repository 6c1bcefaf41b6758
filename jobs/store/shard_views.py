"""A batch's shards as `status` and `show` present them (`--tier batch`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from askmill.jobs.store.waits import iso

PHASES = ("cut", "uploaded", "sent", "followed", "reading", "done")
"""The phases of a shard (worker/lifecycle/shard_state.py)."""


class ShardView(NamedTuple):
    """A shard as `status` and `show` present it; `state` is the lifecycle's, as plain data."""

    number: int
    state: dict[str, Any]
    cut_at_ms: int | None
    open_rows: int

    @property
    def phase(self) -> str:
        """`cut`, `uploaded`, `sent`, `followed`, `reading` or `done`."""
        return str(self.state.get("phase", "cut"))

    @property
    def api_status(self) -> str | None:
        """Status of its batch at the API, such as `in_progress`; None before the create."""
        return self.state.get("status")

    @property
    def lines_ended(self) -> int:
        """Lines that have ended at the API, as it counts."""
        return sum(self.state.get(name) or 0 for name in ("completed", "failed"))

    @property
    def file_id(self) -> str | None:
        """Its input file."""
        return self.state.get("file_id")

    @property
    def api_batch(self) -> str | None:
        """The API's batch."""
        return self.state.get("batch_id")


@dataclass(frozen=True)
class ShardSummary:
    """A batch's shards by phase; those that are not done also by the API's status. Times by Redis' clock."""

    phases: Mapping[str, int]
    api_statuses: Mapping[str, int]
    oldest_ms: int | None = None
    expires_ms: int | None = None
    lines: int = 0
    """Lines of the shards that the API works on."""
    lines_ended: int = 0
    """How many of them have ended, as the API counts."""

    def to_json(self) -> dict[str, Any]:
        """The `shards` of `status --json`."""
        return {
            "phases": {phase: self.phases.get(phase, 0) for phase in PHASES},
            "api": dict(self.api_statuses),
            "oldest_at": iso(self.oldest_ms),
            "expires_at": iso(self.expires_ms),
            "lines": self.lines,
            "lines_ended": self.lines_ended,
        }


def json_of(state: bytes | None) -> dict[str, Any]:
    """A stored state as plain data."""
    data: dict[str, Any] = orjson.loads(state or b"{}")
    return data
