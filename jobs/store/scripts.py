"""Typed stubs of the Lua scripts in jobs/store/lua. Each change of state is one script, all or nothing.

The scripts build the names of their keys themselves (one Redis, no Cluster; docs/decisions/store.md).
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from redis.asyncio import Redis

from askmill.jobs.store.recovery import WriteRecovery
from askmill.jobs.store.redis_errors import NotOnDisk, translate_redis_errors
from askmill.jobs.store.redis_pool import RedisPool
from askmill.jobs.store.script_pipeline import ScriptPipeline


def new_request() -> str:
    """Return the id of a request. One that is sent again, its reply lost, keeps its id and is done once."""
    return secrets.token_hex(8)


class Scripts:
    """Each method runs the script of its name. The .lua file's first lines document arguments and reply."""

    def __init__(
        self, redis: "Redis", url: str, files: "Redis", lifetime_ms: int, *, replicated: bool = False
    ) -> None:
        self._pipeline = ScriptPipeline(redis, url, lifetime_ms)
        # What a create waits for. Apart from the others, which need not wait for a replica.
        self._marks = (
            ScriptPipeline(redis, url, lifetime_ms, replicated=True) if replicated else self._pipeline
        )
        self._files = ScriptPipeline(files, url, lifetime_ms)
        self._pool = cast("RedisPool", redis.connection_pool)
        self._url = url
        self._recovery: WriteRecovery | None = None

    def enable_write_recovery(self, leave_server: Callable[[], Awaitable[None]]) -> None:
        """Redo what Redis loses of the writes from now on. For workers: no command's writes are redone."""
        self._recovery = WriteRecovery(leave_server)
        for pipeline in dict.fromkeys((self._pipeline, self._marks, self._files)):
            pipeline.enable_write_recovery(self._recovery)

    def follow_heartbeat(self, worker: str, *, alive: bool, deleted_batches: list[str]) -> None:
        """Forget what a heartbeat has shown to be no longer this worker's."""
        if self._recovery is not None:
            self._recovery.log.follow_heartbeat(
                worker, time.monotonic(), alive=alive, deleted_batches=deleted_batches
            )

    async def follow_server(self) -> None:
        """Leave the server for the one that has answered now, and redo the writes that it does not have."""
        if self._recovery is not None:
            with translate_redis_errors(self._url):
                await self._recovery.check(moved=True)

    async def _run_mark(self, name: str, *arguments: Any) -> Any:
        """Run what a create waits for. Raises RedisUnavailable where it may not last."""
        reply = await self._marks.run(name, *arguments)
        if self._pool.may_forget:
            with translate_redis_errors(self._url):
                raise NotOnDisk
        return reply

    async def ensure_durable(self) -> None:
        """Return once all writes before this call are as durable as a mark before a create."""
        await self._run_mark("nothing")

    async def take_identity(
        self,
        names: tuple[str, str, str],
        lifetimes_ms: tuple[int, int],
        values: tuple[list[Any], list[Any]],
        *,
        always_new: bool,
    ) -> list[bytes]:
        """`names`: identity, batch, fence. `lifetimes_ms`: lease, unsealed batch.

        `values`: those that a continued batch keeps, and those that are overwritten.
        """
        kept, overwritten = values
        arguments = (*names, *lifetimes_ms, int(always_new), len(kept), *kept, *overwritten)
        return cast("list[bytes]", await self._pipeline.run("take_identity", *arguments))

    async def find_identity(self, identity: str) -> list[bytes]:
        return cast("list[bytes]", await self._pipeline.run("find_identity", identity))

    async def renew_lease(self, batch: str, fence: str, lifetimes_ms: tuple[int, int]) -> int:
        """`lifetimes_ms`: lease, unsealed batch."""
        return cast("int", await self._pipeline.run("renew_lease", batch, fence, *lifetimes_ms))

    async def add_rows(
        self, loading: tuple[str, str, int], lifetimes_ms: tuple[int, int], status: bytes, *parts: list[Any]
    ) -> int:
        """`loading`: batch, fence, first row.

        `parts`: values for `input`, `results`, `next_turn`, `last_turns`.
        """
        values = [value for part in parts for value in part]
        sizes = map(len, parts)
        return cast(
            "int", await self._pipeline.run("add_rows", *loading, *lifetimes_ms, status, *sizes, *values)
        )

    async def seal(self, batch: str, fence: str, rows: int) -> int:
        return cast("int", await self._pipeline.run("seal", batch, fence, rows))

    async def drop_batch(self, batch: str, fence: str) -> int:
        return cast("int", await self._pipeline.run("drop_batch", batch, fence))

    async def set_resources(self, batch: str, resources: str, fence: str) -> int:
        return cast("int", await self._pipeline.run("set_resources", batch, resources, fence))

    async def resource_acquire(
        self,
        key: tuple[str, str, str, str],
        lock: tuple[int, str, bytes],
        lifetimes_ms: tuple[int, int, int],
        fence: str,
        deleted_ids: list[str],
    ) -> list[bytes]:
        """`key`: batch, kind, sha, creator. `lock`: renewal, note, lock to take over.

        `lifetimes_ms`: creator's lock, unused id, unsealed batch.
        """
        arguments = (*key, *lock, *lifetimes_ms, fence, *deleted_ids)
        return cast("list[bytes]", await self._pipeline.run("resource_acquire", *arguments))

    async def resource_store(self, key: tuple[str, str, str, str], id_: str, unused_ms: int) -> int:
        return cast("int", await self._pipeline.run("resource_store", *key, id_, unused_ms))

    async def resource_release(self, kind: str, sha256: str, creator: str) -> int:
        return cast("int", await self._pipeline.run("resource_release", kind, sha256, creator))

    async def unlink_resources(self, batch: str, names: list[str]) -> list[bytes]:
        return cast("list[bytes]", await self._pipeline.run("unlink_resources", batch, *names))

    async def claim(self, batch: str, row: int, worker: str, fence: str) -> list[Any]:
        return cast("list[Any]", await self._pipeline.run("claim", batch, row, worker, fence))

    async def save(
        self, claimed: tuple[str, int, str], values: tuple[Any, ...], counters: list[Any]
    ) -> list[int]:
        """`claimed`: batch, row, fence.

        `values`: hash of the content, state, run_created, run_in_flight, crash_mark, reserved, spent nano.
        """
        is_mark = values[3] == 1 and not values[2]
        run = self._run_mark if is_mark else self._pipeline.run
        return cast("list[int]", await run("save", *claimed, *values, *counters))

    async def finish(
        self, claimed: tuple[str, int, str, str], values: tuple[Any, ...], counters: list[Any]
    ) -> int:
        """`claimed`: batch, row, worker, fence. `values`: byte, result, next turn's state, run_created."""
        return cast("int", await self._pipeline.run("finish", *claimed, *values, *counters))

    async def release_row(
        self, claimed: tuple[str, int, str, str], values: tuple[Any, ...], counters: list[Any]
    ) -> int:
        """`claimed`: batch, row, worker, fence. `values`: state, due_ms, run_in_flight, spent nano."""
        return cast("int", await self._pipeline.run("release_row", *claimed, *values, *counters))

    async def claim_shard(self, batch: str, name: str, worker: str, fence: str) -> list[Any]:
        return cast("list[Any]", await self._pipeline.run("claim_shard", batch, name, worker, fence))

    async def save_shard(
        self, claimed: tuple[str, int, str], values: tuple[Any, ...], counters: list[Any]
    ) -> list[Any]:
        """`claimed`: batch, number, fence. `values`: state, step, file, rows, lines, reserved nano, files."""
        run = self._run_mark if values[1] == "send" else self._pipeline.run
        return cast("list[Any]", await run("save_shard", *claimed, *values, *counters))

    async def mark_shard(self, batch: str, number: int, fence: str, step: str, row: int | str) -> int:
        return cast("int", await self._pipeline.run("mark_shard", batch, number, fence, step, row))

    async def end_rows(self, claimed: tuple[str, int, str], counters: list[Any], rows: list[Any]) -> int:
        """`claimed`: batch, number, fence. `rows`: row, byte, result or state, spent nano, due_ms, …"""
        arguments = (*claimed, len(counters), *counters, *rows)
        return cast("int", await self._pipeline.run("end_rows", *arguments))

    async def end_shard(
        self,
        claimed: tuple[str, int, str, str],
        values: tuple[Any, ...],
        files: list[str],
        counters: list[Any],
    ) -> int:
        """`claimed`: batch, number, worker, fence. `values`: state, hold_ms, sizes, sizes before."""
        arguments = (*claimed, *values, len(files), *files, *counters)
        return cast("int", await self._pipeline.run("end_shard", *arguments))

    async def adopt_shard(
        self, names: tuple[str, str, str], state: bytes, nano: int, rows: list[int]
    ) -> list[int]:
        """`names`: batch, the API's batch, its input file. `nano`: assumed cost where no row is free."""
        return cast("list[int]", await self._pipeline.run("adopt_shard", *names, state, nano, *rows))

    async def store_file(
        self, claimed: tuple[str, int, str], number: int, content: bytes, limit_bytes: int
    ) -> int:
        """Sent on a connection of its own: the megabytes of a file hold up no other script."""
        arguments = (*claimed, number, content, limit_bytes)
        return cast("int", await self._files.run("store_file", *arguments))

    async def store_image(
        self, loading: tuple[str, str], sha256: str, content: bytes, lifetimes_ms: tuple[int, int]
    ) -> int:
        """`loading`: batch, fence. `lifetimes_ms`: lease, unsealed batch."""
        return cast("int", await self._files.run("store_image", *loading, sha256, content, *lifetimes_ms))

    async def heartbeat(
        self, worker: str, lifetime_ms: int, values: list[Any], batches: list[str]
    ) -> list[Any]:
        arguments = (worker, lifetime_ms, len(values), *values, *batches)
        return cast("list[Any]", await self._pipeline.run("heartbeat", *arguments))

    async def record_clock_step(self, step_ms: int, within_ms: int) -> int:
        return cast("int", await self._pipeline.run("record_clock_step", step_ms, within_ms))

    async def deregister_worker(self, worker: str) -> int:
        return cast("int", await self._pipeline.run("deregister_worker", worker))

    async def reap_workers(self, worker: str, lifetime_ms: int, limit: int, tombstone_ms: int) -> list[Any]:
        return cast(
            "list[Any]", await self._pipeline.run("reap_workers", worker, lifetime_ms, limit, tombstone_ms)
        )

    async def dispatch(self, floor: int, lifetime_ms: int) -> list[Any]:
        return cast("list[Any]", await self._pipeline.run("dispatch", new_request(), floor, lifetime_ms))

    async def requeue(self, names_and_scores: list[Any]) -> list[Any]:
        return cast("list[Any]", await self._pipeline.run("requeue", new_request(), *names_and_scores))

    async def reserve_rate(self, request: str, kind: str, cost: int) -> int:
        return cast("int", await self._pipeline.run("reserve_rate", request, kind, cost))

    async def throttle(self, request: str, wait_ms: int, words: str) -> int | None:
        return cast("int | None", await self._pipeline.run("throttle", request, wait_ms, words))

    async def record_fault(self, batch: str, fault: tuple[str, str, str], count: int, id_: str) -> int:
        """`fault`: kind, words, request."""
        return cast("int", await self._pipeline.run("record_fault", batch, *fault, count, id_))

    async def record_polls(self, batch: str, values: list[Any]) -> int:
        """`values`: row, fence, status, ms of the next poll, …"""
        return cast("int", await self._pipeline.run("record_polls", batch, *values))

    async def record_refusal(self, batch: str, row: int, fence: str) -> list[int]:
        return cast("list[int]", await self._pipeline.run("record_refusal", batch, row, fence))

    async def incr_counters(self, request: str, batch: str, counters: list[Any]) -> int:
        return cast("int", await self._pipeline.run("incr_counters", request, batch, *counters))

    async def pause(
        self, batch: str, reason: str, *, after_fault: bool, resume_after_ms: int | str = ""
    ) -> list[Any]:
        arguments = (batch, reason, int(after_fault), resume_after_ms)
        return cast("list[Any]", await self._pipeline.run("pause", new_request(), *arguments))

    async def resume(self, batch: str) -> list[Any]:
        return cast("list[Any]", await self._pipeline.run("resume", new_request(), batch))

    async def cancel(self, batch: str) -> bytes:
        return cast("bytes", await self._pipeline.run("cancel", batch))

    async def retry(self, batch: str, status_bytes: str) -> int:
        return cast("int", await self._pipeline.run("retry", new_request(), batch, status_bytes))

    async def read_rows(self, batch: str, first: int, last: int, block_rows: int) -> list[Any]:
        return cast("list[Any]", await self._pipeline.run("read_rows", batch, first, last, block_rows))

    async def set_batch_limits(self, batch: str, limits: bytes, budget_nano: int | str, before: bytes) -> int:
        return cast("int", await self._pipeline.run("set_batch_limits", batch, limits, budget_nano, before))

    async def set_retention(self, batch: str, retention_ms: int) -> int:
        return cast("int", await self._pipeline.run("set_retention", batch, retention_ms))

    async def set_expected(self, batch: str, expected: bytes) -> int:
        return cast("int", await self._pipeline.run("set_expected", batch, expected))

    async def create_failed(self, batch: str, reason: str, patience_ms: int) -> int:
        return cast("int", await self._pipeline.run("create_failed", batch, reason, patience_ms))

    async def purge(self, batch: str) -> int:
        return cast("int", await self._pipeline.run("purge", new_request(), batch))
