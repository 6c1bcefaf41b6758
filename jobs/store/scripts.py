"""The Lua scripts, one typed stub each: a change of state is one script, one round trip, all or nothing.

A line `-- include: NAME.lua` is replaced by that file, so that what several scripts do stands once.
The scripts name their keys themselves (one Redis, no Cluster; docs/decisions/store.md).
"""

import re
from functools import cache
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import Redis

from askmill.jobs.store.script_pipeline import ScriptPipeline

_INCLUDE = re.compile(r"^-- include: ([\w/]+\.lua)\n", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of a script with what it includes."""
    text = (files("askmill.jobs.store") / "lua" / f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda found: source(found[1].removesuffix(".lua")), text)


class Scripts:
    """Each method runs the script of its name; arguments and replies stand at the top of the .lua file."""

    def __init__(self, redis: "Redis", url: str) -> None:
        self._pipeline = ScriptPipeline(redis, url)

    async def _run(self, name: str, *arguments: Any) -> Any:
        return await self._pipeline.run(source(name), *arguments)

    async def take(
        self,
        wanted: tuple[str, str, str],
        lifetimes_ms: tuple[int, int],
        values: tuple[list[Any], list[Any]],
        *,
        anyway: bool,
    ) -> list[bytes]:
        """`wanted`: identity, batch, fence. `lifetimes_ms`: lease, unsealed batch. `values`: kept, frozen."""
        kept, frozen = values
        options = (int(anyway), len(kept))
        return cast(
            "list[bytes]", await self._run("take_identity", *wanted, *lifetimes_ms, *options, *kept, *frozen)
        )

    async def look(self, identity: str) -> list[bytes]:
        return cast("list[bytes]", await self._run("find_identity", identity))

    async def renew(self, batch: str, fence: str, lifetimes_ms: tuple[int, int]) -> int:
        """`lifetimes_ms`: lease, unsealed batch."""
        return cast("int", await self._run("renew_lease", batch, fence, *lifetimes_ms))

    async def add_rows(
        self, loading: tuple[str, str, int], lifetimes_ms: tuple[int, int], status: bytes, *parts: list[Any]
    ) -> int:
        """`loading`: batch, fence, first row. `parts`: values for `input`, `results`, `next`, `turns`."""
        values = [value for part in parts for value in part]
        sizes = map(len, parts)
        return cast("int", await self._run("add_rows", *loading, *lifetimes_ms, status, *sizes, *values))

    async def seal(self, batch: str, fence: str) -> int:
        return cast("int", await self._run("seal", batch, fence))

    async def drop(self, batch: str, fence: str) -> int:
        return cast("int", await self._run("drop_batch", batch, fence))

    async def set_resources(self, batch: str, resources: str, fence: str) -> int:
        return cast("int", await self._run("set_resources", batch, resources, fence))

    async def resource_acquire(
        self,
        wanted: tuple[str, str, str, str],
        lifetimes_ms: tuple[int, int, int],
        fence: str,
        gone: list[str],
    ) -> bytes | int:
        """`wanted`: batch, kind, sha, maker. `lifetimes_ms`: turn, unused id, unsealed batch."""
        return cast("bytes | int", await self._run("resource_acquire", *wanted, *lifetimes_ms, fence, *gone))

    async def resource_store(self, wanted: tuple[str, str, str, str], made: str, unused_ms: int) -> int:
        return cast("int", await self._run("resource_store", *wanted, made, unused_ms))

    async def resource_release(self, kind: str, sha256: str, maker: str) -> int:
        return cast("int", await self._run("resource_release", kind, sha256, maker))

    async def unlink_resources(self, batch: str, names: list[str]) -> list[bytes]:
        return cast("list[bytes]", await self._run("unlink_resources", batch, *names))

    async def claim(self, batch: str, row: int, worker: str, fence: str) -> list[Any]:
        return cast("list[Any]", await self._run("claim", batch, row, worker, fence))

    async def save(
        self, claimed: tuple[str, int, str], values: tuple[Any, ...], counters: list[Any]
    ) -> list[int]:
        """`values`: nonce, state, run_made, out, danger, reserve, spent."""
        return cast("list[int]", await self._run("save", *claimed, *values, *counters))

    async def finish(
        self, claimed: tuple[str, int, str, str], values: tuple[Any, ...], counters: list[Any]
    ) -> int:
        """`values`: byte, result, seed."""
        return cast("int", await self._run("finish", *claimed, *values, *counters))

    async def release_row(
        self, claimed: tuple[str, int, str, str], values: tuple[Any, ...], counters: list[Any]
    ) -> int:
        """`values`: state, due_ms, out, spent."""
        return cast("int", await self._run("release_row", *claimed, *values, *counters))

    async def store_file(
        self, claimed: tuple[str, int, str], number: int, content: bytes, budget_bytes: int
    ) -> int:
        return cast("int", await self._run("store_file", *claimed, number, content, budget_bytes))

    async def heartbeat(
        self, worker: str, lifetime_ms: int, card: list[Any], batches: list[str]
    ) -> list[Any]:
        return cast(
            "list[Any]", await self._run("heartbeat", worker, lifetime_ms, len(card), *card, *batches)
        )

    async def deregister_worker(self, worker: str) -> int:
        return cast("int", await self._run("deregister_worker", worker))

    async def reap_workers(self, worker: str, lifetime_ms: int, limit: int, tombstone_ms: int) -> list[Any]:
        return cast("list[Any]", await self._run("reap_workers", worker, lifetime_ms, limit, tombstone_ms))

    async def dispatch(self, floor: int) -> list[Any]:
        return cast("list[Any]", await self._run("dispatch", floor))

    async def requeue(self, names_and_scores: list[Any]) -> list[Any]:
        return cast("list[Any]", await self._run("requeue", *names_and_scores))

    async def reserve_rate(self, kind: str, cost: int) -> int:
        return cast("int", await self._run("reserve_rate", kind, cost))

    async def throttle(self, wait_ms: int) -> int | None:
        return cast("int | None", await self._run("throttle", wait_ms))

    async def incr_counters(self, batch: str, counters: list[Any]) -> int:
        return cast("int", await self._run("incr_counters", batch, *counters))

    async def pause(self, batch: str, reason: str, fault: bool) -> list[Any]:
        return cast("list[Any]", await self._run("pause", batch, reason, int(fault)))

    async def resume(self, batch: str) -> list[Any]:
        return cast("list[Any]", await self._run("resume", batch))

    async def cancel(self, batch: str) -> bytes:
        return cast("bytes", await self._run("cancel", batch))

    async def retry(self, batch: str, status_bytes: str) -> int:
        return cast("int", await self._run("retry", batch, status_bytes))

    async def read_rows(self, batch: str, first: int, last: int, block_rows: int) -> list[Any]:
        return cast("list[Any]", await self._run("read_rows", batch, first, last, block_rows))

    async def set_batch_limits(self, batch: str, limits: bytes, budget_nano: int | str, before: bytes) -> int:
        return cast("int", await self._run("set_batch_limits", batch, limits, budget_nano, before))

    async def set_retention(self, batch: str, retention_ms: int) -> int:
        return cast("int", await self._run("set_retention", batch, retention_ms))

    async def create_failed(self, batch: str, reason: str, patience_ms: int) -> int:
        return cast("int", await self._run("create_failed", batch, reason, patience_ms))

    async def purge(self, batch: str) -> int:
        return cast("int", await self._run("purge", batch))
