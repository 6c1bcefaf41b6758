"""Workers' side of the store: claim a row, save its progress, finish or release it.

    p ── claim ─▶ r ── save … ─▶ r ── finish ─▶ c i e f x
                  └── release ─▶ w

A claim holds its row with a fence, a random text. A call whose fence is no longer the row's changes nothing:
so a worker that was declared dead cannot overwrite what its successor does.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import BYTE_OF_FINISHED, BatchState, Refusals, Result
from askmill.jobs.store import keys
from askmill.jobs.store.claim_records import Claim, HeartbeatReply, Refusal, SaveReply
from askmill.jobs.store.codec import BLOCK_ROWS, limits_of, pack_result, result_of, unpack, unpack_result
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.records import BatchUpdate
from askmill.jobs.store.scripts import new_request
from askmill.jobs.store.views import WorkerInfo


def _argument(value: int | None) -> int | str:
    """Return a flag or an amount as a script takes it; None leaves the stored one as it is."""
    return "" if value is None else int(value)


def flatten(counters: Mapping[str, Any] | None) -> list[Any]:
    """Return names and values in turn, as scripts take them."""
    return [part for pair in (counters or {}).items() for part in pair]


def batch_update(state: bytes, limits: bytes, paused_reason: bytes) -> BatchUpdate:
    """Return what may change of a batch, from a script's reply."""
    return BatchUpdate(BatchState(state.decode()), limits_of(limits), paused_reason.decode() or None)


def new_fence() -> str:
    """Return the fence of a new claim. A claim that is sent again, its reply lost, keeps its fence."""
    return secrets.token_hex(8)


