"""Invariants of a Redis that askmill has used: every key is known, every row is in exactly one place.

byte   is in                             has a live hash      has a result
q h    nothing else                      no                   perhaps an earlier one
p      `dispatched`                      perhaps              perhaps an earlier one
w      `due` or `due_running`, not both  perhaps              perhaps an earlier one
r      `claims` of one worker            with its fence       perhaps an earlier one
c i e f j                                no                   yes
x                                        no                   perhaps

With tier batch a row p or r is in one shard, and the shard in the place of the row: each open shard is in
`dispatched`, `due_running` or `claims`, and has a live hash.
"""

from collections import Counter
from collections.abc import Iterator

import redis

from askmill.jobs.model.models import STATUS_OF_BYTE, UNFINISHED
from askmill.jobs.store import keys

_BROKER_KEYS = ("askmill", "askmill:unacked", "_kombu.", "unacked", "celery")
_RESOURCE_KEYS = tuple(keys.resource(kind, "") for kind in ("assistant", "file", "vector_store"))
_OPEN_BYTES = {byte for byte, status in STATUS_OF_BYTE.items() if status in UNFINISHED}


def assert_no_leaks(url: str) -> None:
    """Fail, naming every key and row that contradicts jobs/store/keys.py or the table above."""
    with redis.Redis.from_url(url, decode_responses=False) as client:
        faults = list(_check_keys(client))
        claimed = {
            name.decode(): worker
            for worker in _decode(client.zrange(keys.WORKERS, 0, -1))
            for name in client.smembers(keys.claims(worker))
        }
        dispatched = set(_decode(client.zrange(keys.DISPATCHED, 0, -1)))
        batches = _decode(client.zrange(keys.BATCHES, 0, -1))
        faults += [
            f"{batch} is sealed, and still listed as loading"
            for batch in _decode(list(client.smembers(keys.LOADING)))
            if batch in batches
        ]
        for batch in batches:
            faults += _check_batch(client, batch, dispatched, claimed)
        faults += [
            f"{name} is dispatched or claimed, but its batch is gone"
            for name in [*dispatched, *claimed]
            if name[:8] not in batches
        ]
    assert not faults, "\n".join(["Redis is not as it must be:", *faults])


def _decode(raw: list[bytes]) -> list[str]:
    return [name.decode() for name in raw]


def _check_keys(client: redis.Redis) -> Iterator[str]:
    sealed = set(_decode(client.zrange(keys.BATCHES, 0, -1)))
    workers = set(_decode(client.zrange(keys.WORKERS, 0, -1)))
    names = _decode(list(client.scan_iter(count=1000)))
    with client.pipeline(transaction=False) as pipe:
        for key in names:
            pipe.type(key).ttl(key)
        replies = pipe.execute()
    for key, stored_type, ttl_s in zip(names, replies[::2], replies[1::2], strict=True):
        if stored_type == b"none":  # it has expired meanwhile
            continue
        expected = keys.type_of(key)
        if expected is None and not key.startswith(_BROKER_KEYS):
            yield f"key {key} is in no table"
        elif expected is not None and stored_type.decode() != expected:
            yield f"key {key} is a {stored_type.decode()}, not a {expected}"
        elif key.startswith("askmill:batch:") and key.split(":")[2] not in sealed and ttl_s < 0:
            yield f"key {key} belongs to no sealed batch and never expires"
        elif key.startswith(_RESOURCE_KEYS) and ttl_s < 0:
            yield f"key {key} has no owner and never expires"
        elif key.startswith(keys.claims("")) and key.split(":")[2] not in workers:
            yield f"key {key} belongs to no worker that a reap would find"


def _check_batch(
    client: redis.Redis, batch: str, dispatched: set[str], claimed: dict[str, str]
) -> Iterator[str]:
    stored = {name.decode(): value.decode() for name, value in client.hgetall(keys.batch(batch)).items()}
    status = client.get(keys.part(batch, "status")).decode()
    counters = {
        name.decode(): int(value) for name, value in client.hgetall(keys.part(batch, "counters")).items()
    }
    if len(status) != int(stored["rows"]):
        yield f"{batch} has {stored['rows']} rows and {len(status)} status bytes"
    counted = {byte: counters.get(byte, 0) for byte in STATUS_OF_BYTE}
    if counted != {byte: Counter(status)[byte] for byte in STATUS_OF_BYTE}:
        yield f"{batch} counts {counted}, its bytes are {Counter(status)}"
    unfinished = sum(status.count(byte) for byte in _OPEN_BYTES) + counters.get("open_shards", 0)
    over = "finished_at" in stored and stored["state"] in {"done", "cancelled"}
    if over != (unfinished == 0) or (stored["state"] == "done" and unfinished):
        yield f"{batch} is {stored['state']} with {unfinished} unfinished rows: {stored}"
    if (client.zscore(keys.OPEN, batch) is None) != (unfinished == 0):
        yield f"{batch} has {unfinished} unfinished rows; in open: {client.zscore(keys.OPEN, batch)}"
    yield from _check_rows(client, batch, status, dispatched, claimed)
    yield from _check_shards(client, batch, status, dispatched, claimed)
    yield from _check_turns(client, batch, status)


