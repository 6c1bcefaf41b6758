"""The store as a page of Python: what each call must answer, and every row's byte afterwards."""

from dataclasses import dataclass, field

from askmill.jobs.model.models import BYTE_OF_FINISHED, JobStatus
from askmill.jobs.store.records import Refusal

OPEN = set("qpwhr")


@dataclass
class ModelRow:
    """`later`: waits for a time that has not come. `reserved`, `spent`: money, in nano-dollars."""

    byte: str
    before: int | None
    after: int | None = None
    fence: str | None = None
    worker: str | None = None
    state: bytes | None = None
    seed: bytes | None = None
    out: bool = False
    made: bool = False
    danger: bool = False
    kills: int = 0
    later: bool = False
    reserved: int = 0
    spent: int = 0
    result: JobStatus | None = None

    def begin_anew(self, byte: str) -> None:
        """The live part of the row ends."""
        self.byte, self.fence, self.worker, self.state = byte, None, None, None
        self.out, self.made, self.danger, self.kills, self.later = False, False, False, 0, False
        self.reserved, self.spent = 0, 0

    def wait(self, *, later: bool = False) -> None:
        self.byte, self.fence, self.worker, self.danger, self.later = "w", None, None, False, later
        self.reserved = self.reserved if self.out else 0


@dataclass
class ModelBatch:
    """The batch and all it may answer."""

    rows: dict[int, ModelRow]
    budget: int | None = None
    gone: int = 0
    """Nano-dollars that ended rows have cost, or are assumed to."""
    state: str = "queued"
    runs: int = 0
    requests: int = 0
    accepted: bool = False
    probe: int | None = None
    orphans: set[int] = field(default_factory=set)
    """Waiting rows that are fed whatever the batch's state."""

    @property
    def status(self) -> str:
        return "".join(self.rows[row].byte for row in sorted(self.rows))

    def settle(self) -> None:
        if not OPEN & set(self.status) and self.state != "cancelled":
            self.state = "done"

    def put_back(self, number: int, *, later: bool = False) -> None:
        row = self.rows[number]
        row.wait(later=later)
        if row.out or self.state == "cancelled":
            self.orphans.add(number)

    # ── feeding ──

    def feedable(self) -> set[int]:
        """Every row that a feed with room for all may hand out now."""
        ready = {number for number, row in self.rows.items() if row.byte == "w" and not row.later}
        orphans = ready & self.orphans
        if self.state not in {"queued", "running"}:
            return orphans
        return ready | {number for number, row in self.rows.items() if row.byte == "q"}

    def probing(self) -> bool:
        return self.probe is not None and self.rows[self.probe].byte in "pr"

    def fed(self, number: int) -> None:
        orphan = number in self.orphans
        self.orphans.discard(number)
        self.rows[number].byte = "p"
        if not self.accepted and not orphan:
            self.probe = number

    # ── a worker's row ──

    def claim(self, number: int, worker: str, alive: bool) -> Refusal | None:
        row = self.rows[number]
        if row.byte != "p":
            refusals = {"q": "not_published", "h": "not_published", "w": "waiting", "r": "running"}
            return Refusal(refusals.get(row.byte, "finished"))
        if not alive or (self.state == "paused" and not row.out):
            self.put_back(number)
            return Refusal.PAUSED if alive else Refusal.STRANGER
        row.byte, row.worker = "r", worker
        return None

    def may_start(self, run_made: bool, out: bool | None) -> bool:
        """The last word before a create."""
        return run_made or not out or self.state not in {"paused", "cancelled"}

    def affordable(self, row: ModelRow, nano: int | None) -> tuple[bool, bool]:
        """Whether it can be paid now, and when all other runs in flight should cost nothing."""
        if nano is None or self.budget is None or nano <= row.reserved:
            return True, True
        others = sum(other.reserved for other in self.rows.values() if other is not row)
        left = self.budget - self.gone - sum(other.spent for other in self.rows.values())
        return others + nano <= left, others + nano <= left or (others > 0 and nano <= left)

    def save(
        self,
        row: ModelRow,
        state: bytes,
        run_made: bool,
        out: bool | None,
        danger: bool | None,
        reserved: int | None,
        spent: int | None,
    ) -> bool:
        """Whether this was the first run the API accepted."""
        new = run_made and not row.made
        first = new and not self.accepted
        row.made = run_made if run_made or out is not None else row.made
        row.state = state
        row.reserved = row.reserved if reserved is None else reserved
        row.spent = row.spent if spent is None else spent
        row.out = True if run_made else row.out if out is None else out
        row.danger = row.danger if danger is None else danger
        if new:
            self.runs += 1
            self.accepted = True
            self.state = "running" if self.state == "queued" else self.state
        return first

    def finish(self, number: int, status: JobStatus, seed: bytes) -> None:
        row = self.rows[number]
        row.begin_anew(BYTE_OF_FINISHED[status])
        row.result = status
        if row.after is not None and status is JobStatus.COMPLETED:
            following = self.rows[row.after]
            following.seed = seed
            if following.byte == "h":
                following.wait()
        elif row.after is not None:
            self.fail_rest(row.after)
        self.settle()

    def fail_rest(self, number: int | None) -> None:
        while number is not None:
            row = self.rows[number]
            if row.byte == "h":
                row.byte, row.result = "f", JobStatus.FAILED
            number = row.after

    def bury(self, worker: str) -> int:
        """The rows a dead worker held wait again."""
        mine = [number for number, row in self.rows.items() if row.worker == worker and row.byte == "r"]
        for number in mine:
            self.rows[number].kills += self.rows[number].danger
            self.put_back(number)
        return len(mine)

    # ── a person's changes ──

    def cancel(self) -> None:
        if self.state in {"done", "cancelled"}:
            return
        self.state = "cancelled"
        self.orphans.clear()
        for number, row in self.rows.items():
            if row.byte == "r" or row.byte not in OPEN:
                continue
            if row.byte in "pw" and row.state is not None:
                row.later = False
                if row.byte == "w":
                    self.orphans.add(number)
            else:
                row.begin_anew("x")

    def retry(self, chosen: str) -> int:
        again: set[int] = set()
        for number in sorted(self.rows):
            row = self.rows[number]
            earlier = None if row.before is None else self.rows[row.before]
            if row.byte in OPEN or row.byte == "j":
                continue
            if row.before in again or (earlier and earlier.byte in OPEN and row.byte in chosen):
                row.byte = "h"
                again.add(number)
            elif row.byte in chosen and (earlier is None or earlier.byte == "c"):
                row.byte = "q"
                again.add(number)
        if again and self.state in {"done", "cancelled"}:
            self.state = "running" if self.runs else "queued"
        return len(again)
