"""From the store to result files: the plan first, so that no fault is found late, then every row in order."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path

from jobs.models import JobStatus
from jobs.records import RowView
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
    places: dict[tuple[int, str], int] = {}

    async def noting_files() -> AsyncIterator[RowView]:
        async for view in store.results(batch, statuses):
            if view.packed is not None and (result := view.result) is not None:
                for entry in result.files:
                    if "number" in entry:
                        places.setdefault((view.row, str(entry.get("name"))), entry["number"])
            yield view

    async def kept(row: int, name: str) -> bytes | None:
        number = places.get((row, name))
        return None if number is None else await store.file(batch, row, number)

    return await write_results(noting_files(), plan, kept)
