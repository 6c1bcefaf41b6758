"""The store's side of `--tier batch`: shards, which are rows that travel in one job of the Batch API.

    q, w ── dispatch cuts ─▶ p ── save_shard "send" ─▶ r ── end_rows ─▶ c i e f x, or w again
                              └─────── end_rows ──────▶ w

A shard stands in the place of a row: it is dispatched, claimed with a fence, released and reaped like one. A
row is in one shard at most (`shard_rows`), and only who holds that shard can end it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from askmill.jobs.model.models import BYTE_OF_FINISHED
from askmill.jobs.store import keys
from askmill.jobs.store.claim_records import Claim, Refusal
from askmill.jobs.store.claims import batch_update, flatten, new_fence
from askmill.jobs.store.codec import (
    BLOCK_ROWS,
    block_of,
    pack_result,
    result_of,
    unpack,
    unpack_result,
)
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.shard_queries import list_shards
from askmill.jobs.store.shard_ranges import ranges_of, rows_in
from askmill.jobs.store.shard_records import (
    WAITS,
    AdoptedShard,
    CrashMark,
    CutLimits,
    RowEnd,
    ShardClaim,
    ShardStep,
    ShardVerdict,
)
from askmill.jobs.store.shard_views import ShardView

NO_LIMITS = CutLimits()
ROWS_PER_CALL = 200
"""Rows that are read or ended in one call."""


class ShardMixin:
    """What workers and commands do with shards."""

    _connection: Connection

    async def claim_shard(
        self, batch: str, number: int, worker_id: str, fence: str | None = None
    ) -> ShardClaim | Refusal:
        """Claim a published shard. Called again with the same fence, it returns the same claim."""
        fence = fence or new_fence()
        refusal, *values = await self._connection.scripts.claim_shard(
            batch, keys.shard(number), worker_id, fence
        )
        if refusal:
            return Refusal(refusal.decode())
        state, now_ms, batch_state, limits, reason, lines, open_rows, cut_at_ms, crashes = values
        update = batch_update(batch_state, limits, reason)
        rows = tuple(rows_in(lines.decode()))
        numbers = (open_rows, cut_at_ms, crashes, now_ms)
        return ShardClaim(batch, number, worker_id, fence, state, rows, *numbers, update)

    async def save_shard(  # noqa: PLR0913 -- saved together or not at all
        self,
        claim: ShardClaim,
        state: bytes,
        step: ShardStep = ShardStep.OTHER,
        *,
        file_id: str | None = None,
        lines: Sequence[int] = (),
        reserve_nano: int | None = None,
        result_files: Sequence[str] = (),
        counters: Mapping[str, int] | None = None,
    ) -> ShardVerdict | None:
        """Save how far the shard is; None when the claim no longer holds it.

        Args:
            claim: of the shard.
            state: the lifecycle's state as JSON.
            step: before a create, also decide whether it may be sent.
            file_id: of an uploaded file: the shard is found by it.
            lines: the rows of that file.
            reserve_nano: what the shard may cost at most, in nano-dollars.
            result_files: ids of files that the API has made, which `purge` deletes.
            counters: amounts to add by name.
        """
        values = (state, step.value, file_id or "", ranges_of(lines), len(lines))
        files = ",".join([*([file_id] if file_id else []), *result_files])
        held, verdict = await self._connection.scripts.save_shard(
            (claim.batch, claim.number, claim.fence),
            (*values, "" if reserve_nano is None else reserve_nano, files),
            flatten(counters),
        )
        return ShardVerdict(verdict.decode()) if held else None

    async def release_shard(
        self, claim: ShardClaim, state: bytes, *, due_ms: int = 0, counters: Mapping[str, int] | None = None
    ) -> bool:
        """Let the shard wait until `due_ms` by Redis' clock; False when the claim no longer holds it."""
        claimed: Any = (claim.batch, keys.shard(claim.number), claim.worker, claim.fence)
        values = (state, due_ms, "", "")
        return bool(await self._connection.scripts.release_row(claimed, values, flatten(counters)))

    async def abandon_shard(self, batch: str, number: int, worker_id: str, fence: str) -> None:
        """Release the shard of a claim whose reply is no longer awaited, if the claim had succeeded."""
        claimed: Any = (batch, keys.shard(number), worker_id, fence)
        await self._connection.scripts.release_row(claimed, (b"", 0, "", ""), [])

    async def mark_shard(self, claim: ShardClaim, step: CrashMark, row: int | None = None) -> bool:
        """Say that the lines of the shard's rows are built or read now; False when the claim is lost.

        Args:
            claim: of the shard.
            step: begins or ends.
            row: whose line goes on alone: a death counts against it too.
        """
        claimed = (claim.batch, claim.number, claim.fence)
        return bool(await self._connection.scripts.mark_shard(*claimed, step.value, row or ""))

    async def shard_rows(self, claim: ShardClaim, rows: Sequence[int]) -> list[Claim]:
        """Read those of these rows that are still in the shard, as claims under the shard's fence."""
        if not rows:
            return []
        batch, blocks = claim.batch, sorted({block_of(row) for row in rows})
        holders, packed, earlier, *states = await self._connection.pipeline(
            ("HMGET", keys.part(batch, "shard_rows"), *rows),
            ("HMGET", keys.part(batch, "input"), *blocks),
            ("HMGET", keys.part(batch, "results"), *rows),
            *(("HMGET", keys.live(batch, row), "state", "crashes") for row in rows),
        )
        cells = {block: unpack(content) for block, content in zip(blocks, packed, strict=True) if content}
        held = str(claim.number).encode()
        return [
            Claim(
                batch=batch,
                row=row,
                worker=claim.worker,
                fence=claim.fence,
                cells=cells[block_of(row)][(row - 1) % BLOCK_ROWS],
                state=state or None,
                previous_turn=None,
                crashes=int(crashes or 0),
                previous=result_of(unpack_result(row, result)) if result else None,
                now_ms=claim.now_ms,
                update=claim.update,
            )
            for row, holder, result, (state, crashes) in zip(rows, holders, earlier, states, strict=True)
            if holder == held
        ]

    async def end_rows(
        self,
        claim: ShardClaim,
        ends: Sequence[RowEnd],
        *,
        counters: Mapping[str, int] | None = None,
    ) -> bool:
        """End rows of the shard in one script; False when the claim no longer holds the shard.

        `counters` are added with the first call: a repeated one changes nothing.
        """
        values: list[Any] = []
        for end in ends:
            content = pack_result(end.result) if end.result else end.state
            byte = BYTE_OF_FINISHED[end.result.status] if end.result else WAITS
            spent = "" if end.spent_nano is None else end.spent_nano
            values += [end.row, byte, content, spent, end.due_ms]
        changed = await self._connection.scripts.end_rows(
            (claim.batch, claim.number, claim.fence), flatten(counters), values
        )
        return changed >= 0

    async def end_shard(
        self,
        claim: ShardClaim,
        state: bytes,
        *,
        limits: CutLimits = NO_LIMITS,
        forgotten_files: Sequence[str] = (),
        counters: Mapping[str, int] | None = None,
    ) -> bool:
        """End the shard, whose rows have all left it; False when the claim no longer holds it.

        Args:
            claim: of the shard.
            state: its last state.
            limits: when the next shards are cut, and how large.
            forgotten_files: input files of earlier creates: a late batch of theirs is a duplicate.
            counters: amounts to add by name.
        """
        before = "" if limits.before is None else ",".join(str(rows or "") for rows in limits.before)
        values = (state, limits.hold_ms, limits.shard_rows or "", limits.rows_in_all or "", before)
        claimed = (claim.batch, claim.number, claim.worker, claim.fence)
        reply = await self._connection.scripts.end_shard(
            claimed, values, list(forgotten_files), flatten(counters)
        )
        if reply < 0:
            raise RuntimeError(f"shard {claim.number} of {claim.batch} ended with rows in it")
        return bool(reply)

    async def cut_sizes(self, batch: str) -> tuple[int | None, int | None]:
        """Return how many rows one shard, and all together, may have after refusals; None: any number."""
        size, total = await self._connection.execute("HMGET", keys.batch(batch), "shard_size", "shard_total")
        return (int(size) if size else None, int(total) if total else None)

    async def adopt_shard(
        self, batch: str, api_batch: str, file_id: str, state: bytes, rows: Sequence[int], assumed_nano: int
    ) -> AdoptedShard:
        """Give a batch of the API that no shard knows a shard with those of its rows that are not bought."""
        names = (batch, api_batch, file_id)
        number, duplicate, *robbed = await self._connection.scripts.adopt_shard(
            names, state, assumed_nano, sorted(rows)
        )
        return AdoptedShard(number or None, bool(duplicate), tuple(robbed))

    async def shards_of_files(
        self, batch: str, files: Sequence[str], api_batches: Sequence[str]
    ) -> tuple[dict[str, int], set[str]]:
        """Return the shard of each input file that has one, and which API batches are counted duplicates."""
        if not files and not api_batches:
            return {}, set()
        names = [*(f"file:{file_id}" for file_id in files), *(f"duplicate:{each}" for each in api_batches)]
        stored = await self._connection.execute("HMGET", keys.part(batch, "shards"), *names)
        owners = {
            file_id: int(number)
            for file_id, number in zip(files, stored[: len(files)], strict=True)
            if number
        }
        counted = zip(api_batches, stored[len(files) :], strict=True)
        return owners, {api_batch for api_batch, mark in counted if mark}

    async def list_shards(self, batch: str) -> list[ShardView]:
        """Return the batch's shards by number."""
        return await list_shards(self._connection, batch)
