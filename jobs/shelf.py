"""The store's way in: a batch is created, filled block by block, sealed; only then does it exist for others.

create_batch ─▶ set_resources ─▶ add_rows … ─▶ seal_batch     never sealed: gone an hour after the last step
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from jobs import keys
from jobs.codec import BLOCK_ROWS, block_of, limits_json, pack, pack_result
from jobs.connection import Connection
from jobs.errors import Unavailable
from jobs.models import JobStatus, Limits, Result
from jobs.profile import Resources
from jobs.records import NANO, NewBatch, NewRow, Wanted

_UNSEALED_MS = 3_600_000
_MAKING_MS = 60_000
_UNUSED_MS = 90 * 86_400_000
_DAY_MS = 86_400_000
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
        elif row.taken is not None:
            results += [number, row.taken]
    return _Chunk(bytes(status), blocks, results)


def _byte(row: NewRow, *, held: bool) -> bytes:
    if row.reject is not None:
        return b"j"
    return b"c" if row.taken is not None else b"h" if held else b"q"


class Shelf:
    """Batches and rows on their way in, and what can be found again by its content."""

    _at: Connection

    async def create_batch(self, new: NewBatch) -> str:
        """Store what is frozen; returns the batch's id, such as `b_7hq2m9`."""
        fields: list[bytes | str | int] = [
            *("name", new.name, "file", new.file, "spec", orjson.dumps(new.spec), "rows", 0),
            *("profile", new.profile.frozen_json(), "resources", new.resources.model_dump_json()),
            *("api", new.api, "base_url", new.base_url, "model", new.model, "identity", new.identity),
            *("limits", limits_json(new.limits), "budget_nano", budget_nano(new.limits)),
            *("options", orjson.dumps(new.options), "retention_ms", retention_ms(new.retention_days)),
        ]
        while True:
            batch = _new_id()
            if await self._at.scripts.create(batch, _UNSEALED_MS, fields):
                return batch

    async def set_resources(self, batch: str, resources: Resources) -> None:
        """What the API holds for the batch, found or made after it was created, or made again."""
        await self._at.scripts.resources(batch, resources.model_dump_json())

    async def add_rows(self, batch: str, first_row: int, rows: Sequence[NewRow]) -> None:
        """Store rows; some thousand a call are fastest. Repeating a call changes nothing.

        Args:
            batch: an unsealed batch.
            first_row: opens a block: 1, 17, 33, … so every call but the last brings a multiple of 16 rows.
            rows: in file order.
        """
        if (first_row - 1) % BLOCK_ROWS:
            raise ValueError(f"first_row must be 1 more than a multiple of {BLOCK_ROWS}, not {first_row}")
        following = await self._chain(batch, first_row, rows)
        chunk = _chunk(first_row, rows, set(following.values()))
        commands: list[tuple[Any, ...]] = [
            ("SETRANGE", keys.part(batch, "status"), first_row - 1, chunk.status),
            ("HSET", keys.part(batch, "input"), *chunk.blocks),
        ]
        if chunk.results:
            commands.append(("HSET", keys.part(batch, "results"), *chunk.results))
        if following:
            pairs = [part for pair in following.items() for part in pair]
            commands.append(("HSET", keys.part(batch, "next"), *pairs))
        names = ("status", "input", "results", "next", "turns", "made")
        commands += [("PEXPIRE", keys.part(batch, name), _UNSEALED_MS) for name in names]
        await self._at.together(*commands, ("PEXPIRE", keys.batch(batch), _UNSEALED_MS))

    async def _chain(self, batch: str, first_row: int, rows: Sequence[NewRow]) -> dict[int, int]:
        """Row → the next turn of its conversation, over call borders too; rejected rows are no turns."""
        turns = [
            (number, hashlib.sha1(row.conversation.encode(), usedforsecurity=False).digest())
            for number, row in enumerate(rows, first_row)
            if row.conversation and row.reject is None
        ]
        if not turns:
            return {}
        names = list(dict.fromkeys(name for _, name in turns))
        (stored,) = await self._at.together(("HMGET", keys.part(batch, "turns"), *names))
        before = {name: _last_before(first_row, kept) for name, kept in zip(names, stored, strict=True)}
        following, last = {}, dict(before)
        for number, name in turns:
            if last[name]:
                following[last[name]] = number
            last[name] = number
        pairs = [part for name in names for part in (name, f"{before[name]}:{last[name]}")]
        own = keys.part(batch, "turns")
        await self._at.together(("HSET", own, *pairs), ("PEXPIRE", own, _UNSEALED_MS))
        return following

    async def seal_batch(self, batch: str) -> None:
        """From here on the batch is listed, found by its identity, and fed.

        Raises:
            Unavailable: its loading stood still for an hour and it has vanished.
        """
        if not await self._at.scripts.seal(batch):
            raise Unavailable("the batch was not filled within an hour and has been dropped; submit it again")

    async def find_identity(self, sha256: str) -> str | None:
        """The newest batch of this file, profile, address and limit."""
        found = await self._at.ask("GET", keys.identity(sha256))
        return found.decode() if found else None

    async def reserve(self, wanted: Wanted, gone: Collection[str] = ()) -> tuple[bool, str | None]:
        """Whether it is this maker's turn to make it; else its id, or None while somebody else makes it.

        `gone` are ids that the API no longer has. Who has the turn says `remember`, or `forget` when it
        failed, and asks again while it takes long; a minute after it fell silent, the turn is another's.
        """
        lifetimes_ms = (_MAKING_MS, _UNUSED_MS, _UNSEALED_MS)
        found = await self._at.scripts.reserve(wanted.named, lifetimes_ms, list(gone))
        return (False, found.decode()) if isinstance(found, bytes) else (bool(found), None)

    async def remember(self, wanted: Wanted, made: str) -> None:
        """It is made: found by its content for 90 days after its last use, and in the batch's ledger."""
        await self._at.scripts.remember(wanted.named, made, _UNUSED_MS)

    async def forget(self, wanted: Wanted) -> None:
        """It could not be made: the turn is another's, unless it is so already."""
        await self._at.scripts.forget(wanted.kind, wanted.sha256, wanted.maker)

    async def made(self, batch: str) -> list[tuple[str, str]]:
        """(kind, id) of all that the batch uses at the API beside its rows' own."""
        names = await self._at.ask("HKEYS", keys.part(batch, "made"))
        return [_kind_and_id(name) for name in names]

    async def disown(self, batch: str, made: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those that no other batch uses, nor one on its way in; nobody finds them by content any more."""
        free = await self._at.scripts.disown(batch, [f"{kind}:{id_}" for kind, id_ in made])
        return [_kind_and_id(name) for name in free]


def _kind_and_id(name: bytes) -> tuple[str, str]:
    kind, _, id_ = name.decode().partition(":")
    return kind, id_
