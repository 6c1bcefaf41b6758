"""The store's way out: batches, how far they are, rows with results, ids at the API. Changes nothing."""

from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from itertools import compress, count
from typing import Any, NoReturn

import orjson

from askmill.jobs.model.errors import NotFound
from askmill.jobs.model.models import (
    BY_ITEMS,
    FINISHED,
    STATUS_OF_BYTE,
    UNFINISHED,
    BatchState,
    InputSpec,
    JobStatus,
)
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store import keys
from askmill.jobs.store.codec import BLOCK_ROWS, block_of, limits_of, unpack
from askmill.jobs.store.connection import Connection
from askmill.jobs.store.eta import PIECE_S, PIECES, time_left
from askmill.jobs.store.records import Batch, Counts, RowDetail, RowView, StatusView, WorkerInfo

_CHUNK_ROWS = 64 * BLOCK_ROWS
"""Rows a round trip: 1,024, about half a megabyte."""
_ASKED = FINISHED - {JobStatus.REJECTED, JobStatus.CANCELLED}
_SHOWN = 5


async def _names(at: Connection) -> list[str]:
    """The batches there are, newest first; one whose retention is over may be listed until a sweep."""
    listed = [name.decode() for name in await at.execute("ZREVRANGE", keys.BATCHES, 0, -1)]
    there = await at.pipeline(*(("EXISTS", keys.batch(name)) for name in listed)) if listed else []
    return [name for name, exists in zip(listed, there, strict=True) if exists]


async def not_found(at: Connection, batch: str) -> NoReturn:
    """Names the batches that look alike, else the newest."""
    known = await _names(at)
    near = get_close_matches(batch, known, _SHOWN) or known[:_SHOWN]
    hint = f"here are {', '.join(near)}" if near else "there is none in this Redis"
    raise NotFound(f"no batch {batch!r}: {hint} (`askmill list` shows all)")


def _spec(stored: bytes) -> InputSpec:
    values = orjson.loads(stored)
    return InputSpec(
        **{**values, "columns": tuple(values["columns"]), "overrides": tuple(values["overrides"])}
    )


def _batch(batch: str, stored: dict[bytes, bytes]) -> Batch:
    text = {name.decode(): value.decode() for name, value in stored.items()}
    frozen: dict[str, Any] = {
        name: text[name] for name in ("name", "file", "api", "base_url", "model", "identity")
    }
    times: dict[str, Any] = {
        f"{name}_ms": int(text[name]) if name in text else None for name in ("started_at", "finished_at")
    }
    return Batch(
        id=batch,
        rows=int(text["rows"]),
        spec=_spec(stored[b"spec"]),
        profile=Profile.model_validate_json(text["profile"]),
        resources=Resources.model_validate_json(text["resources"]),
        limits=limits_of(stored[b"limits"]),
        options=orjson.loads(text["options"]),
        state=BatchState(text["state"]),
        paused_reason=text.get("paused_reason"),
        accepted=text["accepted"] == "1",
        submitted_at_ms=int(text["submitted_at"]),
        **frozen,
        **times,
    )


def _card(worker: str, stored: dict[bytes, bytes]) -> WorkerInfo:
    text: dict[str, Any] = {name.decode(): value.decode() for name, value in stored.items()}
    text.pop("heard_since", None)
    numbers = {name: int(text[name]) for name in ("pid", "slots", "started_at_ms")}
    return WorkerInfo(id=worker, **{**text, **numbers})


def _counts(stored: dict[bytes, bytes]) -> Counts:
    numbers = {name.decode(): int(value) for name, value in stored.items()}
    return Counts(
        {name: rows for name, rows in numbers.items() if name in STATUS_OF_BYTE},
        {name: number for name, number in numbers.items() if name not in STATUS_OF_BYTE},
    )


def _rows_per_s(batch: Batch, counts: Counts, pace: dict[bytes, bytes], now_s: float) -> float | None:
    """Rows a second over the last minutes, of all of an ended batch; None before the first run."""
    if batch.started_at_ms is None:
        return None
    started_s = batch.started_at_ms / 1000
    if batch.finished_at_ms is not None:
        asked = sum(rows for status, rows in counts.by_status.items() if status in _ASKED)
        return asked / max(batch.finished_at_ms / 1000 - started_s, 0.001)
    oldest = int(now_s / PIECE_S) - PIECES + 1
    rows = sum(int(count) for bucket, count in pace.items() if int(bucket) >= oldest)
    return rows / max(now_s - max(started_s, float(oldest * PIECE_S)), 1.0)


