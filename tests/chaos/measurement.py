"""What an accident in the midst of a batch costs: rows lost, hung and paid twice."""

import time
from dataclasses import dataclass, field
from random import Random

from askmill.jobs.model.models import STATUS_OF_BYTE, UNFINISHED
from tests.chaos.accidents import MAX_LOST_S, Accident
from tests.chaos.endings import CHAT_ATTEMPTS
from tests.chaos.machines import RDB_ONLY, MachineStack
from tests.chaos.support import counter, outage, status_bytes, wait_for_finished, worker_names
from tests.support import wait_until


@dataclass
class Outcome:
    """What accidents cost. All numbers are counts of rows, but for `accidents`, `late` and `seconds`."""

    accidents: int = 0
    rows: int = 0
    lost: int = 0
    """Rows of a batch that is gone, or that ended without a result."""
    hung: int = 0
    """Rows that had not ended when none had ended for `stall_s`."""
    paid_twice: int = 0
    """Rows with more than one run at the emulator, the late ones included."""
    late: int = 0
    """Runs of claims that were lost, found, cancelled and counted by the batch."""
    unknown: int = 0
    recovered_writes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


async def measure(
    accident: Accident, stack: MachineStack, random: Random, rows: int, stall_s: float = 60.0
) -> Outcome:
    """One batch, the accident in its midst, and what it has cost when all rows have ended or none ends any more.

    Args:
        accident: what happens.
        stack: of this accident, just started.
        random: decides when it happens, how much is lost, and how long runs take (0.3 to 3 s).
        rows: of the batch.
        stall_s: after how long without the end of a row the others have hung.
    """
    questions = [
        f"[emulate: completed after={random.uniform(0.3, 3):.2f}] What is {row} + 1?" for row in range(rows)
    ]
    if accident.replica:
        stack.start_replica()
    limits = {"attempts": CHAT_ATTEMPTS} if stack.api == "chat" else {}
    batch, began_s = await stack.submit(questions, **limits), time.monotonic()
    stack.batch = batch
    if accident.options == RDB_ONLY:
        _wait_for_snapshot(stack)
    accident.start_workers(stack)
    wait_for_finished(stack, batch, int(rows * random.uniform(*accident.begins_at)), timeout_s=120)
    # No accident takes the submit itself away: what a client has stored is not what is measured here.
    outage(max(0.0, began_s + MAX_LOST_S + 0.2 - time.monotonic()))
    assert _unfinished(stack, batch), "the batch has ended before the accident: give it more rows"
    accident.act(stack, random)
    hung = _wait_for_end(stack, batch, stall_s)
    return await _outcome(stack, batch, rows, hung, time.monotonic() - began_s)


def rows_ended(stack: MachineStack) -> int:
    """How many rows of the measured batch have ended."""
    bytes_ = status_bytes(stack, stack.batch)
    return sum(rows for byte, rows in bytes_.items() if STATUS_OF_BYTE[byte] not in UNFINISHED)


def _wait_for_snapshot(stack: MachineStack) -> None:
    """Until a snapshot has the whole batch."""
    with stack.connect() as client:
        since = client.lastsave()
        wait_until(lambda: client.lastsave() > since, "a snapshot is written", 30)


def _wait_for_end(stack: MachineStack, batch: str, stall_s: float) -> int:
    """Wait until all rows have ended, or none has for `stall_s` beside a worker; return how many have not."""
    last, changed_s = -1, time.monotonic()

    def is_over() -> bool:
        nonlocal last, changed_s
        unfinished = _unfinished(stack, batch)
        if unfinished != last or not _is_served(stack):  # on a busy machine a worker takes a minute to start
            last, changed_s = unfinished, time.monotonic()
        return last == 0 or time.monotonic() - changed_s > stall_s

    wait_until(is_over, "the batch ends or stalls", 3600)
    return last


def _is_served(stack: MachineStack) -> bool:
    """Whether a worker of the stack has registered with Redis."""
    pids = {worker.process.pid for worker in stack.workers if worker.alive and worker.process}
    with stack.connect() as client:
        return not pids.isdisjoint(worker_names(client))


def _unfinished(stack: MachineStack, batch: str) -> int:
    bytes_ = status_bytes(stack, batch)
    return sum(rows for byte, rows in bytes_.items() if STATUS_OF_BYTE[byte] in UNFINISHED)


async def _outcome(stack: MachineStack, batch: str, rows: int, hung: int, seconds: float) -> Outcome:
    results = [row.result for row in await stack.rows(batch)]
    runs = stack.stats()["runs_by_job"]
    twice = sum(count > 1 for name, count in runs.items() if name.startswith(f"{batch}:"))
    counted = {
        name: counter(stack, batch, name) for name in ("late_runs", "unknown_creates", "recovered_writes")
    }
    return Outcome(
        accidents=1,
        rows=rows,
        lost=rows - hung - sum(result is not None for result in results),
        hung=hung,
        paid_twice=twice,
        late=counted["late_runs"],
        unknown=counted["unknown_creates"],
        recovered_writes=counted["recovered_writes"],
        seconds=round(seconds, 1),
    )
