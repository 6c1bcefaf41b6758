"""Batching of scripts: those called at the same moment share one pipeline, one round trip.

    claim ─┐
    save  ─┼─▶ queue ══ pipeline ══▶ Redis       idle: sent at once
    save  ─┘     ▲                               busy: calls during a round trip share the next
                 └─ finish, save, …

A pipeline is bounded in scripts and in bytes, so that none waits long for the others. Each script still runs
by itself and has its own reply or error: the pipeline is no transaction. redis-py spends most of a call's CPU
on the round trip (0.14 ms for a claim alone, 0.05 ms with fifty at once).
"""

import asyncio
import hashlib
from functools import cache
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from askmill.jobs.store import keys
from askmill.jobs.store.redis_errors import NotReplicated, translate_redis_errors

_LARGEST_PIPELINE, _LARGEST_PIPELINE_BYTES = 200, 1 << 20
"""Scripts per pipeline, and bytes of their arguments; a larger script travels alone."""

REPLICA_WAIT_MS = 2000
"""How long a pipeline waits for a replica. Shorter than the connection's own time limit."""

_Call = tuple[str, tuple[Any, ...], "asyncio.Future[Any]"]


@cache
def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class ScriptPipeline:
    """Sends scripts to one Redis. Belongs to one event loop.

    With `replicated`, a script's reply counts only once a replica has acknowledged what the script wrote: one
    WAIT for all scripts of a pipeline. Otherwise its caller gets RedisUnavailable, and sends it again.
    """

    def __init__(self, redis: "Redis", url: str, *, replicated: bool = False) -> None:
        self._redis, self._url, self._replicated = redis, url, replicated
        self._queue: list[_Call] = []
        self._sender: asyncio.Task[None] | None = None

    async def run(self, text: str, *arguments: Any) -> Any:
        """Run a script and return its reply.

        Raises:
            RedisUnavailable: see `jobs.store.redis_errors`.
        """
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((text, arguments, reply))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_queue(), name="askmill-script-pipeline")
        with translate_redis_errors(self._url):
            return await reply

    async def _send_queue(self) -> None:
        try:
            while self._queue:
                await self._send_and_reply(self._take())
        finally:
            self._sender = None

    def _take(self) -> list[_Call]:
        """Remove the next pipeline's calls from the queue."""
        count = size = 0
        for _, arguments, _ in self._queue[:_LARGEST_PIPELINE]:
            size += sum(len(part) for part in arguments if isinstance(part, bytes | str))
            if count and size > _LARGEST_PIPELINE_BYTES:
                break
            count += 1
        calls, self._queue = self._queue[:count], self._queue[count:]
        return calls

    async def _send_and_reply(self, calls: list[_Call]) -> None:
        try:
            replies = await self._send(calls)
            unknown = [
                call for call, reply in zip(calls, replies, strict=True) if isinstance(reply, NoScriptError)
            ]
            if unknown:
                await self._load_scripts({text for text, _, _ in unknown})
                second = iter(await self._send(unknown))
                replies = [next(second) if isinstance(reply, NoScriptError) else reply for reply in replies]
        except Exception as fault:  # noqa: BLE001 -- each caller gets the fault, whatever it is
            replies = [fault] * len(calls)
        for (_, _, future), reply in zip(calls, replies, strict=True):
            # The caller may have been cancelled meanwhile.
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def _send(self, calls: list[_Call]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for text, arguments, _ in calls:
            pipe.execute_command("EVALSHA", _sha1(text), 0, *arguments)
        if not self._replicated:
            return await pipe.execute(raise_on_error=False)
        # WAIT covers all that the server wrote before the last write of its own connection. A script that was
        # sent twice may write nothing the second time, so a write of our own comes before it.
        pipe.execute_command("SET", keys.REPLICATED, 1, "PX", REPLICA_WAIT_MS)
        pipe.execute_command("WAIT", 1, REPLICA_WAIT_MS)
        *replies, _, replicas = await pipe.execute(raise_on_error=False)
        if isinstance(replicas, int) and replicas >= 1:
            return replies
        return [reply if isinstance(reply, Exception) else NotReplicated() for reply in replies]

    async def _load_scripts(self, texts: set[str]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for text in texts:
            pipe.execute_command("SCRIPT LOAD", text)
        await pipe.execute()
