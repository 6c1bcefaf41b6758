"""What a worker has written lately, so that it can write it again when Redis has gone back in time. Pure.

    pipeline ─▶ scripts …, SET askmill:writes:{session} number GET ─▶ the number before
    lower than the last acknowledged one: all pipelines after that number are lost; `plan` says what to redo

A Redis forgets the end of its history: power fails under it, or a replica that is behind takes over. What is
stored is then consistent, but old. Rows in hand and rows that ended lately are redone (scripts
`reclaim_rows`, `finish`, …), and for the others the store's state stands. Each script may be sent twice, so
it does not matter how much of a pipeline was lost.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import orjson

KEPT_S, KEPT_BYTES = 30.0, 32_000_000
"""How long, and how much of, what has ended is kept."""
_OBJECTS_BYTES = 2_500
"""What Python's objects for a row take besides its state, files and result (2,100 measured, three saves)."""
_REPEATED = frozenset({"set_resources", "resource_store", "incr_counters"})
"""Scripts that are sent again as they were."""
_OF_A_ROW = frozenset({"store_file", "finish", "release_row"})

Call = tuple[str, tuple[Any, ...]]
"""Name and arguments of a script."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of pipelines."""

    ranges: Sequence[range]

    def __contains__(self, number: int) -> bool:
        return any(number in numbers for numbers in self.ranges)


@dataclass(slots=True)
class _Amounts:
    """What one write has counted. `number`: of its pipeline."""

    number: int
    runs: int = 0
    counters: Sequence[Any] = ()


@dataclass(slots=True)
class _Row:
    """A row that this worker holds or has held: its claim, what is saved of it, and how that ended."""

    batch: str
    row: int
    fence: str
    generation: int
    deliveries: int
    live: dict[str, Any]
    """Fields of the row's hash that its writes have set."""
    state: bytes
    writes: list[_Amounts]
    calls: list[tuple[int, Call]] = field(default_factory=list)
    """Files, and its end, with the numbers of their pipelines."""

    def is_in(self, numbers: Numbers) -> bool:
        """Whether one of the row's writes was in these pipelines."""
        written = [*(write.number for write in self.writes), *(number for number, _ in self.calls)]
        return any(number in numbers for number in written)

    def size(self) -> int:
        values = (value for _, (_, arguments) in self.calls for value in arguments)
        content = len(self.state) + sum(len(value) for value in values if isinstance(value, bytes))
        return _OBJECTS_BYTES + content

    def reclaim_arguments(self, lost_numbers: Numbers) -> list[Any]:
        """The row as `reclaim_rows` takes it, with what its writes in lost pipelines have counted."""
        lost = [write for write in self.writes if write.number in lost_numbers]
        counters: dict[str, int] = {}
        for write in lost:
            for name, amount in zip(write.counters[::2], write.counters[1::2], strict=True):
                counters[name] = counters.get(name, 0) + int(amount)
        numbers = [write.number for write in lost] + [number for number, _ in self.calls]
        entry = {
            "request": f"{self.fence}{max(numbers):x}",
            "batch": self.batch,
            "row": self.row,
            "fence": self.fence,
            "generation": self.generation,
            "deliveries": self.deliveries,
            "live": self.live,
            "runs": sum(write.runs for write in lost),
            "writes": len(lost) + sum(number in lost_numbers for number, _ in self.calls),
            "counters": counters,
        }
        return [orjson.dumps(entry), self.state]


@dataclass(frozen=True)
class Redo:
    """One step: claim these rows again (arguments of `reclaim_rows`), then send these scripts."""

    rows: list[list[Any]]
    calls: list[Call]


