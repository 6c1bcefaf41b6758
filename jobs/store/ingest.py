"""Write side of the store: take the identity, append rows in blocks of 16, seal. Unsealed ones are invisible.

look ─▶ take ─▶ set_resources ─▶ add_rows … ─▶ seal_batch     never sealed: gone an hour after the last step
          │       (renew)                  └─▶ drop           its command failed or was interrupted
          └ sealed, or loading by another command: nothing to store

One command loads a batch at a time: under a fence, and under a lease of `LEASE_MS` by Redis' clock that each
step renews. Past it another command that wants the same batch takes it over; then each step of the first
raises `LeaseLost`. The fences are kept here, by batch: a `Store` is one loader.
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.model.models import JobStatus, Limits, Result
from askmill.jobs.model.profile import Resources
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, block_of, limits_json, pack, pack_result
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.records import NANO, Found, LeaseLost, Loading, NewBatch, NewRow, ResourceKey

LEASE_MS = 10_000
"""A loader that has been silent for so long may be replaced."""
_UNSEALED_MS = 3_600_000
_MAKING_MS = 60_000
_UNUSED_MS = 90 * 86_400_000
_DAY_MS = 86_400_000
_LEASE = (LEASE_MS, _UNSEALED_MS)
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def budget_nano(limits: Limits) -> int | str:
    """The budget as the scripts compare it; empty for none."""
    return "" if limits.budget_usd is None else round(limits.budget_usd * NANO)


def retention_ms(days: float | None) -> int:
    """As the scripts read it; 0 keeps a batch until `purge`."""
    return int((days or 0) * _DAY_MS)


def _new_id() -> str:
    return "b_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(6))


def _last_before(first_row: int, kept: bytes | None) -> int:
    """The last turn of a conversation in earlier calls, 0 for none.

    `kept` is "last turn before the call:last turn of the call": a repeated call finds its own rows there.
    """
    before, _, last = (kept or b"0:0").decode().partition(":")
    return int(last) if int(last) < first_row else int(before)


@dataclass(frozen=True)
class _Chunk:
    """Rows on their way, as the commands that store them need them."""

    status: bytes
    blocks: list[Any]
    results: list[Any]


def _chunk(first_row: int, rows: Sequence[NewRow], held: set[int]) -> _Chunk:
    status, blocks, results = bytearray(), [], []
    for at in range(0, len(rows), BLOCK_ROWS):
        blocks += [block_of(first_row + at), pack([row.cells for row in rows[at : at + BLOCK_ROWS]])]
    for number, row in enumerate(rows, first_row):
        status += _byte(row, held=number in held)
        if row.reject is not None:
            result = Result(number, JobStatus.REJECTED, error=row.reject, attempts_made=0)
            results += [number, pack_result(result)]
        elif row.reused_result is not None:
            results += [number, row.reused_result]
    return _Chunk(bytes(status), blocks, results)


def _byte(row: NewRow, *, held: bool) -> bytes:
    if row.reject is not None:
        return b"j"
    return b"c" if row.reused_result is not None else b"h" if held else b"q"


class IngestMixin:
    """Batches and rows on their way in, and what can be found again by its content."""

    _at: Connection
    _fences: dict[str, str]
    """Of the batches that this store loads."""

    async def look(self, identity: str) -> Found | None:
        """The newest batch of this identity; None when there is none, or its loader has died."""
        found = await self._at.scripts.look(identity)
        return Found(found[1].decode(), found[0] == b"loading") if found else None

    async def take(self, new: NewBatch, *, anyway: bool = False) -> Found | Loading:
        """Take the identity: `Loading` when this store is to add the rows, else the batch there is.

        A batch whose loader has died is continued: its name, limits and retention stay, its rows are stored
        afresh. `anyway`: a new batch, which is the identity's from now on.
        """
        kept: list[Any] = [
            *("name", new.name, "limits", limits_json(new.limits), "budget_nano", budget_nano(new.limits)),
            *("options", orjson.dumps(new.options), "retention_ms", retention_ms(new.retention_days)),
        ]
        frozen: list[Any] = [
            *("file", new.file, "spec", orjson.dumps(new.spec), "rows", 0),
            *("profile", new.profile.frozen_json(), "resources", new.resources.model_dump_json()),
            *("api", new.api, "base_url", new.base_url, "model", new.model),
        ]
        fence, came = secrets.token_hex(8), b"taken"
        while came == b"taken":
            wanted = (new.identity, _new_id(), fence)
            came, *found = await self._at.scripts.take(wanted, _LEASE, (kept, frozen), anyway=anyway)
        batch = found[0].decode()
        if came in {b"sealed", b"loading"}:
            return Found(batch, came == b"loading")
        self._fences[batch] = fence
        return Loading(batch, came == b"continued", orjson.loads(found[1]))

    async def create_batch(self, new: NewBatch) -> str:
        """A new batch whatever exists; returns its id, such as `b_7hq2m9`."""
        return (await self.take(new, anyway=True)).batch

    async def renew(self, batch: str) -> None:
        """Keep the lease while nothing is stored. Raises as `add_rows` does."""
        _ours(await self._at.scripts.renew(batch, self._fence(batch), _LEASE))

    async def drop(self, batch: str) -> None:
        """Give up loading: nothing of the batch stays, and its identity is free at once.

        What it has uploaded is found by its content. A batch that another command loads by now stays.
        """
        await self._at.scripts.drop(batch, self._fence(batch))

    def _fence(self, batch: str) -> str:
        return self._fences.get(batch, "")

    async def set_resources(self, batch: str, resources: Resources) -> None:
        """What the API holds for the batch, found or made after it was created, or made again.

        Raises LeaseLost to a loader; a worker's batch may have been purged.
        """
        fence = self._fence(batch)
        ours = await self._at.scripts.set_resources(batch, resources.model_dump_json(), fence)
        if fence:
            _ours(ours)

    async def add_rows(self, batch: str, first_row: int, rows: Sequence[NewRow]) -> None:
        """Store rows; some thousand a call are fastest. Repeating a call changes nothing.

        Args:
            batch: an unsealed batch.
            first_row: opens a block: 1, 17, 33, … so every call but the last brings a multiple of 16 rows.
            rows: in file order.

        Raises:
            LeaseLost: another command loads the batch by now.
            Unavailable: its loading stood still for an hour and it has vanished.
        """
        if (first_row - 1) % BLOCK_ROWS:
            raise ValueError(f"first_row must be 1 more than a multiple of {BLOCK_ROWS}, not {first_row}")
        following, turns = await self._chain(batch, first_row, rows)
        chunk = _chunk(first_row, rows, set(following.values()))
        pairs = [part for pair in following.items() for part in pair]
        loading = (batch, self._fence(batch), first_row)
        parts = (chunk.blocks, chunk.results, pairs, turns)
        _ours(await self._at.scripts.add_rows(loading, _LEASE, chunk.status, *parts))

    async def _chain(
        self, batch: str, first_row: int, rows: Sequence[NewRow]
    ) -> tuple[dict[int, int], list[bytes | str]]:
        """Row → the next turn of its conversation, over call borders too; rejected rows are no turns.

        With the values for `turns`: each conversation and its last rows so far.
        """
        turns = [
            (number, hashlib.sha1(row.conversation.encode(), usedforsecurity=False).digest())
            for number, row in enumerate(rows, first_row)
            if row.conversation and row.reject is None
        ]
        if not turns:
            return {}, []
        names = list(dict.fromkeys(name for _, name in turns))
        (stored,) = await self._at.pipeline(("HMGET", keys.part(batch, "turns"), *names))
        before = {name: _last_before(first_row, kept) for name, kept in zip(names, stored, strict=True)}
        following, last = {}, dict(before)
        for number, name in turns:
            if last[name]:
                following[last[name]] = number
            last[name] = number
        return following, [part for name in names for part in (name, f"{before[name]}:{last[name]}")]

    async def seal_batch(self, batch: str) -> None:
        """From here on the batch is listed, fed, and followed by other commands. Raises like `add_rows`."""
        _ours(await self._at.scripts.seal(batch, self._fence(batch)))
        self._fences.pop(batch, None)

    async def acquire_resource(
        self, wanted: ResourceKey, gone: Collection[str] = ()
    ) -> tuple[bool, str | None]:
        """Whether it is this maker's turn to make it; else its id, or None while somebody else makes it.

        `gone` are ids that the API no longer has. Who has the turn says `remember`, or `forget` when it
        failed, and asks again while it takes long; a minute after it fell silent, the turn is another's.
        A loader that has lost its batch loses its turns with it, and is told so by LeaseLost.
        """
        lifetimes_ms, fence = (_MAKING_MS, _UNUSED_MS, _UNSEALED_MS), self._fence(wanted.batch)
        found = await self._at.scripts.resource_acquire(self._named(wanted), lifetimes_ms, fence, list(gone))
        if found == -1:
            raise LeaseLost
        return (False, found.decode()) if isinstance(found, bytes) else (bool(found), None)

    def _named(self, wanted: ResourceKey) -> tuple[str, str, str, str]:
        """As the scripts take it: the maker of a loader names its batch and its fence."""
        batch, kind, sha256, maker = wanted.script_args
        fence = self._fence(batch)
        return batch, kind, sha256, f"{batch}/{fence}/{maker}" if fence else maker

    async def store_resource(self, wanted: ResourceKey, made: str) -> None:
        """It is made: found by its content for 90 days after its last use, and in the batch's ledger."""
        await self._at.scripts.resource_store(self._named(wanted), made, _UNUSED_MS)

    async def release_resource(self, wanted: ResourceKey) -> None:
        """It could not be made: the turn is another's, unless it is so already."""
        _, kind, sha256, maker = self._named(wanted)
        await self._at.scripts.resource_release(kind, sha256, maker)

    async def list_resources(self, batch: str) -> list[tuple[str, str]]:
        """(kind, id) of all that the batch uses at the API beside its rows' own."""
        names = await self._at.execute("HKEYS", keys.part(batch, "made"))
        return [_kind_and_id(name) for name in names]

    async def unlink_unused(self, batch: str, made: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those that no other batch uses, nor one on its way in; nobody finds them by content any more."""
        free = await self._at.scripts.unlink_resources(batch, [f"{kind}:{id_}" for kind, id_ in made])
        return [_kind_and_id(name) for name in free]


def _ours(reply: int) -> None:
    """What a script has said of the batch that it was to change."""
    if reply == 0:
        raise Unavailable("the batch was not filled within an hour and has been dropped; submit it again")
    if reply == -1:
        raise LeaseLost


def _kind_and_id(name: bytes) -> tuple[str, str]:
    kind, _, id_ = name.decode().partition(":")
    return kind, id_