def _check_rows(
    client: redis.Redis, batch: str, status: str, dispatched: set[str], claimed: dict[str, str]
) -> Iterator[str]:
    due = set(_decode(client.zrange(keys.part(batch, "due"), 0, -1)))
    due_running = set(_decode(client.zrange(keys.part(batch, "due_running"), 0, -1)))
    results = set(_decode(client.hkeys(keys.part(batch, "results"))))
    with client.pipeline(transaction=False) as pipe:
        for row in range(1, len(status) + 1):
            pipe.hgetall(keys.live(batch, row))
        live_hashes = pipe.execute()
    in_shards = client.hget(keys.batch(batch), "tier") == b"batch"
    money = _money_of_shards(client, batch)
    for row, byte in enumerate(status, 1):
        name = keys.member(batch, row)
        live = {field.decode(): value.decode() for field, value in live_hashes[row - 1].items()}
        money.update({field: int(live.get(field, 0)) for field in ("reserved_nano", "spent_nano")})
        waiting = (str(row) in due) + (str(row) in due_running)
        places = {"w": waiting} | ({} if in_shards else {"p": name in dispatched, "r": name in claimed})
        if any(found != (place == byte) for place, found in places.items()):
            yield f"{name} is {byte}, but found in {places} (dispatched, due and due_running, claims)"
        if live and byte not in "pwr":
            yield f"{name} is {byte} and has a live hash {live}"
        held_by = (live.get("worker"), "fence" in live)
        if byte == "r" and not in_shards and held_by != (claimed.get(name), True):
            yield f"{name} is claimed by {claimed.get(name)}, its live hash is {live}"
        if byte != "r" and "fence" in live:
            yield f"{name} is {byte} and has a fence"
        if byte in "ciefj" and str(row) not in results:
            yield f"{name} is {byte} and has no result"
    for field in ("reserved_nano", "spent_nano"):
        if money[field] != int(client.hget(keys.part(batch, "counters"), field) or 0):
            yield f"{batch}'s rows sum to a {field} of {money[field]}, but it counts otherwise"


def _open_shards(client: redis.Redis, batch: str) -> dict[str, dict[str, str]]:
    """Name of each open shard → its live hash."""
    last = int(client.hget(keys.part(batch, "shards"), "next") or 1)
    names = [keys.shard(number) for number in range(1, last)]
    hashes = {name: client.hgetall(keys.live(batch, name)) for name in names}
    return {
        name: {field.decode(): value.decode() for field, value in live.items()}
        for name, live in hashes.items()
        if live
    }


def _money_of_shards(client: redis.Redis, batch: str) -> Counter[str]:
    money = Counter[str]()
    for live in _open_shards(client, batch).values():
        money["reserved_nano"] += int(live.get("reserved_nano", 0))
    return money


def _check_shards(
    client: redis.Redis, batch: str, status: str, dispatched: set[str], claimed: dict[str, str]
) -> Iterator[str]:
    shards = _open_shards(client, batch)
    counted = int(client.hget(keys.part(batch, "counters"), "open_shards") or 0)
    if counted != len(shards):
        yield f"{batch} counts {counted} open shards, and has {sorted(shards)}"
    due = set(_decode(client.zrange(keys.part(batch, "due_running"), 0, -1)))
    holders = {
        int(row): shard.decode() for row, shard in client.hgetall(keys.part(batch, "shard_rows")).items()
    }
    for name, live in shards.items():
        member = keys.member(batch, name)
        places = (member in dispatched) + (member in claimed) + (name in due)
        inside = sum(keys.shard(int(shard)) == name for shard in holders.values())
        if places != 1 or ("fence" in live) != (member in claimed):
            yield f"{batch} has {name} in {places} places: {live}"
        if inside != int(live["rows"]):
            yield f"{batch} has {inside} rows in {name}, which counts {live['rows']}"
    ended = {row for row, shard in holders.items() if keys.shard(int(shard)) not in shards}
    if ended:
        yield f"{batch} has rows in ended shards: {sorted(ended)}"
    for row, byte in enumerate(status, 1):
        if byte in "qwcief" and row in holders:
            yield f"{batch}:{row} is {byte} and in shard {holders[row]}"


def _check_turns(client: redis.Redis, batch: str, status: str) -> Iterator[str]:
    next_turns = client.hgetall(keys.part(batch, "next_turn"))
    earlier_turn = {int(row): int(earlier) for earlier, row in next_turns.items()}
    if client.exists(keys.part(batch, "last_turns")):
        yield f"{batch} is sealed, and still has what only its loading needed"
    if any(row <= earlier for row, earlier in earlier_turn.items()):
        yield f"{batch} has a turn that comes before its earlier turn: {earlier_turn}"
    for row, byte in enumerate(status, 1):
        if byte == "h" and status[earlier_turn[row] - 1] not in _OPEN_BYTES:
            yield f"{batch}:{row} is held behind a turn that is {status[earlier_turn[row] - 1]}"
