"""From the store to result files: the plan first, so that no fault is found late, then every row in order."""

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
    """`STEM.answers.csv` in the working folder; a choice of rows never takes the place of the whole."""
    chosen = "".join(f".{status}" for status in sorted(statuses or ()))
    return f"{Path(file).stem}.answers{chosen}.csv"


async def collect(
    store: Store, batch: str, plan: Plan, statuses: Collection[JobStatus] | None = None
) -> Written:
    """Write the rows of the batch, or those that ended so, as they stand now. Raises WriteFault."""

    async def kept(row: int, told: dict[str, Any]) -> bytes | None:
        number = told.get("number")
        return None if number is None else await store.file(batch, row, number)

    written = await write_results(store.chunks(batch, statuses), plan, kept)
    if plan.output.files is not None:
        # STEM.files has its name beside OUT already: the frozen profile stands there too.
        _write_profile(await store.batch(batch), plan.output.files.with_suffix(".profile.json"), plan.out)
    return written


def _write_profile(batch: Batch, path: Path, out: str) -> None:
    """What was asked with, as it was frozen at submit: results can be explained without Redis."""
    frozen = {
        "batch": batch.id,
        "api": batch.api,
        "base_url": batch.base_url,
        "model": batch.model,
        "profile": batch.profile.model_dump(exclude_defaults=True),
        "resources": batch.resources.model_dump(exclude_defaults=True),
    }
    with oserror_to_write_fault(out), atomic_write(path) as stream:
        stream.write(orjson.dumps(frozen, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
