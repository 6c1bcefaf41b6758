"""What must hold of a Redis that askmill has used: every key known, every row in exactly one place.

byte   is in                          has a live hash      has a result
q h    nothing else                   no                   perhaps an older one
p      `fed`                          perhaps              perhaps an older one
w      `due` or `orphans`, not both   perhaps              perhaps an older one
r      `held` of one worker           with its fence       perhaps an older one
c i e f j                             no                   yes
x                                     no                   perhaps
"""

from collections import Counter

import redis

from askmill.jobs.model.models import STATUS_OF_BYTE, UNFINISHED
from askmill.jobs.store import keys

_CELERYS = ("askmill", "askmill:unacked", "_kombu.", "unacked", "celery")
_FOUND_AGAIN = tuple(keys.resource(kind, "") for kind in ("assistant", "file", "vector_store"))
_OPEN_BYTES = {byte for byte, status in STATUS_OF_BYTE.items() if status in UNFINISHED}


def assert_no_leaks(url: str) -> None:
    """Fails naming every key and row that is not as jobs/store/keys.py and the table above say."""
    with redis.Redis.from_url(url, decode_responses=False) as client:
        faults = list(_keys(client))
        held = {
            name.decode(): worker
            for worker in _names(client.zrange(keys.WORKERS, 0, -1))
            for name in client.smembers(keys.held(worker))
        }
        fed = set(_names(client.zrange(keys.FED, 0, -1)))
        batches = _names(client.zrange(keys.BATCHES, 0, -1))
        faults += [
            f"{batch} is sealed, and still on its way in"
            for batch in _names(list(client.smembers(keys.LOADING)))
            if batch in batches
        ]
        for batch in batches:
            faults += _batch(client, batch, fed, held)
        faults += [
            f"{name} is fed or held, but its batch is gone"
            for name in [*fed, *held]
            if name[:8] not in batches
        ]
    assert not faults, "\n".join(["Redis is not as it must be:", *faults])


def _names(raw: list[bytes]) -> list[str]:
    return [name.decode() for name in raw]


def _keys(client: redis.Redis):
    sealed = set(_names(client.zrange(keys.BATCHES, 0, -1)))
    workers = set(_names(client.zrange(keys.WORKERS, 0, -1)))
    found = _names(list(client.scan_iter(count=1000)))
    with client.pipeline(transaction=False) as pipe:
        for key in found:
            pipe.type(key).ttl(key)
        told = pipe.execute()
    for key, stored, ttl_s in zip(found, told[::2], told[1::2], strict=True):
        kind = keys.type_of(key)
        if kind is None and not key.startswith(_CELERYS):
            yield f"key {key} is in no table"
        elif kind is not None and stored.decode() != kind:
            yield f"key {key} is a {stored.decode()}, not a {kind}"
        elif key.startswith("askmill:b:") and key.split(":")[2] not in sealed and ttl_s < 0:
            yield f"key {key} belongs to no sealed batch and never expires"
        elif key.startswith(_FOUND_AGAIN) and ttl_s < 0:
            yield f"key {key} has no owner and never expires"
        elif key.startswith("askmill:held:") and key.split(":")[2] not in workers:
            yield f"key {key} belongs to no worker that a sweep would find"


def _batch(client: redis.Redis, batch: str, fed: set[str], held: dict[str, str]):
    about = {name.decode(): value.decode() for name, value in client.hgetall(keys.batch(batch)).items()}
    status = client.get(keys.part(batch, "status")).decode()
    counts = {name.decode(): int(value) for name, value in client.hgetall(keys.part(batch, "n")).items()}
    if len(status) != int(about["rows"]):
        yield f"{batch} has {about['rows']} rows and {len(status)} status bytes"
    told = {byte: counts.get(byte, 0) for byte in STATUS_OF_BYTE}
    if told != {byte: Counter(status)[byte] for byte in STATUS_OF_BYTE}:
        yield f"{batch} counts {told}, its bytes say {Counter(status)}"
    unfinished = sum(status.count(byte) for byte in _OPEN_BYTES)
    over = "finished_at" in about and about["state"] in {"done", "cancelled"}
    if over != (unfinished == 0) or (about["state"] == "done" and unfinished):
        yield f"{batch} is {about['state']} with {unfinished} unfinished rows: {about}"
    if (client.zscore(keys.OPEN, batch) is None) != (unfinished == 0):
        yield f"{batch} has {unfinished} unfinished rows; in open: {client.zscore(keys.OPEN, batch)}"
    yield from _rows(client, batch, status, fed, held)
    yield from _turns(client, batch, status)


def _rows(client: redis.Redis, batch: str, status: str, fed: set[str], held: dict[str, str]):
    due = set(_names(client.zrange(keys.part(batch, "due"), 0, -1)))
    orphans = set(_names(client.zrange(keys.part(batch, "orphans"), 0, -1)))
    results = set(_names(client.hkeys(keys.part(batch, "results"))))
    with client.pipeline(transaction=False) as pipe:
        for row in range(1, len(status) + 1):
            pipe.hgetall(keys.live(batch, row))
        lives = pipe.execute()
    put_by = Counter[str]()
    for row, byte in enumerate(status, 1):
        name = f"{batch}:{row}"
        live = {field.decode(): value.decode() for field, value in lives[row - 1].items()}
        put_by.update({kind: int(live.get(kind, 0)) for kind in ("reserved", "spent")})
        places = {"p": name in fed, "w": (str(row) in due) + (str(row) in orphans), "r": name in held}
        if any(found != (place == byte) for place, found in places.items()):
            yield f"{name} is {byte}, but found in {places} (fed, due and orphans, held)"
        if live and byte not in "pwr":
            yield f"{name} is {byte} and has a live hash {live}"
        if byte == "r" and (live.get("worker") != held.get(name) or "fence" not in live):
            yield f"{name} is held by {held.get(name)}, its live hash is {live}"
        if byte != "r" and "fence" in live:
            yield f"{name} is {byte} and has a fence"
        if byte in "ciefj" and str(row) not in results:
            yield f"{name} is {byte} and has no result"
    for kind in ("reserved", "spent"):
        if put_by[kind] != int(client.hget(keys.part(batch, "n"), f"{kind}_nano") or 0):
            yield f"{batch}'s rows have {put_by[kind]} nano-dollars {kind}, but it counts otherwise"


def _turns(client: redis.Redis, batch: str, status: str):
    before = {int(row): int(earlier) for earlier, row in client.hgetall(keys.part(batch, "next")).items()}
    if client.exists(keys.part(batch, "turns")):
        yield f"{batch} is sealed, and still has what only its loading needed"
    if any(row <= earlier for row, earlier in before.items()):
        yield f"{batch} has a turn that comes before its earlier turn: {before}"
    for row, byte in enumerate(status, 1):
        if byte == "h" and status[before[row] - 1] not in _OPEN_BYTES:
            yield f"{batch}:{row} is held behind a turn that is {status[before[row] - 1]}"
