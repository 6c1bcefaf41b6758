"""Reading a batch's shards, for commands (`--tier batch`)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from askmill.jobs.store import keys
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.shard_ranges import rows_in
from askmill.jobs.store.shard_views import ShardSummary, ShardView, json_of

NUMBERS_PER_CALL = 500


async def summarize_shards(connection: Connection, batch: str) -> ShardSummary:
    """Return how many shards are in which phase, and when the first of them was cut and may expire."""
    following, count = await connection.pipeline(
        ("HGET", keys.part(batch, "shards"), "next"), ("HGET", keys.part(batch, "counters"), "open_shards")
    )
    last = int(following or 1) - 1
    going = await _going(connection, batch, last, int(count or 0))
    at_work = [view for view in going if view.api_status]
    expiries = [at for view in going if (at := view.state.get("expires_at")) is not None]
    done = {"done": last - len(going)} if last > len(going) else {}
    return ShardSummary(
        phases=Counter(view.phase for view in going) | done,
        api_statuses=Counter(view.api_status for view in at_work if view.api_status),
        oldest_ms=min((view.cut_at_ms for view in going if view.cut_at_ms), default=None),
        expires_ms=int(min(expiries) * 1000) if expiries else None,
        lines=sum(view.state.get("lines", 0) for view in at_work),
        lines_ended=sum(view.lines_ended for view in at_work),
    )


async def _going(connection: Connection, batch: str, last: int, count: int) -> list[ShardView]:
    """So many shards that have not ended, from the newest back: thousands of others may have."""
    going: list[ShardView] = []
    while last > 0 and len(going) < count:
        numbers = range(last, max(0, last - NUMBERS_PER_CALL), -1)
        stored = await connection.pipeline(*(_read_live(batch, number) for number in numbers))
        going += [
            _view(number, *live) for number, live in zip(numbers, stored, strict=True) if live[0] is not None
        ]
        last -= NUMBERS_PER_CALL
    return going


def _read_live(batch: str, number: int) -> tuple[Any, ...]:
    return "HMGET", keys.live(batch, keys.shard(number)), "state", "cut_at", "rows"


def _view(number: int, state: bytes | None, cut_at: bytes | None, rows: bytes | None) -> ShardView:
    return ShardView(number, json_of(state), int(cut_at) if cut_at else None, int(rows or 0))


async def list_shards(
    connection: Connection, batch: str, numbers: Sequence[int] | None = None
) -> list[ShardView]:
    """Return the batch's shards by number; with `numbers`, those only."""
    if numbers is None:
        last = int(await connection.execute("HGET", keys.part(batch, "shards"), "next") or 1)
        numbers = range(1, last)
    if not numbers:
        return []
    ended, *live = await connection.pipeline(
        ("HMGET", keys.part(batch, "shards"), *numbers),
        *(_read_live(batch, number) for number in numbers),
    )
    return [
        _view(number, done or state, cut_at, rows)
        for number, done, (state, cut_at, rows) in zip(numbers, ended, live, strict=True)
        if done or state
    ]


async def shards_of_row(connection: Connection, batch: str, row: int) -> list[tuple[ShardView, int]]:
    """Return the shards that have had the row, the last one last, and its line in the file of each."""
    stored = await connection.execute("HGETALL", keys.part(batch, "shard_lines"))
    pairs = zip(stored[::2], stored[1::2], strict=True) if isinstance(stored, list) else stored.items()
    lines = {}
    for number, text in pairs:
        rows = list(rows_in(text.decode()))
        if row in rows:
            lines[int(number)] = rows.index(row) + 1
    views = await list_shards(connection, batch, sorted(lines))
    return [(view, lines[view.number]) for view in views]
