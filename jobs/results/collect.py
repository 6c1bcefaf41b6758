"""Writes a batch's results from the store to files, in row order."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import orjson

from askmill.jobs.model.models import JobStatus
from askmill.jobs.results import Plan, Written, write_results
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch


def default_out(file: str, statuses: Collection[JobStatus] | None = None) -> str:
    """`STEM.answers.csv` in the working folder; a selection by status has a name of its own."""
    suffix = "".join(f".{status}" for status in sorted(statuses or ()))
    return f"{Path(file).stem}.answers{suffix}.csv"


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
