"""A worker's side of the store: claim, save, give back or finish a row; a stale worker changes nothing.

    p ── claim ─▶ r ── save … ─▶ r ── finish ─▶ c i e f x
                  └── give_back ─▶ w

Each is one script, fenced: it does nothing unless the row is still held under this claim's fence.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

from askmill.jobs.model.models import BYTE_OF_FINISHED, BatchState, Result
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, limits_of, pack_result, result_of, unpack, unpack_result
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.records import BatchUpdate, Claim, HeartbeatReply, Refusal, SaveReply, WorkerInfo


def _flag(value: bool | None) -> str:
    """As the scripts read it: empty leaves the mark as it is."""
    return "" if value is None else str(int(value))


def _amount(nano: int | None) -> int | str:
    """As the scripts read it: empty leaves the amount as it is."""
    return "" if nano is None else nano


def _pairs(counters: Mapping[str, int] | None) -> list[Any]:
    return [part for pair in (counters or {}).items() for part in pair]


def _batch_now(state: bytes, limits: bytes, paused_reason: bytes) -> BatchUpdate:
    return BatchUpdate(BatchState(state.decode()), limits_of(limits), paused_reason.decode() or None)


def new_fence() -> str:
    """For one claim, however often it has to be sent: a reply can be lost after the row was taken."""
    return secrets.token_hex(8)


class ClaimMixin:
    """What a worker does with rows."""

    _at: Connection

    async def heartbeat(self, card: WorkerInfo, batches: Iterable[str] = ()) -> HeartbeatReply:
        """Keep the worker and all its claims alive for another lifetime; ask about its batches."""
        asked = list(batches)
        values = _pairs({name: value for name, value in asdict(card).items() if name != "id"})
        alive, now_ms, *about = await self._at.scripts.heartbeat(card.id, self._at.lifetime_ms, values, asked)
        triples = zip(about[::3], about[1::3], about[2::3], strict=True)
        known = {
            batch: _batch_now(*now) if now[0] else None for batch, now in zip(asked, triples, strict=False)
        }
        return HeartbeatReply(bool(alive), now_ms, known)

    async def deregister_worker(self, worker_id: str) -> int:
        """Forget the worker at a clean end; rows it still held wait for others. Returns how many."""
        return await self._at.scripts.deregister_worker(worker_id)

    async def claim(self, batch: str, row: int, worker_id: str, fence: str | None = None) -> Claim | Refusal:
        """Take a published row, or learn why not. Asked again under the same fence, it is still ours."""
        fence = fence or new_fence()
        refusal, *got = await self._at.scripts.claim(batch, row, worker_id, fence)
        if refusal:
            return Refusal(refusal.decode())
        state, seed, kills, block, older, now_ms, *now = got
        return Claim(
            batch=batch,
            row=row,
            worker=worker_id,
            fence=fence,
            cells=unpack(block)[(row - 1) % BLOCK_ROWS],
            state=state or None,
            previous_turn=seed or None,
            kills=kills,
            previous=result_of(unpack_result(row, older)) if older else None,
            now_ms=now_ms,
            update=_batch_now(*now),
        )

    async def save(  # noqa: PLR0913 -- marks that are saved together or not at all
        self,
        claim: Claim,
        state: bytes,
        *,
        run_made: bool = False,
        run_out: bool | None = None,
        danger: bool | None = None,
        reserve_nano: int | None = None,
        spent_nano: int | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> SaveReply:
        """Store how far the row is, in the lifecycle's own words.

        Args:
            claim: ours.
            state: what the next holder of the row needs.
            run_made: the API has made a run: counted once until the next create, and the batch accepted.
            run_out: a run of this row may be out at the API (True before each create), or no more.
            danger: a function, or the processing of a result, goes on: dying now is a kill.
            reserve_nano: what the run in flight may cost, in nano-dollars; 0 releases it.
            spent_nano: what attempts that have ended have cost, until the row's end counts it.
            counters: amounts to add by name, such as requests, prompt, completion, cost_nano.
        """
        out = _flag(True if run_made else run_out)
        money = _amount(reserve_nano), _amount(spent_nano)
        values, amounts = (state, int(run_made), out, _flag(danger), *money), _pairs(counters)
        # Equal content is a repeat, sent again because a reply was lost: the script counts it once.
        nonce = blake2b(repr((values, amounts)).encode(), digest_size=8).hexdigest()
        saved = await self._at.scripts.save((claim.batch, claim.row, claim.fence), (nonce, *values), amounts)
        return SaveReply(*map(bool, saved))

    async def finish(
        self,
        claim: Claim,
        result: Result,
        *,
        seed: bytes | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> bool:
        """End the row with its result; False when it was no longer ours.

        A completed turn of a conversation hands `seed` to the next; after any other the rest fails,
        `previous_turn`.
        """
        values = (BYTE_OF_FINISHED[result.status], pack_result(result), seed or b"")
        held = (claim.batch, claim.row, claim.worker, claim.fence)
        return bool(await self._at.scripts.finish(held, values, _pairs(counters)))

    async def release(
        self,
        claim: Claim,
        state: bytes | None = None,
        *,
        due_ms: int = 0,
        run_out: bool | None = None,
        spent_nano: int | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> bool:
        """Let the row wait until `due_ms` on Redis's clock (0: the next free slot); False when not ours."""
        held = (claim.batch, claim.row, claim.worker, claim.fence)
        values = (state or b"", due_ms, _flag(run_out), _amount(spent_nano))
        return bool(await self._at.scripts.release_row(held, values, _pairs(counters)))

    async def abandon_claim(self, batch: str, row: int, worker_id: str, fence: str) -> None:
        """Give back what a claim has taken, if it has, whose reply nobody waits for."""
        await self._at.scripts.release_row((batch, row, worker_id, fence), (b"", 0, "", ""), [])

    async def store_file(self, claim: Claim, number: int, content: bytes, budget_bytes: int) -> bool:
        """Keep a generated file; False when not ours, or all of the batch's would pass `budget_bytes`."""
        held = (claim.batch, claim.row, claim.fence)
        return bool(await self._at.scripts.store_file(held, number, content, budget_bytes))

    async def pause_from_worker(self, batch: str, reason: str) -> bool:
        """Stop a batch that the API refuses; after `resume` one row goes alone until it is accepted again."""
        _, changed = await self._at.scripts.pause(batch, reason, fault=True)
        return bool(changed)

    async def incr_counters(self, batch: str, counters: Mapping[str, int]) -> bool:
        """Add to the batch's counters without a claim. False for a batch that is gone."""
        return bool(await self._at.scripts.incr_counters(batch, _pairs(counters)))

    async def record_create_failure(
        self, batch: str, reason: str = "api_unreachable", *, patience_s: float = 300.0
    ) -> bool:
        """A create has failed; True when that has gone on so long without one success: paused now."""
        return bool(await self._at.scripts.create_failed(batch, reason, int(patience_s * 1000)))

    async def file(self, batch: str, row: int, number: int) -> bytes | None:
        """A generated file that was kept."""
        content: bytes | None = await self._at.execute("HGET", keys.part(batch, "files"), f"{row}:{number}")
        return content
