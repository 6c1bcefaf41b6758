"""Batching of scripts: those called at the same moment share one pipeline, one round trip.

    claim ─┐
    save  ─┼─▶ queue ══ pipeline ══▶ Redis       idle: sent at once
    save  ─┘     ▲                               busy: calls during a round trip share the next
                 └─ finish, save, …

A pipeline is bounded in scripts and in bytes, so that none waits long for the others. Each script has its own
reply or error, whatever the others do. redis-py spends most of a call's CPU on the round trip (0.14 ms for a
claim alone, 0.05 ms with fifty at once).

A worker's pipelines are numbered, and each stores its number after its scripts. When a pipeline finds a lower
number than was acknowledged, Redis has lost writes: they are redone (jobs/store/recovery.py) before any
caller gets a reply that was made without them.
"""

import asyncio
import secrets
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from askmill.jobs.store import keys
from askmill.jobs.store.lost_writes import Call
from askmill.jobs.store.lua_source import script
from askmill.jobs.store.recovery import WriteRecovery
from askmill.jobs.store.redis_errors import NotReplicated, translate_redis_errors

_LARGEST_PIPELINE, _LARGEST_PIPELINE_BYTES = 200, 1 << 20
"""Scripts per pipeline, and bytes of their arguments; a larger script travels alone."""

REPLICA_WAIT_MS = 2000
"""How long a pipeline waits for a replica. Shorter than the connection's own time limit."""

_NUMBER_LIFETIME_MS = 86_400_000
_NUMBERS_PER_PIPELINE = 1 << 40
"""The pipelines of a worker have numbers of their own each."""


class _Pending(NamedTuple):
    call: Call
    reply: "asyncio.Future[Any]"


class ScriptPipeline:
    """Sends scripts to one Redis. Belongs to one event loop.

    With `replicated`, a script's reply counts only once a replica has acknowledged what the script wrote: one
    WAIT for all scripts of a pipeline. Otherwise its caller gets RedisUnavailable, and sends it again.
    """

    def __init__(self, redis: "Redis", url: str, lifetime_ms: int, *, replicated: bool = False) -> None:
        self._redis, self._url, self._replicated = redis, url, replicated
        self._lifetime_ms = lifetime_ms
        self._queue: list[_Pending] = []
        self._sender: asyncio.Task[None] | None = None
        self._recovery: WriteRecovery | None = None
        self._number_key = keys.writes(secrets.token_hex(8))
        self._first_number = self._sent = self.acknowledged = 0
        """Before its first number; number of the last pipeline that was sent, and that has a reply."""
        self.lost: range | None = None
        """Numbers of the pipelines that Redis has lost, until they are redone."""

    def enable_write_recovery(self, recovery: WriteRecovery) -> None:
        """Number the pipelines, and let the recovery redo what Redis loses of them."""
        self._recovery = recovery
        self._first_number = len(recovery.pipelines) * _NUMBERS_PER_PIPELINE
        self._sent = self.acknowledged = self._first_number
        recovery.pipelines.append(self)

    async def run(self, name: str, *arguments: Any) -> Any:
        """Run a script and return its reply.

        Raises:
            RedisUnavailable: see `jobs.store.redis_errors`.
        """
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending((name, arguments), reply))
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
            # Cancelled, as all tasks of a loop that ends: what was called meanwhile still needs a sender.
            if any(not pending.reply.done() for pending in self._queue):
                self._sender = asyncio.create_task(self._send_queue(), name="askmill-script-pipeline")

    def _take(self) -> list[_Pending]:
        """Remove the next pipeline's calls from the queue."""
        count = size = 0
        for (_, arguments), _ in self._queue[:_LARGEST_PIPELINE]:
            size += sum(len(part) for part in arguments if isinstance(part, bytes | str))
            if count and size > _LARGEST_PIPELINE_BYTES:
                break
            count += 1
        pending, self._queue = self._queue[:count], self._queue[count:]
        return pending

    async def _send_and_reply(self, pending: list[_Pending]) -> None:
        calls = [call for call, _ in pending]
        try:
            replies = await (self._recovery.send(self, calls) if self._recovery else self.send(calls))
        except Exception as fault:  # noqa: BLE001 -- each caller gets the fault, whatever it is
            replies = [fault] * len(pending)
        for (_, future), reply in zip(pending, replies, strict=True):
            # The caller may have been cancelled meanwhile.
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    async def send(self, calls: list[Call]) -> list[Any]:
        """Send one pipeline, and those scripts again that Redis did not have yet; returns the replies."""
        replies = await self._send(calls)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            await self._load_scripts({calls[at][0] for at in unknown})
            again = await self._send([calls[at] for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        return replies

    async def _send(self, calls: list[Call]) -> list[Any]:
        commands: list[tuple[Any, ...]] = [
            ("EVALSHA", script(name).sha1, 0, *arguments) for name, arguments in calls
        ]
        if self._recovery is not None:
            self._sent += 1
            number = ("SET", self._number_key, self._sent, "PX", _NUMBER_LIFETIME_MS, "GET")
            # As a transaction, the scripts and the number are lost together or not at all.
            commands = [("MULTI",), *commands, number, ("EXEC",)]
        sent, pipe = self._sent, self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        if self._replicated:
            # WAIT covers all that the server wrote before the last write of its own connection. A script that
            # was sent twice may write nothing the second time, so a write of our own comes before it.
            pipe.execute_command("SET", keys.REPLICATED, 1, "PX", REPLICA_WAIT_MS)
            pipe.execute_command("WAIT", 1, REPLICA_WAIT_MS)
        received = await pipe.execute(raise_on_error=False)
        replies = received[: len(commands)]
        if self._recovery is not None:
            replies = _executed(replies)
            self._acknowledge(sent, replies.pop())
        if not self._replicated or (isinstance(received[-1], int) and received[-1] >= 1):
            return replies
        return [reply if isinstance(reply, Exception) else NotReplicated() for reply in replies]

    def _acknowledge(self, number: int, before: Any) -> None:
        """Compare the stored number, which this pipeline has replaced, with the acknowledged one."""
        if isinstance(before, Exception):  # Redis takes no changes
            return
        stored = int(before or self._first_number)
        if stored < self.acknowledged:
            self.add_lost(range(stored + 1, self.acknowledged + 1))
        self.acknowledged = number

    def add_lost(self, lost: range) -> None:
        """Add numbers of pipelines whose writes are to be redone."""
        earlier = self.lost or lost
        self.lost = range(min(lost.start, earlier.start), max(lost.stop, earlier.stop))

    async def _load_scripts(self, names: set[str]) -> None:
        """Load scripts; a server that does not know them may be another one than before."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.execute_command("EVAL", script("note_server").text, 0, self._lifetime_ms)
        for name in names:
            pipe.execute_command("SCRIPT LOAD", script(name).text)
        await pipe.execute()


def _executed(replies: list[Any]) -> list[Any]:
    """The replies within the transaction; raises the error that has ended it."""
    *queued, executed = replies
    if isinstance(executed, Exception):
        raise next((reply for reply in queued if isinstance(reply, Exception)), executed)
    return list(executed)
