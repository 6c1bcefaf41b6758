"""Writes a batch's results from the store to files, in row order."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from askmill.jobs.intake import Intake
from askmill.jobs.model.answer_fields import fields_of
from askmill.jobs.model.expected import Expectation
from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile
from askmill.jobs.results.columns import Additions, select_columns
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault
from askmill.jobs.results.expected import judge_of, measure
from askmill.jobs.results.export import (
    Contents,
    Plan,
    ResultOptions,
    Written,
    plan_results,
    write_results,
)
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import StatusView

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


def default_out(file: str, statuses: Collection[JobStatus] | None = None) -> str:
    """`STEM.answers.csv` in the working folder; a selection by status has a name of its own."""
    suffix = "".join(f".{status}" for status in sorted(statuses or ()))
    path = Path(file)
    stem = Path(path.stem).stem if path.suffix.lower() in COMPRESSED_SUFFIXES else path.stem
    return f"{stem}.answers{suffix}.csv"


def plan_new(out: str, intake: Intake, profile: Profile, options: ResultOptions, source: str) -> Plan:
    """Plan the results of a file that is about to be submitted. Raises UsageError."""
    size = Path(source).stat().st_size if Path(source).is_file() else 0
    fields = fields_of(profile.response_schema)
    judge = judge_of(options.expected, intake.spec, fields, stored=False)
    contents = Contents(intake.rows, size, Additions(fields, judge))
    return plan_results(out, intake.spec, options, source, contents)


async def plan_collect(
    store: Store,
    batch: Batch,
    out: str | None,
    options: ResultOptions,
    statuses: Collection[JobStatus] | None = None,
) -> Plan:
    """Plan the results of a stored batch, into `out` or the default file. Raises UsageError."""
    counts = (await store.counts(batch.id)).by_status
    rows = sum(counts[status] for status in statuses or JobStatus)
    return plan_stored(batch, out or default_out(batch.file, statuses), options, rows)


def plan_stored(batch: Batch, out: str, options: ResultOptions, rows: int) -> Plan:
    """Plan the results of so many rows of a stored batch. Raises UsageError."""
    source = batch.file if os.path.exists(batch.file) else None  # noqa: PTH110 -- False for any text
    contents = Contents(rows, 0, additions_of(batch, options.expected))
    return plan_results(out, batch.spec, options, source, contents)


def additions_of(batch: Batch, expected: Expectation | None = None) -> Additions:
    """The columns that the batch's profile and its expectation, or another one, add to its results."""
    fields = fields_of(batch.profile.response_schema)
    judge = judge_of(expected or batch.expected, batch.spec, fields, stored=expected is None)
    return Additions(fields, judge)


def with_stored_expectation(plan: Plan, batch: Batch) -> Plan:
    """The plan with the batch's own expectation, where this command has given none."""
    columns = plan.columns
    if columns.additions.judge is not None or batch.expected is None:
        return plan
    chosen = columns.header if columns.chosen is not None else ()
    additions = additions_of(batch)
    return replace(plan, columns=select_columns(batch.spec, chosen, additions, with_steps=columns.with_steps))


async def with_accuracy(store: Store, view: StatusView, expected: Expectation | None = None) -> StatusView:
    """The view with the accuracy of the answers so far, where there is an expectation. Reads the rows."""
    judge = additions_of(view.batch, expected).judge
    if judge is None:
        return view
    return replace(view, accuracy=await measure(judge, store.result_chunks(view.batch.id)))


async def collect(
    store: Store, batch: str, plan: Plan, statuses: Collection[JobStatus] | None = None
) -> Written:
    """Write the batch's rows, or those with one of `statuses`, in their present state. Raises WriteFault."""

    async def fetch_blob(row: int, file: dict[str, Any]) -> bytes | None:
        number = file.get("number")
        return None if number is None else await store.read_file(batch, row, number)

    written = await write_results(store.result_chunks(batch, statuses), plan, fetch_blob)
    if plan.output.files is not None:
        # Next to OUT and STEM.files.
        write_profile(await store.batch(batch), plan.output.files.with_suffix(".profile.json"), plan.out)
    return written


def write_profile(batch: Batch, path: Path, out: str) -> None:
    """Write the batch's settings as of submit, so that its results can be explained without Redis."""
    profile = {
        "batch": batch.id,
        "api": batch.api,
        "base_url": batch.base_url,
        "model": batch.model,
        "profile": batch.profile.model_dump(exclude_defaults=True),
        "resources": batch.resources.model_dump(exclude_defaults=True),
    }
    with oserror_to_write_fault(out), atomic_write(path) as stream:
        stream.write(orjson.dumps(profile, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
