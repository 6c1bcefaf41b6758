"""What a batch waits for, and the last fault that it met: as stored, as shown and as JSON. Times in `_ms`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from askmill.jobs.store import keys
from askmill.jobs.store.connection import Connection

POLLS_PER_SCRIPT = 500
GROWTH_PER_S = 1.05
MAX_WORDS = 300
"""Characters of an API's words that are stored with a fault or a wait."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a worker met since its last report: one kind of fault.

    `kind`: the error's code; `count`: how often; `id`: of this report, which counts once.
    """

    kind: str
    words: str
    request: str
    count: int
    id: str


@dataclass(frozen=True, slots=True)
class Poll:
    """What the last poll of a row's run showed, and when it is polled next."""

    status: str
    next_ms: int


@dataclass(frozen=True, slots=True)
class LastFault:
    """The last kind of fault of a batch: how often it was met in a row, since when, and when last."""

    words: str
    request: str
    count: int
    since_ms: int
    at_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `last_fault` in `status --json`."""
        times = {"since": iso(self.since_ms), "at": iso(self.at_ms)}
        return {"words": self.words, "request": self.request, "count": self.count, **times}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A wait that the API has asked for. `who`: `batch`, or `all batches` of this Redis."""

    who: str
    reason: str
    since_ms: int | None
    until_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields of `waiting` in `status --json`."""
        times = {"since": iso(self.since_ms), "until": iso(self.until_ms)}
        return {"who": self.who, "for": self.reason, **times}


@dataclass(frozen=True, slots=True)
class RunLimit:
    """The most runs that may be in flight now. `from_api`: set by 429s, else by ASKMILL_MAX_RUNS."""

    runs: int
    from_api: bool


def run_limit_of(limits: dict[bytes, bytes], throttle: dict[bytes, bytes], now_ms: int) -> RunLimit | None:
    """The limit in force; None without one. The same rule as in jobs/store/lua/lib/limits.lua."""
    found = []
    if b"max_runs" in limits:
        found.append(RunLimit(int(limits[b"max_runs"]), from_api=False))
    if b"max_runs" in throttle:
        passed_s = max(0.0, (now_ms - int(float(throttle.get(b"halved_at", now_ms)))) / 1000)
        # Past any number of slots, and below the largest float.
        grown = float(throttle[b"max_runs"]) * GROWTH_PER_S ** min(passed_s, 600)
        found.append(RunLimit(max(1, int(grown)), from_api=True))
    return min(found, key=lambda limit: limit.runs, default=None)


def iso(at_ms: int | None) -> str | None:
    """Return ISO 8601 in UTC with milliseconds."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def poll_of(live: Mapping[bytes, bytes]) -> Poll | None:
    """The last poll of a row in progress; None before one is recorded."""
    status, next_ms = live.get(b"server_status"), live.get(b"next_poll")
    if status is None or next_ms is None:
        return None
    return Poll(status.decode("utf-8", "replace"), int(next_ms))


def hold_of(throttle: dict[bytes, bytes], now_ms: int) -> Waiting | None:
    """The wait of all batches; None when none goes on."""
    until_ms = int(throttle.get(b"hold_until", 0))
    if until_ms <= now_ms:
        return None
    since = throttle.get(b"held_since")
    words = throttle.get(b"words", b"").decode("utf-8", "replace") or "a rate limit"
    return Waiting("all batches", words, None if since is None else int(since), until_ms)


class FaultMixin:
    """What workers report about the API."""

    _connection: Connection

    async def record_fault(self, batch: str, fault: Fault) -> bool:
        """Record a fault as the batch's last one; False for an unknown batch."""
        words, request = fault.words[:MAX_WORDS], fault.request[:MAX_WORDS]
        return bool(
            await self._connection.scripts.record_fault(
                batch, (fault.kind[:MAX_WORDS], words, request), fault.count, fault.id
            )
        )

    async def record_polls(self, batch: str, polls: Mapping[int, tuple[str, Poll]]) -> int:
        """Record the polls by row, each with the fence of its claim; returns the rows still held."""
        held, rows = 0, list(polls.items())
        for first in range(0, len(rows), POLLS_PER_SCRIPT):
            values = [
                value
                for row, (fence, poll) in rows[first : first + POLLS_PER_SCRIPT]
                for value in (row, fence, poll.status[:MAX_WORDS], poll.next_ms)
            ]
            held += await self._connection.scripts.record_polls(batch, values)
        return held

    async def hold(self) -> Waiting | None:
        """Return the wait that the API has asked of all batches; None when none goes on."""
        throttle, (seconds, _) = await self._connection.pipeline(("HGETALL", keys.THROTTLE), ("TIME",))
        return hold_of(throttle, int(seconds) * 1000)
