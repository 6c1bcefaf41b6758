"""A model of the store in plain Python: the expected reply to each call, and every row's byte afterwards."""

from dataclasses import dataclass, field

from askmill.jobs.model.models import BYTE_OF_FINISHED, JobStatus
from askmill.jobs.store.claim_records import Refusal

OPEN = set("qpwhr")


@dataclass
class ModelRow:
    """A row. `not_due`: it waits for a time that has not come. `reserved`, `spent`: nano-dollars."""

    byte: str
    previous_row_number: int | None
    next_row_number: int | None = None
    fence: str | None = None
    worker: str | None = None
    state: bytes | None = None
    turn_state: bytes | None = None
    run_in_flight: bool = False
    run_counted: bool = False
    crash_mark: bool = False
    crashes: int = 0
    not_due: bool = False
    reserved: int = 0
    spent: int = 0
    result: JobStatus | None = None

    def reset(self, byte: str) -> None:
        """Delete the row's live hash."""
        self.byte, self.fence, self.worker, self.state = byte, None, None, None
        self.run_in_flight = self.run_counted = self.crash_mark = self.not_due = False
        self.crashes = 0
        self.reserved, self.spent = 0, 0

    def wait(self, *, not_due: bool = False) -> None:
        self.byte, self.fence, self.worker, self.crash_mark, self.not_due = "w", None, None, False, not_due
        self.reserved = self.reserved if self.run_in_flight else 0


@dataclass
class ModelBatch:
    """A batch and its expected replies."""

    rows: dict[int, ModelRow]
    budget: int | None = None
    ended_nano: int = 0
    """Nano-dollars that ended rows have cost, or are assumed to."""
    state: str = "queued"
    runs: int = 0
    requests: int = 0
    accepted: bool = False
    probe: int | None = None
    due_running: set[int] = field(default_factory=set)
    """Waiting rows that are dispatched whatever the batch's state."""

    @property
    def status(self) -> str:
        return "".join(self.rows[row].byte for row in sorted(self.rows))

    def close_if_done(self) -> None:
        if not OPEN & set(self.status) and self.state != "cancelled":
            self.state = "done"

    def release(self, number: int, *, not_due: bool = False) -> None:
        row = self.rows[number]
        row.wait(not_due=not_due)
        if row.run_in_flight or self.state == "cancelled":
            self.due_running.add(number)

    # ── dispatch ──

    def dispatchable(self) -> set[int]:
        """Return every row that a dispatch without a limit may return now."""
        ready = {number for number, row in self.rows.items() if row.byte == "w" and not row.not_due}
        due_running = ready & self.due_running
        if self.state not in {"queued", "running"}:
            return due_running
        return ready | {number for number, row in self.rows.items() if row.byte == "q"}

    def probing(self) -> bool:
        return self.probe is not None and self.rows[self.probe].byte in "pr"

    def dispatch(self, number: int) -> None:
        running = number in self.due_running
        self.due_running.discard(number)
        self.rows[number].byte = "p"
        if not self.accepted and not running:
            self.probe = number

    # ── claims ──

    def claim(self, number: int, worker: str, alive: bool) -> Refusal | None:
        row = self.rows[number]
        if row.byte != "p":
            refusals = {"q": "not_published", "h": "not_published", "w": "waiting", "r": "running"}
            return Refusal(refusals.get(row.byte, "finished"))
        if not alive or (self.state == "paused" and not row.run_in_flight):
            self.release(number)
            return Refusal.PAUSED if alive else Refusal.STRANGER
        row.byte, row.worker = "r", worker
        return None

    def may_start(self, run_created: bool, run_in_flight: bool | None) -> bool:
        """Return whether a save before a create is accepted."""
        return run_created or not run_in_flight or self.state not in {"paused", "cancelled"}

    def affordable(self, row: ModelRow, nano: int | None) -> tuple[bool, bool]:
        """Return whether the budget covers it: now, and if all other runs in flight should cost nothing."""
        if nano is None or self.budget is None or nano <= row.reserved:
            return True, True
        others = sum(other.reserved for other in self.rows.values() if other is not row)
        left = self.budget - self.ended_nano - sum(other.spent for other in self.rows.values())
        return others + nano <= left, others + nano <= left or (others > 0 and nano <= left)

    def save(
        self,
        row: ModelRow,
        state: bytes,
        run_created: bool,
        run_in_flight: bool | None,
        crash_mark: bool | None,
        reserved: int | None,
        spent: int | None,
    ) -> bool:
        """Save; return whether this is the first run that the API accepted."""
        new_run = run_created and not row.run_counted
        first = new_run and not self.accepted
        row.run_counted = run_created if run_created or run_in_flight is not None else row.run_counted
        row.state = state
        row.reserved = row.reserved if reserved is None else reserved
        row.spent = row.spent if spent is None else spent
        row.run_in_flight = run_in_flight if run_in_flight is not None else run_created or row.run_in_flight
        row.crash_mark = row.crash_mark if crash_mark is None else crash_mark
        if new_run:
            self.runs += 1
            self.accepted = True
            self.state = "running" if self.state == "queued" else self.state
        return first

    def finish(self, number: int, status: JobStatus, turn_state: bytes) -> None:
        row = self.rows[number]
        row.reset(BYTE_OF_FINISHED[status])
        row.result = status
        if row.next_row_number is not None and status is JobStatus.COMPLETED:
            next_row = self.rows[row.next_row_number]
            next_row.turn_state = turn_state
            if next_row.byte == "h":
                next_row.wait()
        elif row.next_row_number is not None:
            self.fail_rest(row.next_row_number)
        self.close_if_done()

    def fail_rest(self, number: int | None) -> None:
        while number is not None:
            row = self.rows[number]
            if row.byte == "h":
                row.byte, row.result = "f", JobStatus.FAILED
            number = row.next_row_number

    def reap(self, worker: str) -> int:
        """Release the rows of a dead worker; return how many."""
        held = [number for number, row in self.rows.items() if row.worker == worker and row.byte == "r"]
        for number in held:
            self.rows[number].crashes += self.rows[number].crash_mark
            self.release(number)
        return len(held)

    # ── commands ──

    def cancel(self) -> None:
        if self.state in {"done", "cancelled"}:
            return
        self.state = "cancelled"
        self.due_running.clear()
        for number, row in self.rows.items():
            if row.byte == "r" or row.byte not in OPEN:
                continue
            if row.byte in "pw" and row.state is not None:
                row.not_due = False
                if row.byte == "w":
                    self.due_running.add(number)
            else:
                row.reset("x")

    def retry(self, status_bytes: str) -> int:
        retried: set[int] = set()
        for number in sorted(self.rows):
            row = self.rows[number]
            previous_row = None if row.previous_row_number is None else self.rows[row.previous_row_number]
            if row.byte in OPEN or row.byte == "j":
                continue
            if row.previous_row_number in retried or (
                previous_row and previous_row.byte in OPEN and row.byte in status_bytes
            ):
                row.byte = "h"
                retried.add(number)
            elif row.byte in status_bytes and (previous_row is None or previous_row.byte == "c"):
                row.byte = "q"
                retried.add(number)
        if retried and self.state in {"done", "cancelled"}:
            self.state = "running" if self.runs else "queued"
        return len(retried)
