"""From the store to result files: the plan first, so that no fault is found late, then every row in order."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from jobs.models import JobStatus
from jobs.results import Plan, Written, write_results
from jobs.store import Store


def default_out(file: str, statuses: Collection[JobStatus] | None = None) -> str:
    """`STEM.answers.csv` in the working folder; a choice of rows never takes the place of the whole."""
    chosen = "".join(f".{status}" for status in sorted(statuses or ()))
    return f"{Path(file).stem}.answers{chosen}.csv"


async def collect(
    store: Store, batch: str, plan: Plan, statuses: Collection[JobStatus] | None = None
) -> Written:
    """Write the rows of the batch, or those that ended so, as they stand now. Raises UsageError."""

    async def kept(row: int, told: dict[str, Any]) -> bytes | None:
        number = told.get("number")
        return None if number is None else await store.file(batch, row, number)

    return await write_results(store.results(batch, statuses), plan, kept)
