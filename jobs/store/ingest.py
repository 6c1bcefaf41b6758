"""Write side of the store: take the identity, add rows in blocks of 16, seal. Unsealed batches are invisible.

look ─▶ take ─▶ set_resources ─▶ add_rows … ─▶ seal_batch     never sealed: expires an hour after that
          │       (renew)                  └─▶ drop           its command failed or was interrupted
          └ sealed, or loading by another command: nothing to store

One command, the loader, loads a batch at a time. It holds the batch with a fence and a lease of `LEASE_MS` by
Redis' clock, which each step renews. After that another command that wants the same batch takes it over, and
each step of the first raises `LeaseLost`. A `Store` keeps the fences of the batches that it loads.
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.model.models import JobStatus, Limits, Result
from askmill.jobs.model.profile import Resources
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, block_of, limits_json, pack, pack_result
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.records import (
    BATCH_TIER,
    NANO,
    Acquired,
    BatchToLoad,
    FoundBatch,
    LeaseLost,
    NewBatch,
    NewRow,
    ResourceKey,
)

LEASE_MS = 10_000
"""A loader that is silent for so long may be replaced."""
_UNSEALED_MS = 3_600_000
_LOCK_MS = 86_400_000
"""A dead creator's note is kept so long; its lock is taken over within seconds."""
_UNUSED_MS = 90 * 86_400_000
_DAY_MS = 86_400_000
_LEASE = (LEASE_MS, _UNSEALED_MS)
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def budget_nano(limits: Limits) -> int | str:
    """Return the budget in nano-dollars, as the scripts compare it; empty for none."""
    return "" if limits.budget_usd is None else round(limits.budget_usd * NANO)


def retention_ms(days: float | None) -> int:
    """Return the retention as the scripts read it; 0 keeps a batch until `purge`."""
    return int((days or 0) * _DAY_MS)


def _new_id() -> str:
    return "b_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(6))


def _last_turn_before(first_row: int, stored: bytes | None) -> int:
    """Return the last turn of a conversation in earlier calls, 0 for none.

    `stored` is "last turn before the latest call:last turn of it": a repeated call finds its own rows there.
    """
    before, _, last = (stored or b"0:0").decode().partition(":")
    return int(last) if int(last) < first_row else int(before)


def _status_byte(row: NewRow, *, held: bool) -> bytes:
    if row.reject is not None:
        return b"j"
    return b"c" if row.reused_result is not None else b"h" if held else b"q"


def _input_blocks(first_row: int, rows: Sequence[NewRow]) -> list[Any]:
    """Return block number, packed cells of 16 rows, …"""
    blocks: list[Any] = []
    for at in range(0, len(rows), BLOCK_ROWS):
        blocks += [block_of(first_row + at), pack([row.cells for row in rows[at : at + BLOCK_ROWS]])]
    return blocks


def _results(first_row: int, rows: Sequence[NewRow]) -> list[Any]:
    """Return row, packed result, … of the rows that have one already."""
    results: list[Any] = []
    for number, row in enumerate(rows, first_row):
        if row.reject is not None:
            rejected = Result(number, JobStatus.REJECTED, error=row.reject, attempts_made=0)
            results += [number, pack_result(rejected)]
        elif row.reused_result is not None:
            results += [number, row.reused_result]
    return results