class WriteLog:
    """The acknowledged writes of one worker, by the number of their pipeline."""

    def __init__(self) -> None:
        self.worker = ""
        self._rows: dict[tuple[str, int], _Row] = {}
        self._ended: deque[tuple[float, int, _Row]] = deque()
        """When it ended, its size, and the row."""
        self._repeated: deque[tuple[float, int, Call]] = deque()
        self._bytes = 0

    def record(self, number: int, now_s: float, call: Call, reply: Any) -> None:
        """Keep what a script has written, by its reply.

        Args:
            number: of a pipeline that was sent with the script or after it.
            now_s: by a clock that does not jump.
            call: name and arguments of the script.
            reply: of the script.
        """
        name, arguments = call
        if name == "claim" and not reply[0]:
            self._claimed(number, arguments, reply)
        elif name == "save" and reply[0] and reply[2] and reply[3]:
            self._saved(number, arguments, bool(reply[5:] and reply[5]))
        elif name in _OF_A_ROW and reply:
            self._row_changed(number, now_s, call)
        elif name in {"save", "finish", "release_row"}:
            self._refused(call, reply)
        elif name in _REPEATED and reply:
            self._repeated.append((now_s, number, call))

    def follow_heartbeat(
        self, worker: str, now_s: float, *, alive: bool, deleted_batches: Collection[str]
    ) -> None:
        """Forget the rows of purged batches, and all rows of a worker that was declared dead.

        Args:
            worker: the worker's id.
            now_s: as of `record`.
            alive: it was not declared dead.
            deleted_batches: batches that no longer exist.
        """
        self.worker = worker
        if deleted_batches or not alive:
            self._rows = {
                key: row for key, row in self._rows.items() if alive and row.batch not in deleted_batches
            }
        while self._ended and (self._ended[0][0] < now_s - KEPT_S or self._bytes > KEPT_BYTES):
            self._bytes -= self._ended.popleft()[1]
        while self._repeated and self._repeated[0][0] < now_s - KEPT_S:
            self._repeated.popleft()

    def holds(self, batch: str, row: int) -> bool:
        """Whether the worker has claimed this row and neither ended nor released it."""
        return (batch, row) in self._rows

    def plan(self, lost_numbers: Sequence[range]) -> list[Redo]:
        """What to redo when the pipelines of these numbers are lost.

        A row that has ended several times is redone step by step; rows in hand come last.
        """
        lost = Numbers(lost_numbers)
        waves: list[list[_Row]] = []
        ends: Counter[tuple[str, int]] = Counter()
        for _, _, row in self._ended:
            if row.is_in(lost):
                wave = ends[row.batch, row.row]
                ends[row.batch, row.row] += 1
                if wave == len(waves):
                    waves.append([])
                waves[wave].append(row)
        waves.append([row for row in self._rows.values() if row.is_in(lost)])
        steps = [self._step(wave, lost) for wave in waves]
        return [*steps, Redo([], [call for _, number, call in self._repeated if number in lost])]

    def _step(self, rows: Iterable[_Row], lost: Numbers) -> Redo:
        calls = [(number, call) for row in rows for number, call in row.calls if number in lost]
        arguments = [row.reclaim_arguments(lost) for row in rows]
        return Redo(arguments, [call for _, call in sorted(calls, key=itemgetter(0))])

    def redone(self, lost_numbers: Sequence[range], number: int) -> None:
        """The writes of lost pipelines are written again, by pipelines up to `number`."""
        lost = Numbers(lost_numbers)
        for row in self._all_rows():
            for write in row.writes:
                write.number = number if write.number in lost else write.number
            row.calls = [(number if at in lost else at, call) for at, call in row.calls]
        self._repeated = deque(
            (at, number if sent in lost else sent, call) for at, sent, call in self._repeated
        )

    def _all_rows(self) -> Iterator[_Row]:
        yield from self._rows.values()
        yield from (row for _, _, row in self._ended)

    def _claimed(self, number: int, arguments: tuple[Any, ...], reply: list[Any]) -> None:
        batch, row, _, fence = arguments
        _, state, _, crashes, *rest = reply
        generation, deliveries, run_in_flight, run_counted, reserved, spent = rest[-6:]
        live = {
            "crashes": crashes,
            "run_in_flight": run_in_flight.decode(),
            "run_counted": run_counted.decode(),
            "reserved_nano": int(reserved or 0),
            "spent_nano": int(spent or 0),
        }
        counts = int(generation), int(deliveries)
        self._rows[batch, row] = _Row(batch, row, fence, *counts, live, state, [_Amounts(number)])

    def _saved(self, number: int, arguments: tuple[Any, ...], counted: bool) -> None:
        batch, row, fence, content_hash, state, run_created, run_in_flight, crash_mark, *rest = arguments
        reserved_nano, spent_nano, *counters = rest
        held_row = self._rows.get((batch, row))
        # Equal to the last one: the script knew the repeated call and counted nothing.
        if held_row is None or held_row.fence != fence or held_row.live.get("last_save") == content_hash:
            return
        # Its run is counted already, by a save that was lost: that one must not be counted again.
        if counted and held_row.live["run_counted"] == "1":
            held_row.writes.append(_Amounts(held_row.writes[-1].number, -1))
        held_row.state, held_row.live["last_save"] = state, content_hash
        if run_in_flight != "":
            held_row.live |= {"run_in_flight": run_in_flight, "run_counted": str(run_created)}
        amounts = {"crash_mark": crash_mark, "reserved_nano": reserved_nano, "spent_nano": spent_nano}
        held_row.live |= {name: value for name, value in amounts.items() if value != ""}
        held_row.writes.append(_Amounts(number, int(counted), counters))

    def _row_changed(self, number: int, now_s: float, call: Call) -> None:
        name, (batch, row, *_) = call
        # A release or an end has the worker before the fence.
        fence = call[1][2 if name == "store_file" else 3]
        held_row = self._rows.get((batch, row))
        if held_row is None or held_row.fence != fence:
            return
        # orjson and zstandard return bytes that keep their whole buffer: eight times the content of a JSON
        # text. These copies are no larger than their content.
        arguments = (bytes(memoryview(part)) if isinstance(part, bytes) else part for part in call[1])
        held_row.calls.append((number, (name, tuple(arguments))))
        if name != "store_file":
            del self._rows[batch, row]
            self._ended.append((now_s, held_row.size(), held_row))
            self._bytes += held_row.size()

    def _refused(self, call: Call, reply: Any) -> None:
        """Forget a row whose claim is lost."""
        name, (batch, row, *rest) = call
        held_row = self._rows.get((batch, row))
        held = reply[0] if name == "save" else reply
        if not held and held_row is not None and held_row.fence in rest[:2]:
            del self._rows[batch, row]
