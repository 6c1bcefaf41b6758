"""What workers exchange with the store: rows to publish, claims, replies to saves and heartbeats."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from askmill.jobs.model.models import Result
from askmill.jobs.store.records import BatchUpdate

MAX_CRASHES = 3
"""A row that has crashed so many workers, in its functions or its result, ends as `poison_row`."""


class DispatchedRow(NamedTuple):
    """A row to publish. `delivery` counts its messages, and makes the Celery task id unique."""

    batch: str
    row: int
    delivery: int
    own_queue: bool = False
    """Into the queue of the batch's own workers, else into that of the workers for all batches."""
    shard: int | None = None
    """Tier batch: the number of the shard that is published in place of a row."""


class Refusal(StrEnum):
    """Why a claim failed. A row that has to wait is back in its queue already."""

    FINISHED = "finished"
    RUNNING = "running"
    WAITING = "waiting"
    NOT_PUBLISHED = "not_published"
    PAUSED = "paused"
    MISMATCH = "mismatch"
    """The worker uses another API or address, serves another batch, or may not call the batch's functions."""
    STRANGER = "stranger"
    """The worker has no fresh heartbeat in this Redis."""
    RECOVERING = "recovering"
    """Redis has lost writes, and not all workers have redone theirs yet."""
    GONE = "gone"
    NO_SUCH_ROW = "no_such_row"
    """The message names no row of the batch: askmill has not published it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that a worker holds, until it finishes or releases the row or is declared dead.

    `state`: as last saved. `previous_turn`: state that the previous turn of the conversation left. `crashes`:
    workers that the row has crashed. `previous`: its earlier result, in a retry.
    """

    batch: str
    row: int
    worker: str
    fence: str
    cells: list[Any]
    state: bytes | None
    previous_turn: bytes | None
    crashes: int
    previous: Result | None
    now_ms: int
    update: BatchUpdate


@dataclass(frozen=True)
class SaveReply:
    """Reply to a save. `held`: the claim holds the row; else nothing is saved.

    `first_accepted`: this is the first run that the API accepted for the batch: dispatch more rows now.
    Before a create, nothing is saved if the budget has no room for the reservation (`affordable` False;
    `affordable_later`: perhaps when runs in flight have ended), or if the batch is paused or cancelled
    (`may_start` False).
    """

    held: bool
    first_accepted: bool = False
    affordable: bool = True
    may_start: bool = True
    affordable_later: bool = True


@dataclass(frozen=True)
class HeartbeatReply:
    """Reply to a heartbeat. `alive` False: the worker was declared dead and its rows are with others."""

    alive: bool
    now_ms: int
    batches: dict[str, BatchUpdate | None]
    """The state of each batch that was asked for; None for one that no longer exists."""
    other_server: bool = False
    """Another Redis than at the last heartbeat: restarted, or a replica that took over."""


@dataclass(frozen=True)
class ReapResult:
    """Dead workers that were found, how many of their rows were released, and entries that are not ours."""

    workers: tuple[str, ...]
    rows: int
    removed: tuple[str, ...] = ()
