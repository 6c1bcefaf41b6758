"""`--reuse-answers`: rows take the stored answer of an equal row, so that one edited row costs one run.

Rows are equal if they have the same API and address, the same profile with the same files, the same rendered
question and the same overrides. Rows of conversations are always asked.
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
"""Overrides that name local files, with the prefix of their path in `Resources.row_files`."""


def answer_key(spec: InputSpec, cells: list[Any], resources: Resources) -> bytes:
    """Return a hash of a row's question and overrides; a local file counts by the id of its upload."""
    overrides = {}
    for name in spec.overrides:
        value = spec.cell(name, cells).strip()
        uploaded = FILE_COLUMNS.get(name)
        overrides[name] = value if uploaded is None else resources.row_files.get(uploaded + value, value)
    parts = [spec.question(cells), {name: value for name, value in overrides.items() if value}]
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


class AnswerCache:
    """Answers of `completed` rows in this Redis for the rows of one file, packed as in the store."""

    def __init__(self, spec: InputSpec, resources: Resources) -> None:
        self._spec, self._resources = spec, resources
        self._answers: dict[bytes, bytes | None] = {}

    @classmethod
    async def gather(
        cls, store: Store, intake: Intake, resources: Resources, batches: list[Batch]
    ) -> "AnswerCache":
        """Collect answers from `batches`, which have an equal profile, newest first."""
        cache = cls(intake.spec, resources)
        # A whole pass over the file: in a thread, so that the loader's lease is renewed meanwhile.
        cache._answers = await asyncio.to_thread(lambda: dict.fromkeys(cache._keys(intake)))
        for batch in batches:
            await cache._add_answers_of(store, batch)
        return cache

    def _keys(self, intake: Intake) -> Iterator[bytes]:
        return (
            answer_key(self._spec, row.cells, self._resources)
            for row in intake.rows_iter()
            if _is_single(row)
        )

    async def _add_answers_of(self, store: Store, batch: Batch) -> None:
        spec, column = batch.spec, batch.spec.conversation_column
        async for view in store.results(batch.id, {JobStatus.COMPLETED}):
            if column and spec.cell(column, view.cells).strip():
                continue
            key = answer_key(spec, view.cells, batch.resources)
            if key in self._answers and self._answers[key] is None and view.result is not None:
                self._answers[key] = pack_result(_as_reused(view.result, batch.id))

    def with_answers(self, rows: list[NewRow]) -> list[NewRow]:
        """Return the rows, with the stored answer where there is one."""
        return [
            row._replace(reused_result=self._answers.get(answer_key(self._spec, row.cells, self._resources)))
            if _is_single(row)
            else row
            for row in rows
        ]


def _is_single(row: NewRow) -> bool:
    return row.reject is None and row.conversation is None


def _as_reused(result: Result, batch: str) -> Result:
    """Return the answer with its original ids, no attempts and no cost for this batch."""
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