class IngestMixin:
    """Loading of batches, and API objects that are found again by their content."""

    _connection: Connection
    _fences: dict[str, str]
    """Batch → fence, of the batches that this store loads."""
    _rows_added: dict[str, int]
    """Batch → last row that this store has added."""

    async def find_identity(self, identity: str) -> FoundBatch | None:
        """Return the newest batch of this identity; None when there is none, or its loader has died."""
        reply = await self._connection.scripts.find_identity(identity)
        return FoundBatch(reply[1].decode(), reply[0] == b"loading") if reply else None

    async def take_identity(self, new: NewBatch, *, always_new: bool = False) -> FoundBatch | BatchToLoad:
        """Take the identity: return `BatchToLoad` when this store adds the rows, else the existing batch.

        A batch whose loader has died is continued: it keeps its name, limits and retention, and its rows are
        stored again from the start.

        Args:
            new: what is frozen into a new batch.
            always_new: create a new batch although one exists; from now on it is the identity's.
        """
        kept: list[Any] = [
            *("name", new.name, "limits", limits_json(new.limits), "budget_nano", budget_nano(new.limits)),
            *("options", orjson.dumps(new.options), "retention_ms", retention_ms(new.retention_days)),
        ]
        kept += [] if new.expected is None else ["expected", orjson.dumps(new.expected)]
        overwritten: list[Any] = [
            *("file", new.file, "spec", orjson.dumps(new.spec), "rows", 0),
            *("profile", new.profile.frozen_json(), "resources", new.resources.model_dump_json()),
            *("api", new.api, "base_url", new.base_url, "model", new.model),
            *("organization", new.organization, "project", new.project),
        ]
        if new.profile.service_tier == BATCH_TIER:
            overwritten += ["tier", BATCH_TIER]
        if new.profile.functions is not None:
            overwritten += ["functions", new.profile.functions.sha256]
        fence, outcome = secrets.token_hex(8), b"taken"
        while outcome == b"taken":
            names = (new.identity, _new_id(), fence)
            outcome, *reply = await self._connection.scripts.take_identity(
                names, _LEASE, (kept, overwritten), always_new=always_new
            )
        batch = reply[0].decode()
        if outcome in {b"sealed", b"loading"}:
            return FoundBatch(batch, outcome == b"loading")
        self._fences[batch] = fence
        return BatchToLoad(batch, outcome == b"continued", orjson.loads(reply[1]))

    async def create_batch(self, new: NewBatch) -> str:
        """Create a batch although one exists; returns its id, such as `b_7hq2m9`."""
        return (await self.take_identity(new, always_new=True)).batch

    async def renew_lease(self, batch: str) -> None:
        """Renew the lease while nothing is stored. Raises as `add_rows` does."""
        _check_loader(await self._connection.scripts.renew_lease(batch, self._fence(batch), _LEASE))

    async def drop_batch(self, batch: str) -> None:
        """Stop loading and delete the batch; its identity is free at once.

        Its uploads can still be found by their content. A batch that another command loads by now stays.
        """
        await self._connection.scripts.drop_batch(batch, self._fence(batch))

    def _fence(self, batch: str) -> str:
        return self._fences.get(batch, "")

    async def set_resources(self, batch: str, resources: Resources) -> None:
        """Store the ids of the batch's objects at the API, when they are created or created again.

        Raises LeaseLost to a loader; a worker's batch may have been purged.
        """
        fence = self._fence(batch)
        reply = await self._connection.scripts.set_resources(batch, resources.model_dump_json(), fence)
        if fence:
            _check_loader(reply)

    async def store_image(self, batch: str, sha256: str, content: bytes) -> None:
        """Store an image that rows of a loading batch name. Raises LeaseLost."""
        loading = (batch, self._fence(batch))
        _check_loader(await self._connection.scripts.store_image(loading, sha256, content, _LEASE))

    async def add_rows(self, batch: str, first_row: int, rows: Sequence[NewRow]) -> None:
        """Store rows; a few thousand per call are fastest. Repeating a call changes nothing.

        Args:
            batch: an unsealed batch.
            first_row: begins a block: 1, 17, 33, … so each call but the last has a multiple of 16 rows.
            rows: in file order.

        Raises:
            LeaseLost: another command loads the batch by now.
            Unavailable: nothing was stored for an hour, and the batch has expired.
        """
        if (first_row - 1) % BLOCK_ROWS:
            raise ValueError(f"first_row must be 1 more than a multiple of {BLOCK_ROWS}, not {first_row}")
        next_turns, last_turns = await self._link_turns(batch, first_row, rows)
        held, results = set(next_turns.values()), _results(first_row, rows)
        status = b"q" * len(rows)
        if held or results:
            status = b"".join(
                _status_byte(row, held=number in held) for number, row in enumerate(rows, first_row)
            )
        parts = (
            _input_blocks(first_row, rows),
            results,
            [number for pair in next_turns.items() for number in pair],
            last_turns,
        )
        loading = (batch, self._fence(batch), first_row)
        _check_loader(await self._connection.scripts.add_rows(loading, _LEASE, status, *parts))
        self._rows_added[batch] = max(first_row + len(rows) - 1, self._rows_added.get(batch, 0))

    async def _link_turns(
        self, batch: str, first_row: int, rows: Sequence[NewRow]
    ) -> tuple[dict[int, int], list[bytes | str]]:
        """Return row → next row of its conversation, and the new values for `last_turns`.

        A conversation may continue one of an earlier call. Rejected rows are no turns.
        """
        turns = [
            (number, hashlib.sha1(row.conversation.encode(), usedforsecurity=False).digest())
            for number, row in enumerate(rows, first_row)
            if row.conversation and row.reject is None
        ]
        if not turns:
            return {}, []
        names = list(dict.fromkeys(name for _, name in turns))
        (stored,) = await self._connection.pipeline(("HMGET", keys.part(batch, "last_turns"), *names))
        before = {
            name: _last_turn_before(first_row, value) for name, value in zip(names, stored, strict=True)
        }
        next_turns, last = {}, dict(before)
        for number, name in turns:
            if last[name]:
                next_turns[last[name]] = number
            last[name] = number
        return next_turns, [part for name in names for part in (name, f"{before[name]}:{last[name]}")]

    async def seal_batch(self, batch: str) -> None:
        """Seal: the batch is listed, and its rows may be dispatched. Raises as `add_rows` does.

        Also raises Unavailable when Redis has lost rows since they were stored.
        """
        rows = self._rows_added.get(batch, 0)
        _check_loader(await self._connection.scripts.seal(batch, self._fence(batch), rows))
        self._fences.pop(batch, None)
        self._rows_added.pop(batch, None)

    async def acquire_resource(
        self,
        resource: ResourceKey,
        deleted_ids: Collection[str] = (),
        *,
        renewal: int = 0,
        note: str = "",
        silent_lock: bytes = b"",
    ) -> Acquired:
        """Find an API object by its content, or take the lock to create it.

        The holder of the lock calls `store_resource`, or `release_resource` when the create failed. It calls
        `acquire_resource` again to renew the lock: others take a lock over that does not change.

        Args:
            resource: the object, and who would create it.
            deleted_ids: ids that the API no longer has.
            renewal: a number that rises with each renewal.
            note: what the successor needs if this creator dies; without blanks. It is kept once it is set.
            silent_lock: another's lock that has not changed for so long that its creator is dead.

        Raises:
            LeaseLost: another command loads the batch by now; the lock is lost with it.
        """
        lifetimes_ms, fence = (_LOCK_MS, _UNUSED_MS, _UNSEALED_MS), self._fence(resource.batch)
        outcome, *value = await self._connection.scripts.resource_acquire(
            self._script_key(resource), (renewal, note, silent_lock), lifetimes_ms, fence, list(deleted_ids)
        )
        if outcome == b"lost":
            raise LeaseLost
        if outcome == b"create":
            return Acquired(is_creator=True, note=value[0].decode())
        if outcome == b"wait":
            return Acquired(is_creator=False, lock=value[0])
        return Acquired(is_creator=False, object_id=value[0].decode())

    def _script_key(self, resource: ResourceKey) -> tuple[str, str, str, str]:
        """Return batch, kind, sha and creator; a loader's creator is batch/fence/nonce."""
        fence = self._fence(resource.batch)
        creator = f"{resource.batch}/{fence}/{resource.creator}" if fence else resource.creator
        return resource.batch, resource.kind, resource.sha256, creator

    async def store_resource(self, resource: ResourceKey, object_id: str) -> None:
        """Store the id of a created object, by its content (for 90 days unused) and in the batch's ledger."""
        await self._connection.scripts.resource_store(self._script_key(resource), object_id, _UNUSED_MS)

    async def release_resource(self, resource: ResourceKey) -> None:
        """Release the lock after a failed create, if it is still held."""
        _, kind, sha256, creator = self._script_key(resource)
        await self._connection.scripts.resource_release(kind, sha256, creator)

    async def list_resources(self, batch: str) -> list[tuple[str, str]]:
        """Return (kind, id) of the objects that the batch uses at the API, without those of its rows."""
        names = await self._connection.execute("HKEYS", keys.part(batch, "resources"))
        return [_kind_and_id(name) for name in names]

    async def unlink_unused(self, batch: str, objects: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of the objects that no other batch uses; they are no longer found by their content."""
        names = [f"{kind}:{id_}" for kind, id_ in objects]
        return [_kind_and_id(name) for name in await self._connection.scripts.unlink_resources(batch, names)]


def _check_loader(reply: int) -> None:
    """Raise for a script's reply that this store does not load the batch."""
    if reply == 0:
        raise Unavailable("the batch was not filled within an hour and has been dropped; submit it again")
    if reply == -1:
        raise LeaseLost
    if reply == -2:
        raise Unavailable(
            "Redis has lost rows of the file while they were stored: it was restarted, or another server has "
            "taken over. Run the same command again: it stores them anew, nothing was asked"
        )


def _kind_and_id(name: bytes) -> tuple[str, str]:
    kind, _, id_ = name.decode().partition(":")
    return kind, id_
