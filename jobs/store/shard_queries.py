"""Reading a batch's shards, for commands (`--tier batch`)."""

from collections import Counter
from collections.abc import Sequence

from askmill.jobs.store import keys
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.shard_ranges import rows_in
from askmill.jobs.store.shard_views import ShardSummary, ShardView, json_of


async def summarize_shards(connection: Connection, batch: str) -> ShardSummary:
    """Return how many shards are in which phase, and when the first of them was cut and may expire."""
    views = await list_shards(connection, batch)
    going = [view for view in views if view.phase != "done"]
    at_work = [view for view in going if view.api_status]
    expiries = [at for view in going if (at := view.state.get("expires_at")) is not None]
    return ShardSummary(
        phases=Counter(view.phase for view in views),
        api_statuses=Counter(view.api_status for view in at_work if view.api_status),
        oldest_ms=min((view.cut_at_ms for view in going if view.cut_at_ms), default=None),
        expires_ms=int(min(expiries) * 1000) if expiries else None,
        lines=sum(view.state.get("lines", 0) for view in at_work),
        lines_ended=sum(view.lines_ended for view in at_work),
    )


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
        *(("HMGET", keys.live(batch, keys.shard(number)), "state", "cut_at", "rows") for number in numbers),
    )
    return [
        ShardView(number, json_of(done or state), int(cut_at) if cut_at else None, int(rows or 0))
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
