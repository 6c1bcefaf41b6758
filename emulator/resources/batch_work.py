"""The life of a batch, lived by a task of its own.

    validating ─▶ in_progress ─▶ finalizing ─▶ completed
        │  └▶ failed   └─ expires_at ─▶ expired
        └──────────────┴─(cancel)─▶ cancelling ─▶ cancelled

What a state does is written before the next one begins, so that a killed emulator goes on where it was.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import TypeVar

import orjson

from askmill.emulator.protocol.batch_errors import (
    enqueued_limit,
    line_cancelled,
    line_expired,
    no_input_file,
    too_many_bytes,
)
from askmill.emulator.protocol.routing import Json
from askmill.emulator.resources.batch_checks import FileCheck
from askmill.emulator.resources.batch_lines import LineEnd, Lines, unanswered
from askmill.emulator.resources.batch_object import Batch, Progress
from askmill.emulator.simulation.batch_manners import BatchManners
from askmill.emulator.simulation.engine import Engine
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store, Table
from askmill.emulator.simulation.spool import Step

Item = TypeVar("Item")

# Other requests are served between two groups of lines.
GROUP_LINES = 100
# Lines that take time end in at least this many steps.
STEPS = 20
LONGEST_WAIT_S = 3600.0


class BatchWork:
    """Follows every batch that has not ended."""

    def __init__(self, store: Store, engine: Engine, library: FileLibrary, lines: Lines) -> None:
        self._store = store
        self._engine = engine
        self._library = library
        self._spool = library.spool
        self._lines = lines
        self.rows: Table[Batch] = store.table("batch", Batch.load)
        self._wakes: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, batch: Batch) -> None:
        """Follow a new batch, or one that had not ended when the emulator stopped."""
        self._wakes[batch.id] = asyncio.Event()
        self._library.in_use[batch.input_file_id] += 1
        task = asyncio.get_running_loop().create_task(self._follow(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resume(self, batch: Batch) -> None:
        """Follow a batch from its last step."""
        if state := self._spool.state(batch.id):
            batch.progress = Progress(**orjson.loads(state))
        self.begin(batch)

    def wake(self) -> None:
        """The scenario or the state of a batch has changed."""
        for event in self._wakes.values():
            event.set()

    def enter(self, batch: Batch, status: str) -> None:
        """Go on to the next state, and keep it."""
        batch.enter(status, self._engine.clock.now())
        self.rows.put(batch.id, batch)
        self._store.commit()
        self.wake_one(batch)

    def wake_one(self, batch: Batch) -> None:
        if event := self._wakes.get(batch.id):
            event.set()

    @property
    def _manners(self) -> BatchManners:
        return self._engine.scenario.batches

    async def _follow(self, batch: Batch) -> None:
        if batch.status == "validating":
            await self._until(batch, lambda: batch.created_at + self._manners.validate_s)
            await self._check(batch)
        if batch.status == "in_progress":
            await self._run(batch)
        if batch.status == "finalizing":
            await self._until(batch, lambda: batch.began["finalizing"] + self._manners.finalize_s)
            if batch.status == "finalizing":
                self._end(batch, "completed")
        if batch.status == "cancelling":
            await self._write_rest(batch, line_cancelled())
            await self._until(batch, lambda: batch.began["cancelling"] + self._manners.cancel_s)
            self._end(batch, "cancelled")
        del self._wakes[batch.id]
        self._library.release(batch.input_file_id)

    async def _until(self, batch: Batch, due: Callable[[], float]) -> None:
        """Wait until a time, which a new scenario may change, or for another state."""
        status, event = batch.status, self._wakes[batch.id]
        while batch.status == status and (left := due() - self._engine.clock.now()) > 0:
            event.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LONGEST_WAIT_S)):
                    await event.wait()

    # --- validating ---

    async def _check(self, batch: Batch) -> None:
        faults = await self._faults(batch)
        if batch.status != "validating":
            return
        if faults:
            batch.errors = faults
            self.enter(batch, "failed")
        else:
            self.enter(batch, "in_progress")

    async def _faults(self, batch: Batch) -> list[Json]:
        file = self._library.find(batch.input_file_id)
        if file is None or file["purpose"] != "batch":
            return [no_input_file(batch.input_file_id)]
        manners = self._manners
        if file["bytes"] > manners.max_bytes:
            return [too_many_bytes(manners.max_bytes)]
        check = FileCheck(batch.endpoint, manners.max_lines, manners.bad_lines)
        async for group in _groups(self._spool.lines(batch.input_file_id), GROUP_LINES):
            if batch.status != "validating" or not all(map(check.take, group)):
                break
        batch.model, batch.total = check.model, check.total
        if faults := check.end():
            return faults
        limit = manners.enqueued_limit
        if limit and self._enqueued(check.model) + check.tokens > limit:
            return [enqueued_limit(str(check.model), limit)]
        batch.enqueued_tokens = check.tokens
        return []

    def _enqueued(self, model: str | None) -> int:
        since = self._engine.clock.now() - self._manners.release_s
        return sum(
            batch.enqueued_tokens
            for batch in self.rows.rows.values()
            if batch.model == model and (batch.ended_at() is None or (batch.ended_at() or 0.0) > since)
        )

    # --- in progress ---

    async def _run(self, batch: Batch) -> None:
        """Carry out the lines over the time of the batch; those that run at a cancel are finished."""
        began = batch.began["in_progress"]
        left = self._left(batch)
        while batch.status == "in_progress" and (group := list(islice(left, self._group_lines(batch)))):
            share = (batch.progress.read + len(group)) / batch.total

            def due(share: float = share) -> float:
                return min(batch.expires_at, began + self._manners.run_s * share)

            await self._until(batch, due)
            if self._engine.clock.now() >= batch.expires_at:
                break
            await self._carry_out(batch, [raw for _, raw in group], group[0][0])
            await asyncio.sleep(0)
        await self._run_held(batch)
        if batch.status == "in_progress":
            progress = batch.progress
            if progress.read < batch.total or progress.held or progress.given_up:
                await self._write_rest(batch, line_expired())
                self._end(batch, "expired")
            else:
                self.enter(batch, "finalizing")

    def _group_lines(self, batch: Batch) -> int:
        if not self._manners.run_s:
            return GROUP_LINES
        return max(1, min(GROUP_LINES, -(-batch.total // STEPS)))

    def _left(self, batch: Batch) -> Iterator[tuple[int, bytes]]:
        """The lines that were not taken yet, with their places in the file."""
        return islice(enumerate(self._requests(batch)), batch.progress.read, None)

    def _requests(self, batch: Batch) -> Iterator[bytes]:
        return (line for line in self._spool.lines(batch.input_file_id) if line.strip())

    async def _carry_out(self, batch: Batch, group: list[bytes], first: int) -> None:
        """Carry out some lines, and write them and the state of the batch at once."""
        now = self._engine.clock.now()
        progress = batch.progress
        step, pending = Step(), Counter[str]()
        for i, raw in enumerate(group):
            end = await self._lines.carry_out(
                raw, now, lambda job: self._spool.attempts(job) + pending[job], waited=False
            )
            if end.held_s:
                progress.held[str(first + i)] = batch.began["in_progress"] + end.held_s
            else:
                self._note(batch, step, end)
        progress.read += len(group)
        self._commit(batch, step)

    async def _run_held(self, batch: Batch) -> None:
        """Carry out the lines that take longer than the others, each when its time has come."""
        held = batch.progress.held
        if not held or batch.status != "in_progress":
            return
        raws = {str(i): raw for i, raw in enumerate(self._requests(batch)) if str(i) in held}
        while held:
            place = min(held, key=lambda one: held[one])
            await self._until(batch, lambda at=held[place]: min(batch.expires_at, at))  # type: ignore[misc]
            now = self._engine.clock.now()
            if batch.status != "in_progress" or now >= batch.expires_at:
                return
            step = Step()
            end = await self._lines.carry_out(raws[place], now, self._spool.attempts, waited=True)
            del held[place]
            self._note(batch, step, end)
            self._commit(batch, step)

    def _note(self, batch: Batch, step: Step, end: LineEnd) -> None:
        """Put a line that was carried out into the step."""
        progress = batch.progress
        if end.ran:
            step.ran.append((end.custom_id, end.job, end.answered))
        if end.counts:
            step.attempts[end.job] += 1
        if not end.answered:
            progress.failed += 1
            step.files.setdefault(batch.error_id, []).append(end.line)
            return
        progress.completed += 1
        copies = self._lines.copies(end.custom_id, self._spool.runs_of)
        step.files.setdefault(batch.output_id, []).extend([end.line] * copies)
        _add_usage(progress, end.usage or {})

    def _commit(self, batch: Batch, step: Step) -> None:
        self._spool.commit(batch.id, step, orjson.dumps(batch.progress))

    # --- ends ---

    async def _write_rest(self, batch: Batch, error: Json) -> None:
        """Write what was not carried out into the error file."""
        progress = batch.progress
        if batch.began.get("in_progress") is None:
            return
        places = set(progress.held)
        progress.held.clear()
        progress.given_up += len(places)
        step = Step()
        if places:
            held = [raw for i, raw in enumerate(self._requests(batch)) if str(i) in places]
            step.files[batch.error_id] = [_unanswered(raw, error) for raw in held]
        self._commit(batch, step)
        async for group in _groups(self._left(batch), GROUP_LINES):
            lines = [_unanswered(raw, error) for _, raw in group]
            progress.read += len(group)
            progress.given_up += len(group)
            self._commit(batch, Step(files={batch.error_id: lines}))

    def _end(self, batch: Batch, status: str) -> None:
        """Show the result files, and go on to the last state."""
        now = self._engine.clock.now()
        life_s = self._manners.files_s if batch.result_files_s is None else batch.result_files_s
        for name, file_id in (("output", batch.output_id), ("error", batch.error_id)):
            size = self._spool.size(file_id)
            if size:
                self._library.show(file_id, f"{batch.id}_{name}.jsonl", size, "batch_output", now, life_s)
                setattr(batch, f"{name}_file_id", file_id)
        used = batch.progress
        self._store.add_to_counter("tokens", used.input_tokens + used.output_tokens)
        self.enter(batch, status)


def _unanswered(raw: bytes, error: Json) -> bytes:
    return unanswered(orjson.loads(raw)["custom_id"], error)


def _add_usage(progress: Progress, usage: Json) -> None:
    """Add the tokens of either API's usage."""
    for ours, theirs in (("input", "prompt"), ("output", "completion")):
        name = f"{ours}_tokens"
        setattr(
            progress, name, getattr(progress, name) + (usage.get(name) or usage.get(f"{theirs}_tokens") or 0)
        )
    read = usage.get("input_tokens_details") or usage.get("prompt_tokens_details") or {}
    wrote = usage.get("output_tokens_details") or usage.get("completion_tokens_details") or {}
    progress.cached_tokens += read.get("cached_tokens", 0)
    progress.reasoning_tokens += wrote.get("reasoning_tokens", 0)


async def _groups(lines: Iterator[Item], size: int) -> AsyncIterator[list[Item]]:
    """Groups of lines; other tasks run between them."""
    while group := list(islice(lines, size)):
        yield group
        await asyncio.sleep(0)
