"""What one script changes in Redis: every key and field, so that a test can compare all of it."""

import re
from typing import Any, NamedTuple

import redis

from askmill.jobs.store import Store

NEAR_MS = 60_000
"""A number so near to Redis' clock, in milliseconds, is a time: `now`; so is a number of ten seconds."""

_KINDS = ((r"[0-9a-f]{40}$", "hash"), (r'\{"attempts"', "limits"), ("\\(\ufffd/\ufffd", "packed"))

Changes = dict[str, Any]


class Effect(NamedTuple):
    """The reply; and key → its new value, or field → new value of a hash, a set or a sorted set. `None`: it is gone.

    Keys have no `askmill:batch:BATCH:`. The batch is `B`, a time is `now`; a hash, limits and packed bytes say so.
    """

    reply: Any
    changes: Changes


class Effects:
    """Runs scripts on the tests' Redis and compares what it holds before and after."""

    def __init__(self, store: Store, url: str, batch: str) -> None:
        self._store, self._url, self._batch = store, url, batch
        self.started_s = 0.0
        """Redis' time when the last script was about to run."""

    async def of(self, script: str, *arguments: Any) -> Effect:
        """Run a script once. The batch is `B` in its arguments as well."""
        with redis.Redis.from_url(self._url) as client:
            seconds, microseconds = client.time()
            self.started_s = seconds + microseconds / 1_000_000
            before = self._state(client)
            reply = await self._store._connection.scripts._pipeline.run(
                script, *map(self._with_batch, arguments)
            )
            after = self._state(client)
        return Effect(_named(self._plain(reply)), _named(_difference(before, after)))

    def due_in_s(self, queue: str, row: int | str) -> float:
        """How long after the start of the last script a row is due, at least: a slow machine makes it no shorter."""
        with redis.Redis.from_url(self._url) as client:
            due_ms = client.zscore(f"askmill:batch:{self._batch}:{queue}", row)
        assert due_ms is not None
        return due_ms / 1000 - int(self.started_s * 1000) / 1000

    def _with_batch(self, argument: Any) -> Any:
        if isinstance(argument, bytes):
            return argument.replace(b'"B"', f'"{self._batch}"'.encode())
        named = isinstance(argument, str) and (argument == "B" or argument.startswith("B:"))
        return self._batch + argument[1:] if named else argument

    def _state(self, client: redis.Redis) -> Changes:
        found = Changes()
        for key in client.scan_iter("askmill:*"):
            if key.startswith(b"askmill:reply:"):
                continue
            name = key.decode().removeprefix("askmill:").removeprefix(f"batch:{self._batch}:")
            found[self._plain(name)] = self._plain(_value(client, key))
        return found

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._plain(name): self._plain(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple | set):
            return [self._plain(inner) for inner in value]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            value = value.replace(self._batch, "B")
            value = int(value) if value.lstrip("-").isdigit() else value
        if isinstance(value, int | float):
            now_ms = self.started_s * 1000
            near = abs(value - now_ms) < NEAR_MS or abs(value - now_ms // 10_000) < 3
            return "now" if near else int(value)
        return value


def _named(value: Any) -> Any:
    """The value, with a name for what only changes or has no text."""
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner) for inner in value]
    if isinstance(value, str):
        return next((kind for pattern, kind in _KINDS if re.match(pattern, value)), value)
    return value


def _value(client: redis.Redis, key: bytes) -> Any:
    match client.type(key):
        case b"hash":
            return client.hgetall(key)
        case b"zset":
            return dict(client.zrange(key, 0, -1, withscores=True))
        case b"set":
            return dict.fromkeys(client.smembers(key), "in")
        case b"list":
            return client.lrange(key, 0, -1)
        case _:
            return client.get(key)


def _difference(before: Changes, after: Changes) -> Changes:
    changes = Changes()
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = {
                field: new.get(field) for field in old.keys() | new.keys() if old.get(field) != new.get(field)
            }
            changes |= {name: inner} if inner else {}
        elif old != new:
            changes[name] = new
    return changes
