"""`--reuse-answers`: rows that were answered here take that answer; edit one row of 5,000, pay for one.

Equal means: the same API at the same address, the same profile with the same files, the same rendered
question, the same values of the row's overrides. Rows of conversations are always asked.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

from askmill.jobs.intake import Intake
from askmill.jobs.model.models import EMULATOR_MODEL, InputSpec, JobStatus, Result, Usage
from askmill.jobs.model.profile import IMAGE, Resources
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import Batch, NewRow

FILE_COLUMNS = {"image": IMAGE, "file": ""}
"""Overrides that name local files, and what stands before the path in `Resources.row_files`."""


def key_of(spec: InputSpec, cells: list[Any], resources: Resources) -> bytes:
    """Names all that a row asks beside its profile; a local file by the id of its content."""
    overrides = {}
    for name in spec.overrides:
        value = spec.cell(name, cells).strip()
        uploaded = FILE_COLUMNS.get(name)
        overrides[name] = value if uploaded is None else resources.row_files.get(uploaded + value, value)
    said = [spec.question(cells), {name: value for name, value in overrides.items() if value}]
    return hashlib.blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


class AnswerCache:
    """Answers of `completed` rows in this Redis to rows of one file, packed as the store keeps them."""

    def __init__(self, spec: InputSpec, resources: Resources) -> None:
        self._spec, self._resources = spec, resources
        self._answers: dict[bytes, bytes | None] = {}

    @classmethod
    async def gather(
        cls, store: Store, intake: Intake, resources: Resources, equals: list[Batch]
    ) -> "AnswerCache":
        """Look through the batches of an equal profile, the newest first."""
        known = cls(intake.spec, resources)
        # A whole pass over the file: in a thread, so that the loader's lease is renewed meanwhile.
        known._answers = await asyncio.to_thread(lambda: dict.fromkeys(known._keys(intake)))
        for batch in equals:
            await known._look_through(store, batch)
        return known

    def _keys(self, intake: Intake) -> Iterator[bytes]:
        return (key_of(self._spec, row.cells, self._resources) for row in intake.rows_iter() if _single(row))

    async def _look_through(self, store: Store, batch: Batch) -> None:
        spec, column = batch.spec, batch.spec.conversation_column
        async for view in store.results(batch.id, {JobStatus.COMPLETED}):
            if column and spec.cell(column, view.cells).strip():
                continue
            key = key_of(spec, view.cells, batch.resources)
            if key in self._answers and self._answers[key] is None and view.result is not None:
                self._answers[key] = pack_result(_taken(view.result, batch.id))

    def applied(self, rows: list[NewRow]) -> list[NewRow]:
        """The rows, those that were answered with their answer."""
        return [
            row._replace(reused_result=self._answers.get(key_of(self._spec, row.cells, self._resources)))
            if _single(row)
            else row
            for row in rows
        ]


def _single(row: NewRow) -> bool:
    return row.reject is None and row.conversation is None


def _taken(result: Result, batch: str) -> Result:
    """The answer with its original ids, for which this batch made no attempt and pays nothing."""
    files = tuple(
        {**file, "reason": f"kept with {batch}, row {result.row}"} if "number" in file else file
        for file in result.files
    )
    for file in files:
        file.pop("number", None)
    cost_usd = None if result.model == EMULATOR_MODEL else 0.0
    return dataclasses.replace(
        result, attempts=(), attempts_made=0, cost_usd=cost_usd, usage=Usage(0, 0), files=files
    )