class ClaimMixin:
    """What a worker does with rows."""

    _connection: Connection
    _server_id: str
    """The Redis in which this store's writes are known to be; '' before the first heartbeat."""

    def enable_write_recovery(self, leave_broker: Callable[[], None] = lambda: None) -> None:
        """Redo what Redis loses of this store's writes, when it goes back in time. For workers.

        Args:
            leave_broker: closes the broker's connections. It is called with the store's own, when Redis has
                lost writes or is another server: some of them may lead to a master that was replaced.
        """

        async def leave_server() -> None:
            leave_broker()
            await self._connection.reconnect()

        self._connection.scripts.enable_write_recovery(leave_server)

    async def heartbeat(self, card: WorkerInfo, batches: Iterable[str] = ()) -> HeartbeatReply:
        """Keep the worker and all its claims alive for another lifetime; read the state of its batches."""
        names = list(batches)
        values = flatten({name: value for name, value in asdict(card).items() if name != "id"})
        if self._server_id:
            values += ["server", self._server_id]
        alive, now_ms, server, *fields = await self._connection.heartbeats.heartbeat(
            card.id, self._connection.lifetime_ms, values, names
        )
        other_server = bool(alive) and self._server_id not in {"", server.decode()}
        if other_server:
            await self._connection.scripts.follow_server()
        self._server_id = server.decode() or self._server_id
        triples = zip(fields[::3], fields[1::3], fields[2::3], strict=True)
        # The reply for a worker that was declared dead has no batches.
        updates = {
            batch: batch_update(*triple) if triple[0] else None
            for batch, triple in zip(names, triples, strict=False)
        }
        deleted = [batch for batch, update in updates.items() if update is None]
        self._connection.scripts.follow_heartbeat(card.id, alive=bool(alive), deleted_batches=deleted)
        return HeartbeatReply(bool(alive), now_ms, updates, other_server)

    async def record_clock_step(self, step_s: float, within_s: float) -> None:
        """Record a step of Redis' clock, for workers that start later.

        Args:
            step_s: how far it has stepped ahead.
            within_s: after how long all living workers have noticed it: it is recorded once.
        """
        await self._connection.scripts.record_clock_step(round(step_s * 1000), round(within_s * 1000))

    async def clock_steps(self) -> list[tuple[float, float]]:
        """Return the last steps of Redis' clock, the oldest first.

        Each is the time when it was noticed, in Unix seconds of the clock after it, and its seconds ahead.
        """
        stored = await self._connection.execute("LRANGE", keys.CLOCK_STEPS, 0, -1)
        pairs = (entry.split() for entry in stored)
        return [(int(at_ms) / 1000, int(step_ms) / 1000) for at_ms, step_ms in pairs]

    async def deregister_worker(self, worker_id: str) -> int:
        """Deregister the worker at a clean end and release the rows it still holds; returns how many."""
        return await self._connection.scripts.deregister_worker(worker_id)

    async def claim(self, batch: str, row: int, worker_id: str, fence: str | None = None) -> Claim | Refusal:
        """Claim a published row. Called again with the same fence, it returns the same claim.

        Args:
            batch: the batch's id.
            row: the row's number.
            worker_id: must have sent a heartbeat.
            fence: of an earlier call without a reply; None for a new claim.

        Returns:
            The claim, or why the row cannot be claimed.
        """
        fence = fence or new_fence()
        refusal, *values = await self._connection.scripts.claim(batch, row, worker_id, fence)
        if refusal:
            return Refusal(refusal.decode())
        # The others, from `generation` on, are for `lost_writes`, which reads the same reply.
        state, previous_turn, crashes, block, earlier, now_ms, *update = values[:9]
        return Claim(
            batch=batch,
            row=row,
            worker=worker_id,
            fence=fence,
            cells=unpack(block)[(row - 1) % BLOCK_ROWS],
            state=state or None,
            previous_turn=previous_turn or None,
            crashes=crashes,
            previous=result_of(unpack_result(row, earlier)) if earlier else None,
            now_ms=now_ms,
            update=batch_update(*update),
        )

    async def save(  # noqa: PLR0913 -- saved together or not at all
        self,
        claim: Claim,
        state: bytes,
        *,
        run_created: bool = False,
        run_in_flight: bool | None = None,
        crash_mark: bool | None = None,
        reserve_nano: int | None = None,
        spent_nano: int | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> SaveReply:
        """Save how far the row is. Before a create, also decide whether the run may start.

        Args:
            claim: of the row.
            state: the lifecycle's state as JSON, for the row's next holder.
            run_created: the API has created a run: counted once until the next create. It is in flight unless
                `run_in_flight` says otherwise.
            run_in_flight: a run may exist at the API (True before each create), or exists no more (False);
                None: unchanged.
            crash_mark: a risky step begins or ends: a death during it counts as a crash of the row.
            reserve_nano: what the run in flight may cost, in nano-dollars; 0 releases it.
            spent_nano: what ended attempts have cost, in nano-dollars, until the row's end counts it.
            counters: amounts to add by name, such as requests, prompt, completion, cost_nano.
        """
        in_flight = _argument(True if run_created and run_in_flight is None else run_in_flight)
        mark, *money = map(_argument, (crash_mark, reserve_nano, spent_nano))
        values, amounts = (state, int(run_created), in_flight, mark, *money), flatten(counters)
        # redis-py sends a save again when its reply was lost. The script knows it by its content and counts
        # it once.
        content_hash = blake2b(repr((values, amounts)).encode(), digest_size=8).hexdigest()
        claimed = (claim.batch, claim.row, claim.fence)
        reply = await self._connection.scripts.save(claimed, (content_hash, *values), amounts)
        return SaveReply(*map(bool, reply[:5]))

    async def finish(
        self,
        claim: Claim,
        result: Result,
        *,
        next_turn_state: bytes | None = None,
        run_created: bool = False,
        counters: Mapping[str, int] | None = None,
    ) -> bool:
        """End the row with its result; False when the claim no longer holds the row.

        Args:
            claim: of the row.
            result: stored in place of an earlier one.
            next_turn_state: state for the next turn of the conversation, handed over if this one is
                completed. After any other end the rest of the conversation fails with `previous_turn`.
            run_created: the API has created a run that no `save` has counted: its reply was the answer.
            counters: amounts to add by name.
        """
        turn_state = next_turn_state or b""
        values = (BYTE_OF_FINISHED[result.status], pack_result(result), turn_state, int(run_created))
        claimed = (claim.batch, claim.row, claim.worker, claim.fence)
        return bool(await self._connection.scripts.finish(claimed, values, flatten(counters)))

    async def previous_turns(self, batch: str, rows: Sequence[int]) -> list[bytes]:
        """What the turns before these rows of a conversation have left; nothing for a row without any."""
        stored = await self._connection.execute("HMGET", keys.part(batch, "previous_turn"), *rows)
        return [entry for entry in stored if entry]

    async def image(self, batch: str, sha256: str) -> bytes:
        """An image of the batch. Raises NotFound when the batch was purged meanwhile."""
        content = await self._connection.execute("HGET", keys.part(batch, "images"), sha256)
        if content is None:
            raise NotFound(f"batch {batch} has no image {sha256}")
        return bytes(content)

    async def release(
        self,
        claim: Claim,
        state: bytes | None = None,
        *,
        due_ms: int = 0,
        run_in_flight: bool | None = None,
        spent_nano: int | None = None,
        counters: Mapping[str, int] | None = None,
    ) -> bool:
        """Let the row wait until `due_ms` by Redis' clock (0: now); False when the claim no longer holds it.

        The other arguments are those of `save`; None leaves what is stored.
        """
        claimed = (claim.batch, claim.row, claim.worker, claim.fence)
        values = (state or b"", due_ms, _argument(run_in_flight), _argument(spent_nano))
        return bool(await self._connection.scripts.release_row(claimed, values, flatten(counters)))

    async def abandon_claim(self, batch: str, row: int, worker_id: str, fence: str) -> None:
        """Release the row of a claim whose reply is no longer awaited, if the claim had succeeded."""
        claimed = (batch, row, worker_id, fence)
        await self._connection.scripts.release_row(claimed, (b"", 0, "", ""), [])

    async def store_file(self, claim: Claim, number: int, content: bytes, budget_bytes: int) -> bool:
        """Store a generated file; False when the claim is lost or the batch's files exceed `budget_bytes`."""
        claimed = (claim.batch, claim.row, claim.fence)
        return bool(await self._connection.scripts.store_file(claimed, number, content, budget_bytes))

    async def pause_from_worker(self, batch: str, reason: str, resume_after_s: float | None = None) -> bool:
        """Pause a batch that the API refuses; after `resume` one row runs alone until the API accepts it.

        Args:
            batch: the batch's id.
            reason: why.
            resume_after_s: the batch resumes by itself after so long; None: only `resume` resumes it.
        """
        after_ms = "" if resume_after_s is None else int(resume_after_s * 1000)
        _, changed = await self._connection.scripts.pause(
            batch, reason, after_fault=True, resume_after_ms=after_ms
        )
        return bool(changed)

    async def record_refusal(self, claim: Claim) -> Refusals | None:
        """Record that the API refused the row's create without saying why; None when the claim is lost.

        From then on one row of the batch goes alone, another one first, until the API accepts a run.
        """
        held, *values = await self._connection.scripts.record_refusal(claim.batch, claim.row, claim.fence)
        if not held:
            return None
        accepted_since, alone, others, ever_accepted, *rows = values
        return Refusals(bool(accepted_since), alone, others, bool(ever_accepted), tuple(rows))

    async def incr_counters(
        self, batch: str, counters: Mapping[str, int], *, request: str | None = None
    ) -> bool:
        """Add to the batch's counters without a claim; False for an unknown batch.

        Called again with the same `request`, it counts once.
        """
        amounts = flatten(counters)
        return bool(await self._connection.scripts.incr_counters(request or new_request(), batch, amounts))

    async def record_create_failure(
        self, batch: str, reason: str = "api_unreachable", *, patience_s: float
    ) -> bool:
        """Record a failed create; True when this paused the batch: none has succeeded for `patience_s`."""
        return bool(await self._connection.scripts.create_failed(batch, reason, int(patience_s * 1000)))
