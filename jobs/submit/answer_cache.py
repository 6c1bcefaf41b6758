"""`--reuse-answers`: rows take the stored answer of an equal row, so that one edited row costs one run.

Rows are equal if they have the same API and address, the same profile with the same files, the same rendered
question and the same overrides. Rows of conversations are always asked. Without the option, `reusable_line`
says before anything is asked how many rows have such an answer.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import orjson

from askmill.config.text import about_usd, count_of
from askmill.jobs.intake import Intake
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.models import EMULATOR_MODEL, InputSpec, JobStatus, Result, Usage
from askmill.jobs.model.profile import IMAGE, Profile, Resources
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import Batch, NewRow
from askmill.jobs.store.views import RowView

MAX_LOOKED_UP = 100_000
"""Stored answers that `reusable_line` compares: 10 MB and about 2 s of CPU."""
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


async def equal_batches(store: Store, target: Target, profile: Profile, files: Sequence[str]) -> list[Batch]:
    """The batches with the same API, address, profile and hashes of the profile's files, newest first.

    The tier is no part of an answer: those of a pilot in the standard tier are reused in a batch job.
    """
    sha256 = without_tier(profile).sha256()
    return [
        batch
        for batch in await store.list_batches()
        if (batch.api, batch.base_url) == (target.api, target.base_url)
        and without_tier(batch.profile).sha256() == sha256
        and batch.options.get("files", []) == list(files)
    ]


def without_tier(profile: Profile) -> Profile:
    """What an answer depends on: not when it is made, nor what it costs."""
    return profile.model_copy(update={"service_tier": None, "completion_window": None})


async def _answered(store: Store, batch: Batch) -> AsyncIterator[tuple[bytes, RowView]]:
    """The rows of a batch whose answers may be reused, with their keys."""
    spec, column = batch.spec, batch.spec.conversation_column
    async for view in store.results(batch.id, {JobStatus.COMPLETED}):
        if not (column and spec.cell(column, view.cells).strip()):
            yield answer_key(spec, view.cells, batch.resources), view


async def reusable_line(store: Store, intake: Intake, batches: Sequence[Batch]) -> str:
    """Say how many rows of the file are answered in `batches`, and what reusing them would save.

    Looks up at most `MAX_LOOKED_UP` answers, those of the newest batches. Returns "" if there is none. Rows
    with files of their own count as not answered, because their upload has no id yet.
    """
    found: dict[bytes, tuple[str, float | None]] = {}
    for batch in batches:
        async for key, view in _answered(store, batch):
            if len(found) == MAX_LOOKED_UP:
                break
            # An answer that was itself reused cost 0; an older batch has paid for it.
            if key not in found or not found[key][1]:
                stored = view.stored or {}
                found[key] = (batch.id, stored.get("cost_usd"))
    if not found:
        return ""
    # A whole pass over the file: in a thread, so that a caller's event loop is not blocked.
    matches = await asyncio.to_thread(_matches, intake, found)
    return _reusable_text(intake.rows, matches, at_least=len(found) == MAX_LOOKED_UP)


def _matches(intake: Intake, found: dict[bytes, tuple[str, float | None]]) -> list[tuple[str, float | None]]:
    keys = (answer_key(intake.spec, row.cells, Resources()) for row in intake.rows_iter() if _is_single(row))
    return [found[key] for key in keys if key in found]


def _reusable_text(rows: int, matches: Sequence[tuple[str, float | None]], *, at_least: bool) -> str:
    if not matches:
        return ""
    batches, cost_usd = {batch for batch, _ in matches}, sum(cost or 0 for _, cost in matches)
    number = f"{'At least ' if at_least else ''}{len(matches):,} of these {count_of(rows, 'row')}"
    verb = "is" if len(matches) == 1 else "are"
    where = min(batches) if len(batches) == 1 else count_of(len(batches), "earlier batch", "earlier batches")
    saving = f" and saves {about_usd(cost_usd)}" if cost_usd else ""
    return f"{number} {verb} already answered in {where}: --reuse-answers takes those answers{saving}."


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
        async for key, view in _answered(store, batch):
            if key in self._answers and self._answers[key] is None and view.result is not None:
                self._answers[key] = pack_result(_as_reused(view.result, batch.id))

    @property
    def answered(self) -> int:
        """Different questions of the file that have an answer."""
        return sum(answer is not None for answer in self._answers.values())

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
