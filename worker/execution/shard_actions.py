"""Performs the actions of a shard's lifecycle as requests to the API; each outcome is the next event."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import structlog

from askmill.jobs.store.records import NANO
from askmill.jobs.store.shard_records import RowEnd, ShardClaim
from askmill.worker.backends.base import NotSent
from askmill.worker.backends.batch_jobs import custom_ids_in, row_and_attempt
from askmill.worker.execution.shard_file import FileBuilder, ShardFile
from askmill.worker.execution.shard_results import ShardResults
from askmill.worker.execution.shard_state_json import shard_to_json
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import ENDED_BATCH, ServerBatch
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.retry import fault_of
from askmill.worker.lifecycle.shard_events import (
    AdoptUnknown,
    BatchesListed,
    BatchSeen,
    CancelBatch,
    CancelDuplicate,
    CreateBatch,
    CreateSkipped,
    DeleteFile,
    DuplicateCancelled,
    FileDeleted,
    FileUploaded,
    ListBatches,
    NothingToSend,
    ReadResults,
    ResultsRead,
    RetrieveBatch,
    RowsChanged,
    ShardAction,
    ShardClaimed,
    ShardEvent,
    ShardRequestFailed,
    UploadFile,
    WaitShard,
)
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState
from askmill.worker.lifecycle.shard_transitions import may_have_run
from askmill.worker.lifecycle.transitions import SEND_WITHIN_S
from askmill.worker.runtime.batch_cache import BatchContext
from askmill.worker.runtime.batch_lister import BatchLister
from askmill.worker.runtime.context import WorkerContext
from askmill.worker.runtime.interrupts import Interrupts

log = structlog.get_logger()

REQUEST_KINDS: dict[type[ShardAction], RequestKind] = {
    UploadFile: RequestKind.SETUP,
    CreateBatch: RequestKind.CREATE,
    DeleteFile: RequestKind.CANCEL,
    CancelBatch: RequestKind.CANCEL,
    CancelDuplicate: RequestKind.CANCEL,
}
"""The kind of request an action makes, for the error table; all other actions read."""
OPEN_PHASES = frozenset({ShardPhase.CUT, ShardPhase.UPLOADED, ShardPhase.SENT})
FORTNIGHT_S = 14 * 86_400.0


@dataclass
class ShardActions:
    """Performs actions for one claimed shard."""

    context: WorkerContext
    batch: BatchContext
    claim: ShardClaim
    interrupts: Interrupts
    lister: BatchLister
    counters: Counter[str] = field(default_factory=Counter)
    """Amounts for the batch's counters, stored with the shard's next save."""
    built: ShardFile | None = None
    """The file that was uploaded here."""
    listed_at: float = float("-inf")
    """When the list was asked for that this shard has seen last."""

    def __post_init__(self) -> None:
        self.jobs = self.lister.jobs
        self.results = ShardResults(
            self.context, self.batch, self.claim, self.interrupts, self.jobs, self.counters
        )

    def stamp(self) -> tuple[float, float]:
        """The time and the jitter of an event."""
        return self.context.now_s(), random.random()  # noqa: S311 -- jitter

    async def before_request(self) -> None:
        """Count a request and wait until the shared limit allows it."""
        self.counters["requests"] += 1
        acquire, sleep = self.context.limits.acquire, self.interrupts.sleep_full
        await self.context.retry_on_outage(acquire, "requests_per_minute", 1, sleep)

    async def perform(self, action: ShardAction, state: ShardState) -> ShardEvent:
        """Perform the action; an error of the API is an event too. Raises ClaimLost, ShuttingDown."""
        try:
            return await self._METHODS[type(action)](self, action, state)
        except ApiError as error:
            request = REQUEST_KINDS.get(type(action), RequestKind.READ)
            await self._report_fault(error, request)
            return ShardRequestFailed(*self.stamp(), error=error, request=request)

    async def _report_fault(self, error: ApiError, request: RequestKind) -> None:
        """Log the failed request; report it as the batch's last fault where it is one."""
        log.info("request.failed", on=request.value, request=error.request, fault=str(error))
        report = self.batch.faults.add(error, fault_of(error, request), self.context.now_s())
        if report is not None:
            await self.context.retry_on_outage(self.context.store.record_fault, self.claim.batch, report)

    async def _wait(self, action: WaitShard, _: ShardState) -> ShardEvent:
        await self.interrupts.sleep(action.wait_s)
        return ShardClaimed(*self.stamp())

    async def _read_results(self, action: ReadResults, state: ShardState) -> ShardEvent:
        await self.interrupts.sleep(action.after_s)
        lines, open_rows = await self.results.read(state)
        return ResultsRead(*self.stamp(), lines=lines, open_rows=open_rows)

    async def _delete_file(self, action: DeleteFile, _: ShardState) -> ShardEvent:
        await self.jobs.delete_file(action.file_id)
        return FileDeleted(*self.stamp())

    # ── a batch that exists ──

    async def _retrieve(self, action: RetrieveBatch, state: ShardState) -> ShardEvent:
        await self.interrupts.sleep(action.after_s)
        batch = await self.jobs.retrieve(state.batch_id or "")
        return BatchSeen(*self.stamp(), batch=batch)

    async def _cancel(self, _: CancelBatch, state: ShardState) -> ShardEvent:
        batch = await self.jobs.cancel(state.batch_id or "")
        return BatchSeen(*self.stamp(), batch=batch)

    async def _cancel_duplicate(self, action: CancelDuplicate, _: ShardState) -> ShardEvent:
        await self._cancel_late(action.batch_id)
        return DuplicateCancelled(*self.stamp())

    async def _cancel_late(self, batch_id: str) -> None:
        log.warning("shard.duplicate", api_batch=batch_id)
        with suppress(ApiError):  # it has ended, or the next list shows that it runs on
            await self.jobs.cancel(batch_id)

    # ── the file ──

    async def _upload(self, _: UploadFile, state: ShardState) -> ShardEvent:
        context, claim = self.context, self.claim
        with TemporaryDirectory(prefix="askmill-shard-") as folder:
            path = Path(folder) / "input.jsonl"
            room = await self._budget_room()
            built = await FileBuilder(context, self.batch, claim, self.interrupts, room).build(path)
            await self._return_rows(built, state)
            self.built = built
            if not built.rows:
                return NothingToSend(*self.stamp())
            name = f"askmill-{claim.batch}-{claim.number}-{state.tries}.jsonl"
            file_id = await self.jobs.upload(path, name)
        return FileUploaded(
            *self.stamp(),
            file_id=file_id,
            sha256=built.sha256,
            lines=len(built.rows),
            prompt_tokens=built.prompt_tokens,
            worst_nano=built.worst_nano,
        )

    async def _budget_room(self) -> int | None:
        """What the batch may still spend, in nano-dollars; None without a budget."""
        budget_usd = self.batch.current.limits.budget_usd
        if budget_usd is None:
            return None
        totals = (await self.context.retry_on_outage(self.context.store.counts, self.claim.batch)).totals
        names = ("cost_nano", "assumed_nano", "spent_nano", "reserved_nano")
        return int(budget_usd * NANO) - sum(totals.get(name, 0) for name in names)

    async def _return_rows(self, built: ShardFile, state: ShardState) -> None:
        """Rows without room go back to the queue; a row without a line fails."""
        ends = self.results.rows(state)
        for claim, error in built.refused:
            ends.refuse(claim, error)
        ends.ends += [RowEnd(claim.row) for claim in built.returned]
        await self.results.store(ends)

    # ── the create ──

    async def _create(self, _: CreateBatch, state: ShardState) -> ShardEvent:
        """Send the create, unless the heartbeat or the stored mark is too old: then the claim may be lost."""
        while not self.context.lease_is_fresh():
            await self.interrupts.sleep(0.2)
        metadata = {
            "askmill_batch": self.claim.batch,
            "askmill_shard": str(self.claim.number),
            "askmill_try": str(state.tries),
            "askmill_sha256": state.sha256 or "",
        }

        def may_send() -> bool:
            in_time = self.context.now_s() - (state.sent_at or 0.0) <= SEND_WITHIN_S
            return self.context.lease_is_fresh() and in_time

        with suppress(NotSent):
            created = await self.jobs.create(state.file_id or "", self.batch.batch.api, metadata, may_send)
            return BatchSeen(*self.stamp(), batch=created)
        return CreateSkipped(*self.stamp())

    # ── the list ──

    async def _list(self, action: ListBatches, state: ShardState) -> ShardEvent:
        """After the wait, a list that this shard has not seen; shards that are followed share one."""
        after_s = action.after_s
        if state.phase is ShardPhase.FOLLOWED and after_s > 0:
            after_s = min(after_s, self.lister.due_in_s())
        await self.interrupts.sleep(after_s)
        # Before a create only a list counts that is asked for after the file is stored.
        since = self.context.now_s() if state.phase in OPEN_PHASES else self.listed_at
        age_s = min(FORTNIGHT_S, self.context.now_s() - self.batch.batch.submitted_at_ms / 1000)
        self.listed_at, listed = await self.lister.list_after(since, age_s)
        # Before a create each shard looks for unknown batches; of the others one does.
        search = state.phase in OPEN_PHASES or self.lister.is_to_search(self.claim.batch)
        own, unknown = await self._sort(listed.batches, state, search=search)
        return BatchesListed(*self.stamp(), own=own, unknown=unknown, asked_at=self.listed_at)

    async def _sort(
        self, listed: tuple[ServerBatch, ...], state: ShardState, *, search: bool
    ) -> tuple[tuple[ServerBatch, ...], tuple[ServerBatch, ...]]:
        """The batches of this shard; with `search` also those of its askmill batch that no shard knows."""
        name, value = (
            ("askmill_batch", self.claim.batch) if search else ("askmill_sha256", state.sha256 or "none")
        )
        ours = [
            batch
            for batch in listed
            if batch.metadata.get(name) == value
            or batch.input_file_id in state.files
            or batch.id == state.batch_id
        ]
        files = sorted({batch.input_file_id for batch in ours if batch.input_file_id})
        owners, counted = await self.context.retry_on_outage(
            self.context.store.shards_of_files, self.claim.batch, files, [batch.id for batch in ours]
        )
        own, unknown = list[ServerBatch](), list[ServerBatch]()
        for batch in ours:
            has_owner = batch.input_file_id in owners
            same = not has_owner and state.sha256 and batch.metadata.get("askmill_sha256") == state.sha256
            if batch.input_file_id in state.files or batch.id == state.batch_id or same:
                own.append(batch)
            elif search and not has_owner and batch.id not in counted and may_have_run(batch):
                unknown.append(batch)
        return tuple(own), tuple(unknown)

    async def _adopt(self, action: AdoptUnknown, state: ShardState) -> ShardEvent:
        """Give each unknown batch a shard with those of its rows that wait; without any it is a duplicate."""
        robbed, worst_nano = set[int](), state.worst_nano or 0
        for batch in action.batches:
            rows = await self._rows_of(batch)
            adopted_state = ShardState(
                ShardPhase.FOLLOWED,
                file_id=batch.input_file_id,
                lines=len(rows),
                batch_id=batch.id,
                status=batch.status,
                sent_at=self.context.now_s(),
                followed_since=self.context.now_s(),
            )
            stored = shard_to_json(adopted_state, self.context.clock)
            file_id = batch.input_file_id or batch.id
            assumed_nano = 0 if batch.status == "validating" else worst_nano
            adopted = await self.context.retry_on_outage(
                self.context.store.adopt_shard,
                self.claim.batch,
                batch.id,
                file_id,
                stored,
                rows,
                assumed_nano,
            )
            robbed.update(adopted.robbed)
            log.warning("shard.adopted", api_batch=batch.id, shard=adopted.number)
            if adopted.number is None and adopted.duplicate and batch.status not in ENDED_BATCH:
                await self._cancel_late(batch.id)
            self.context.dispatch_needed.set()
        if self.claim.number in robbed:
            return RowsChanged(*self.stamp())
        return ShardClaimed(*self.stamp())

    async def _rows_of(self, batch: ServerBatch) -> list[int]:
        """The rows of a batch's input file, by its custom ids; none where the file is deleted."""
        with TemporaryDirectory(prefix="askmill-shard-") as folder:
            path = Path(folder) / "input.jsonl"
            try:
                await self.jobs.download(batch.input_file_id or "", path)
            except ApiError as error:
                if error.status == 404:
                    return []
                raise
            names = [row_and_attempt(self.claim.batch, line_id) for line_id in custom_ids_in(path)]
        return [name[0] for name in names if name is not None]

    _METHODS: ClassVar[
        dict[type[ShardAction], Callable[["ShardActions", Any, ShardState], Awaitable[ShardEvent]]]
    ] = {
        WaitShard: _wait,
        UploadFile: _upload,
        DeleteFile: _delete_file,
        CreateBatch: _create,
        ListBatches: _list,
        AdoptUnknown: _adopt,
        RetrieveBatch: _retrieve,
        CancelBatch: _cancel,
        CancelDuplicate: _cancel_duplicate,
        ReadResults: _read_results,
    }
    """The method of each action that the runner does not carry out itself."""
