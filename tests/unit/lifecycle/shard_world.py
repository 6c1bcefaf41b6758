"""A small Batch API, a small store and a worker in virtual time, for the lifecycle of shards.

The world plays faults by the number of the effect that meets them: a request to the API, or a write to the
store. What the worker does with a decision is what `worker.execution.shard_runner` does, in short.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import BatchFailure, FailureKind, LineRefusal, ServerBatch
from askmill.worker.lifecycle.error_rule import RequestKind
from askmill.worker.lifecycle.retry import fault_of
from askmill.worker.lifecycle.shard_events import (
    AdoptUnknown,
    BatchesListed,
    BatchSeen,
    CancelBatch,
    CancelDuplicate,
    CreateBatch,
    DeleteFile,
    DuplicateCancelled,
    EndShard,
    FileDeleted,
    FileUploaded,
    ListBatches,
    NothingToSend,
    ReadResults,
    ReleaseShard,
    Rest,
    ResultsRead,
    RetrieveBatch,
    RowsChanged,
    ShardClaimed,
    ShardDecision,
    ShardEvent,
    ShardRequestFailed,
    UploadFile,
    WaitShard,
)
from askmill.worker.lifecycle.shard_policy import ShardPolicy
from askmill.worker.lifecycle.shard_state import ShardPhase, ShardState
from askmill.worker.lifecycle.shard_transitions import advance_shard, may_have_run

VALIDATED_S, RAN_S = 20.0, 300.0
Line = tuple[int, int]
"""Row and attempt: what a custom id names."""


def failure(kind: FailureKind, lines: Sequence[int] = (), token_limit: int | None = None) -> BatchFailure:
    """Why a validation failed."""
    error = ApiError(400, code="invalid_value", message="bad")
    fault = fault_of(error, RequestKind.CREATE)
    return BatchFailure(
        kind, error, fault, tuple(LineRefusal(line, error, fault) for line in lines), token_limit
    )


class Killed(Exception):
    """The worker dies here."""


@dataclass
class SimBatch:
    id: str
    file_id: str
    sha256: str
    created_at: float
    shown_at: float
    cancelled_at: float | None = None


@dataclass
class Stored:
    """What the store has. `queue`: rows that wait, with their attempts."""

    queue: dict[int, int]
    shard_of: dict[int, int] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    done: dict[int, str] = field(default_factory=dict)
    shards: dict[int, ShardState] = field(default_factory=dict)
    next_shard: int = 1
    counted: Counter[str] = field(default_factory=Counter)
    doubled: Counter[Line] = field(default_factory=Counter)
    """Lines of duplicates that were seen and counted."""

    def copy(self) -> "Stored":
        return replace(self, **{name: copy(value) for name, value in vars(self).items()})


@dataclass
class World:
    """`faults`: number of an effect → what happens at it."""

    faults: Mapping[int, str] = field(default_factory=dict)
    rows: int = 4
    shard_rows: int = 2
    bad_rows: frozenset[int] = frozenset()
    token_limit: int | None = None
    hidden_s: float = 0.0
    deletes_files: bool = True
    ending: str = "completed"
    lost_lines: frozenset[int] = frozenset()
    null_output_s: float = 0.0
    cancel_at: float | None = None
    recut_rows: int | None = None
    """Rows of a shard after the store has gone back in time: its rows are cut otherwise than before."""
    now: float = 1000.0
    effects: int = 0
    files: dict[str, tuple[Line, ...] | None] = field(default_factory=dict)
    batches: list[SimBatch] = field(default_factory=list)
    carried_out_later: list[tuple[float, str, str]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Stored(dict.fromkeys(range(1, self.rows + 1), 1))
        self.history = [self.store.copy()]
        self.file_lines: dict[str, tuple[Line, ...]] = {}

    # ── the API ──

    def _status(self, batch: SimBatch) -> str:
        age = self.now - batch.created_at
        lines = self.file_lines[batch.file_id]
        if batch.cancelled_at is not None and batch.cancelled_at - batch.created_at < RAN_S:
            return "cancelled"
        if age < VALIDATED_S:
            return "validating"
        if self._failure_of(batch, lines):
            return "failed"
        if age < RAN_S:
            return "in_progress"
        return self.ending if lines[0][1] == 1 else "completed"

    def _failure_of(self, batch: SimBatch, lines: tuple[Line, ...]) -> BatchFailure | None:
        deleted_at = self._deleted.get(batch.file_id)
        if self.deletes_files and deleted_at is not None and deleted_at < batch.created_at:
            return failure(FailureKind.OTHER)
        if self.token_limit is not None and len(lines) > self.token_limit:
            return failure(FailureKind.TOKEN_LIMIT, token_limit=self.token_limit)
        bad = [line for line, (row, _) in enumerate(lines, 1) if row in self.bad_rows]
        return failure(FailureKind.LINES, bad) if bad else None

    _deleted: dict[str, float] = field(default_factory=dict)

    def answered(self, batch: SimBatch) -> tuple[Line, ...]:
        """Lines of the batch that have run, which are paid."""
        lines, status = self.file_lines[batch.file_id], self._status(batch)
        if status == "cancelled":
            ran = (batch.cancelled_at or 0.0) - batch.created_at >= VALIDATED_S
            return lines[: len(lines) // 2] if ran else ()
        if status == "expired":
            return lines[: len(lines) // 2]
        return lines if status in {"in_progress", "completed"} else ()

    def bought(self) -> Counter[Line]:
        return Counter(line for batch in self.batches for line in self.answered(batch))

    def show(self, batch: SimBatch) -> ServerBatch:
        status, lines = self._status(batch), self.file_lines[batch.file_id]
        ended = status in {"completed", "expired", "cancelled"}
        completed = len(self.answered(batch)) if ended else None
        late = ended and self.now - batch.created_at < RAN_S + self.null_output_s
        return ServerBatch(
            batch.id,
            status,
            batch.file_id,
            output_file_id=f"out-{batch.id}" if completed and not late else None,
            metadata={"sha256": batch.sha256},
            completed=completed,
            failed=0 if ended else None,
            failure=self._failure_of(batch, lines) if status == "failed" else None,
        )

    def _carry_out_late(self) -> None:
        for at, file_id, sha256 in list(self.carried_out_later):
            if at <= self.now:
                self.carried_out_later.remove((at, file_id, sha256))
                self._create(file_id, sha256, at)

    def _create(self, file_id: str, sha256: str, at: float) -> SimBatch:
        batch = SimBatch(f"batch-{len(self.batches) + 1}", file_id, sha256, at, at + self.hidden_s)
        self.batches.append(batch)
        return batch

    # ── effects, which faults meet ──

    def _fault(self, name: str) -> str:
        self.effects += 1
        fault = self.faults.get(self.effects, "ok")
        self.trace.append(f"{self.effects} {self.now:.0f} {name} {fault}")
        self._carry_out_late()
        if fault == "kill_before":
            raise Killed
        if fault == "away":
            self.now += 20.0
            raise ApiError(None, message="no reply")
        return fault

    def _after(self, fault: str) -> None:
        if fault == "kill":
            raise Killed
        if fault in {"lost", "late"}:
            self.now += 20.0
            raise ApiError(None, message="no reply")

    def write(self, name: str) -> None:
        """A change of the store, after which the process may die, or the store go back in time."""
        self.effects += 1
        fault = self.faults.get(self.effects, "ok")
        self.trace.append(f"{self.effects} {self.now:.0f} store {name} {fault}")
        self.history.append(self.store.copy())
        if fault.startswith("forget"):
            back = min(int(fault.removeprefix("forget")), len(self.history) - 1)
            del self.history[len(self.history) - back :]
            self.store = self.history[-1].copy()
            self.shard_rows = self.recut_rows or self.shard_rows
            raise Killed
        if fault in {"kill", "kill_before"}:
            raise Killed

    # ── the worker ──

    def play(self, most_s: float = 40_000.0) -> "World":
        """Work until every row has ended, with a new worker after each death."""
        while self._is_open():
            assert self.now < most_s, "no end in sight\n" + "\n".join(self.trace[-60:])
            try:
                self._work()
            except Killed:
                self.now += 12.0
        self.now += 1000.0
        self._carry_out_late()
        return self

    def _is_open(self) -> bool:
        shards = self.store.shards.values()
        return len(self.store.done) < self.rows or any(state.phase is not ShardPhase.DONE for state in shards)

    def _policy(self) -> ShardPolicy:
        cancelled = self.cancel_at is not None and self.now >= self.cancel_at
        return ShardPolicy(cancelled=cancelled, unsettled_s=300.0, reread_s=60.0)

    def _work(self) -> None:
        events: dict[int, ShardEvent] = {}
        while self._is_open():
            self._cut()
            if self.now > 40_000.0:
                return
            for number in [n for n, state in self.store.shards.items() if state.phase is not ShardPhase.DONE]:
                event = replace(events.pop(number, ShardClaimed(self.now)), at=self.now)
                decision = advance_shard(self.memory(number), event, self._policy())
                events[number] = self._carry_out(number, decision)
            self.now += 1.0

    def memory(self, number: int) -> ShardState:
        return self.store.shards[number]

    def _cut(self) -> None:
        if self._policy().cancelled:
            for row in self.store.queue:
                self.store.done[row] = "cancelled"
            self.store.queue.clear()
        if not self.store.queue:
            return
        size = min(self.shard_rows, self.store.counted["limit"] or self.shard_rows)
        number, self.store.next_shard = self.store.next_shard, self.store.next_shard + 1
        for row in sorted(self.store.queue)[:size]:
            self.store.attempts[row] = self.store.queue.pop(row)
            self.store.shard_of[row] = number
        self.store.shards[number] = ShardState()
        self.write(f"cut {number}")

    def lines(self, number: int) -> tuple[Line, ...]:
        rows = sorted(row for row, shard in self.store.shard_of.items() if shard == number)
        return tuple((row, self.store.attempts[row]) for row in rows)

    def _carry_out(self, number: int, decision: ShardDecision) -> ShardEvent:
        sending = isinstance(decision.action, CreateBatch)
        if sending and len(self.lines(number)) != decision.state.lines:
            return RowsChanged(self.now)
        self.store.shards[number] = decision.state
        if decision.unknown_create:
            self.store.counted["unknown_creates"] += 1
        if decision.duplicate is not None:
            self._count_duplicate(decision.duplicate.id)
        if decision.store:
            self.write(f"shard {number} {decision.state.phase.value}")
        action = decision.action
        try:
            return self._act(number, decision)
        except ApiError as error:
            kinds = {
                UploadFile: RequestKind.SETUP,
                CreateBatch: RequestKind.CREATE,
                DeleteFile: RequestKind.CANCEL,
                CancelBatch: RequestKind.CANCEL,
                CancelDuplicate: RequestKind.CANCEL,
            }
            return ShardRequestFailed(
                self.now, error=error, request=kinds.get(type(action), RequestKind.READ)
            )

    def _count_duplicate(self, batch_id: str) -> None:
        batch = next(batch for batch in self.batches if batch.id == batch_id)
        self.store.counted["duplicates"] += 1
        self.store.doubled.update(self.file_lines[batch.file_id])

    def _act(self, number: int, decision: ShardDecision) -> ShardEvent:
        state, action = decision.state, decision.action
        match action:
            case WaitShard(wait_s=wait_s) | ReleaseShard(wait_s=wait_s):
                self.now += wait_s
                return ShardClaimed(self.now)
            case UploadFile():
                lines = self.lines(number)
                if not lines:
                    return NothingToSend(self.now)
                fault = self._fault("upload")
                file_id = f"file-{len(self.file_lines) + 1}"
                self.file_lines[file_id] = lines
                self._after(fault)
                return FileUploaded(self.now, file_id=file_id, sha256=repr(lines), lines=len(lines))
            case DeleteFile(file_id=file_id):
                fault = self._fault("delete")
                self._deleted.setdefault(file_id, self.now)
                self._after(fault)
                return FileDeleted(self.now)
            case CreateBatch():
                return self._create_batch(state)
            case _:
                return self._look_or_end(number, decision)

    def _create_batch(self, state: ShardState) -> ShardEvent:
        fault = self._fault("create")
        assert state.file_id is not None
        assert state.sha256 is not None
        if fault == "late":
            self.carried_out_later.append((self.now + 90.0, state.file_id, state.sha256))
        else:
            batch = self._create(state.file_id, state.sha256, self.now)
        self._after(fault)
        return BatchSeen(self.now, batch=self.show(batch))

    def _look_or_end(self, number: int, decision: ShardDecision) -> ShardEvent:
        state, action = decision.state, decision.action
        match action:
            case ListBatches(after_s=after_s):
                self.now += after_s
                self._after(self._fault("list"))
                return self._list(number, state)
            case RetrieveBatch(after_s=after_s):
                self.now += after_s
                self._after(self._fault("retrieve"))
                found = [batch for batch in self.batches if batch.id == state.batch_id]
                return BatchSeen(self.now, batch=self.show(found[0]) if found else None)
            case CancelBatch():
                return BatchSeen(self.now, batch=self._cancel(state.batch_id or ""))
            case CancelDuplicate(batch_id=batch_id):
                self._cancel(batch_id)
                return DuplicateCancelled(self.now)
            case AdoptUnknown(batches=batches):
                return self._adopt(number, batches)
            case ReadResults(after_s=after_s):
                self.now += after_s
                return self._read(number, state)
            case EndShard():
                return self._end(number, action)
            case _:
                raise AssertionError(action)

    def _list(self, number: int, state: ShardState) -> ShardEvent:
        shown = [batch for batch in self.batches if batch.shown_at <= self.now]
        others = {
            file_id
            for shard, other in self.store.shards.items()
            if shard != number
            for file_id in (other.files if other.phase is not ShardPhase.DONE else {other.file_id})
        }
        own = [
            batch
            for batch in shown
            if batch.file_id in state.files or (batch.file_id not in others and batch.sha256 == state.sha256)
        ]
        unknown = [
            self.show(batch)
            for batch in shown
            if batch not in own
            and batch.file_id not in others
            and f"seen:{batch.id}" not in self.store.counted
        ]
        return BatchesListed(
            self.now,
            own=tuple(map(self.show, own)),
            unknown=tuple(batch for batch in unknown if may_have_run(batch)),
            asked_at=self.now,
        )

    def _cancel(self, batch_id: str) -> ServerBatch:
        fault = self._fault("cancel")
        batch = next(batch for batch in self.batches if batch.id == batch_id)
        if batch.cancelled_at is None:
            batch.cancelled_at = self.now
        self._after(fault)
        return self.show(batch)

    def _adopt(self, number: int, batches: tuple[ServerBatch, ...]) -> ShardEvent:
        """As `Store.adopt_shard`: rows that wait, or are in a shard that is not sent, go to the batch's shard."""
        rows_taken = False
        for batch in batches:
            taken = []
            for row, attempt in self.file_lines[batch.input_file_id or ""]:
                holder = self.store.shard_of.get(row)
                unsent = holder is not None and self.store.shards[holder].phase in {
                    ShardPhase.CUT,
                    ShardPhase.UPLOADED,
                }
                if (row in self.store.queue or unsent) and (
                    self.store.queue.get(row, self.store.attempts.get(row)) == attempt
                ):
                    taken.append(row)
                    rows_taken = rows_taken or holder == number
            self.store.counted[f"seen:{batch.id}"] = 1
            if not taken:
                self._count_duplicate(batch.id)
                self.write(f"duplicate {batch.id}")
                self._cancel(batch.id)
                continue
            adopted, self.store.next_shard = self.store.next_shard, self.store.next_shard + 1
            for row in taken:
                self.store.attempts[row] = self.store.queue.pop(row, self.store.attempts.get(row, 1))
                self.store.shard_of[row] = adopted
            self.store.shards[adopted] = ShardState(
                phase=ShardPhase.FOLLOWED,
                file_id=batch.input_file_id,
                batch_id=batch.id,
                lines=len(self.file_lines[batch.input_file_id or ""]),
            )
            self.write(f"adopt {adopted}")
        return RowsChanged(self.now) if rows_taken else ShardClaimed(self.now)

    def _read(self, number: int, state: ShardState) -> ShardEvent:
        self._after(self._fault("read"))
        batch = next(batch for batch in self.batches if batch.id == state.batch_id)
        lines = (
            []
            if state.output_file_id is None
            else [line for line in self.answered(batch) if line[0] not in self.lost_lines or line[1] > 1]
        )
        for row, attempt in lines:
            if self.store.shard_of.get(row) == number and self.store.attempts[row] == attempt:
                del self.store.shard_of[row]
                self.store.done[row] = "completed"
        self.write(f"rows of {number}")
        return ResultsRead(self.now, lines=len(lines), open_rows=len(self.lines(number)))

    def _end(self, number: int, action: EndShard) -> ShardEvent:
        assert action.pause is None, action.pause
        refused = {refusal.line for refusal in action.refused}
        file_id = self.store.shards[number].file_id
        order = self.file_lines.get(file_id or "", self.lines(number))
        bad = {order[line - 1][0] for line in refused}
        for row, attempt in self.lines(number):
            del self.store.shard_of[row]
            if row in bad:
                self.store.done[row] = "failed"
            elif action.rest is Rest.CANCELLED:
                self.store.done[row] = "cancelled"
            elif action.rest is Rest.RETURN:
                self.store.queue[row] = attempt
            else:
                self.store.counted["unknown_creates"] += action.rest is Rest.MISSING
                self.store.queue[row] = attempt + 1
        if action.token_limit is not None:
            self.store.counted["limit"] = action.token_limit
        self.store.shards[number] = replace(self.store.shards[number], phase=ShardPhase.DONE)
        self.write(f"end {number}")
        return ShardClaimed(self.now)