def _pieces(started_s: float, pace: dict[bytes, bytes], now_s: float) -> list[int]:
    """Rows finished in each whole piece of the last minutes, the ones with none among them."""
    now = int(now_s / PIECE_S)
    first = max(now - PIECES + 1, int(started_s / PIECE_S) + 1)
    return [int(pace.get(b"%d" % piece, 0)) for piece in range(first, now)]


def _views(
    first: int, status: str, inputs: list[bytes], results: list[bytes | None], wanted: set[str]
) -> Iterator[RowView]:
    """The wanted rows of a chunk that begins with row `first`; only their blocks are unpacked."""
    for start in range(0, len(status), BLOCK_ROWS):
        those = slice(start, start + BLOCK_ROWS)
        chosen = [byte in wanted for byte in status[those]]
        if any(chosen):
            statuses, cells = map(STATUS_OF_BYTE.get, status[those]), unpack(inputs[start // BLOCK_ROWS])
            # Zipped in C, past the constructor: of a million rows it would take a second.
            yield from map(
                _view, compress(zip(count(first + start), cells, statuses, results[those]), chosen)
            )


_view = partial(tuple.__new__, RowView)


class QueryMixin:
    """What anybody may ask of the store."""

    _at: Connection

    async def newest(self) -> str | None:
        """The batch submitted last."""
        return next(iter(await _names(self._at)), None)

    async def batch(self, batch: str) -> Batch:
        """Raises NotFound for one that is not (or no longer) here."""
        stored = await self._at.execute("HGETALL", keys.batch(batch))
        if not stored or stored[b"state"] == b"loading":
            await not_found(self._at, batch)
        return _batch(batch, stored)

    async def list_batches(self) -> list[Batch]:
        """All of them, newest first."""
        names = await _names(self._at)
        stored = await self._at.pipeline(*(("HGETALL", keys.batch(name)) for name in names)) if names else []
        # One's retention may have ended since.
        return [_batch(name, values) for name, values in zip(names, stored, strict=True) if values]

    async def counts(self, batch: str) -> Counts:
        stored = await self._at.execute("HGETALL", keys.part(batch, "n"))
        return _counts(stored) if stored else await not_found(self._at, batch)

    async def status(self, batch: str) -> StatusView:
        """How far it is; costs the same for any number of rows."""
        found = await self.batch(batch)
        stored, pace, (seconds, _) = await self._at.pipeline(
            ("HGETALL", keys.part(batch, "n")), ("HGETALL", keys.part(batch, "pace")), ("TIME",)
        )
        counts = _counts(stored)
        rows_per_s = _rows_per_s(found, counts, pace, float(seconds))
        alive = await self.workers()
        ours = tuple(card for card in alive if (card.api, card.base_url) == (found.api, found.base_url))
        view = StatusView(
            batch=found,
            counts=counts,
            workers=ours,
            other_workers=tuple(card for card in alive if card not in ours),
            rows_per_s=rows_per_s,
            eta_s=None,
        )
        going = found.state in {BatchState.QUEUED, BatchState.RUNNING}
        if not (going and rows_per_s and counts.unfinished and found.started_at_ms):
            return view
        at_once = min(found.rows, sum(card.slots for card in ours))
        pieces = _pieces(found.started_at_ms / 1000, pace, float(seconds))
        left = time_left(counts.unfinished, at_once, rows_per_s, pieces) if ours else None
        return replace(view, eta_s=counts.unfinished / rows_per_s, time_left=left)

    async def statuses(self, batch: str) -> str:
        """Every row's byte in file order (jobs/model/models.py): for who looks again and again what has ended."""
        stored = await self._at.execute("GET", keys.part(batch, "status"))
        return str(stored.decode()) if stored else await not_found(self._at, batch)

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers whose heart beats."""
        (names,) = await self._at.pipeline(("ZRANGE", keys.WORKERS, 0, -1))
        if not names:
            return ()
        ids = [name.decode() for name in names]
        cards = await self._at.pipeline(*(("HGETALL", keys.worker(worker)) for worker in ids))
        return tuple(_card(worker, card) for worker, card in zip(ids, cards, strict=True) if b"slots" in card)

    async def results(
        self, batch: str, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[RowView]:
        """All rows in file order, or those that ended so; memory for a thousand rows at most."""
        async for chunk in self.chunks(batch, statuses):
            for view in chunk:
                yield view

    async def chunks(
        self, batch: str, statuses: Collection[JobStatus] | None = None
    ) -> AsyncIterator[Iterator[RowView]]:
        """`results` for who takes a million: one wait for a thousand rows."""
        rows = (await self.batch(batch)).rows
        wanted = {byte for byte, status in STATUS_OF_BYTE.items() if statuses is None or status in statuses}
        for first in range(1, rows + 1, _CHUNK_ROWS):
            last = min(first + _CHUNK_ROWS - 1, rows)
            status, inputs, results = await self._at.scripts.read_rows(batch, first, last, BLOCK_ROWS)
            if None in inputs:
                await not_found(self._at, batch)
            yield _views(first, status.decode(), inputs, results, wanted)

    async def row(self, batch: str, row: int) -> RowDetail:
        """One row, with what its worker knows of it.

        Raises:
            NotFound: no such batch, or a row number outside it.
        """
        rows = (await self.batch(batch)).rows
        if not 1 <= row <= rows:
            raise NotFound(f"no row {row} in batch {batch}: it has the rows 1 to {rows}")
        status, block, packed, live, due, orphaned = await self._at.pipeline(
            ("GETRANGE", keys.part(batch, "status"), row - 1, row - 1),
            ("HGET", keys.part(batch, "input"), block_of(row)),
            ("HGET", keys.part(batch, "results"), row),
            ("HGETALL", keys.live(batch, row)),
            ("ZSCORE", keys.part(batch, "due"), row),
            ("ZSCORE", keys.part(batch, "orphans"), row),
        )
        waits_until = due if due is not None else orphaned
        worker = live.get(b"worker")
        return RowDetail(
            view=RowView(row, unpack(block)[(row - 1) % BLOCK_ROWS], STATUS_OF_BYTE[status.decode()], packed),
            state=live.get(b"state"),
            worker=worker.decode() if worker else None,
            due_ms=None if waits_until is None else int(waits_until),
            kills=int(live.get(b"kills", 0)),
        )

    async def find_row_by_id(self, batch: str, own_id: str) -> int:
        """The row whose id column has this value: reads the batch until it is found.

        Raises:
            NotFound: no such batch or id, or the batch has no id column.
        """
        spec = (await self.batch(batch)).spec
        if spec.id_column is None:
            raise NotFound(f"batch {batch} has no id column: name the row by its number")
        async for view in self.results(batch):
            if spec.cell(spec.id_column, view.cells) == own_id:
                return view.row
        raise NotFound(f"no row with {spec.id_column} {own_id!r} in batch {batch}")

    async def ledger(self, batch: str) -> AsyncIterator[tuple[str, str]]:
        """("thread" | "run" | "file", its id) of all that the batch's rows ever made, those under way too."""
        async for view in self.results(batch):
            stored = view.stored
            # With no attempt, an answer was taken from another batch, and all ids are that one's.
            known = [stored] if stored and stored.get("attempts_made") != 0 else []
            if view.status in UNFINISHED:
                state = await self._at.execute("HGET", keys.live(batch, view.row), "state")
                known += [orjson.loads(state)] if state else []
            for made in dict.fromkeys(_made_in(known)):
                yield made


def _made_in(stored: Any) -> Iterator[tuple[str, str]]:
    """Every id of something that a run made, anywhere in stored JSON; citations name the user's own files."""
    if isinstance(stored, list):
        for part in stored:
            yield from _made_in(part)
    elif isinstance(stored, dict):
        if stored.get("thread_id"):
            yield "thread", stored["thread_id"]
        # A run that only its conversation's items tell of has no id at the API.
        if stored.get("run_id") and not stored["run_id"].startswith(BY_ITEMS):
            yield "run", stored["run_id"]
        for file in stored.get("files") or ():
            # A container's files end with it.
            if file.get("file_id") and not file.get("container_id"):
                yield "file", file["file_id"]
        for name, part in stored.items():
            if name not in {"citations", "details", "files"}:
                yield from _made_in(part)
