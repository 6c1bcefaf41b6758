"""The functions of `import askmill` as coroutines: the same arguments, results and errors.

    from askmill import aio

    rows = await aio.run("questions.csv", model="gpt-5-mini")

The running event loop is not blocked. Cancelling the task that awaits one of them cancels the call, and what
it has started is stopped; the batch stays, and the same call resumes.
"""

from collections.abc import Iterable, Sequence
from typing import Unpack

from pydantic import BaseModel

from askmill import calls
from askmill.bridge import in_loop
from askmill.comparison import Comparison
from askmill.options import Options
from askmill.questions import Questions
from askmill.results import Results
from askmill.types import Estimate, RowStatus, Status


async def run(
    questions: Questions,
    *,
    offline: bool = False,
    concurrency: int | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Results:
    """Return what `askmill.run` does, which documents the arguments."""
    return await in_loop(
        lambda call: calls.run(call, questions, {**options}, offline=offline, concurrency=concurrency),
        progress=progress,
    )


async def submit(questions: Questions, *, progress: bool = True, **options: Unpack[Options]) -> str:
    """Return what `askmill.submit` does, which documents the arguments."""
    return await in_loop(lambda call: calls.submit(call, questions, {**options}), progress=progress)


async def estimate(questions: Questions, **options: Unpack[Options]) -> Estimate:
    """Return what `askmill.estimate` does, which documents the arguments."""
    return await in_loop(lambda call: calls.estimate(call, questions, {**options}))


async def status(batch: str | None = None) -> Status:
    """Return what `askmill.status` does, which documents the arguments."""
    return await in_loop(lambda call: calls.status(call, batch))


async def collect(
    batch: str | None = None,
    *,
    statuses: Iterable[RowStatus] = (),
    wait: bool = False,
    response_schema: type[BaseModel] | None = None,
    progress: bool = True,
) -> Results:
    """Return what `askmill.collect` does, which documents the arguments."""
    return await in_loop(
        lambda call: calls.collect(call, batch, tuple(statuses), wait=wait, response_schema=response_schema),
        progress=progress,
    )


async def compare(
    *batches: str | Results,
    names: Sequence[str] = (),
    expected: str | None = None,
    match: str | None = None,
) -> Comparison:
    """Return what `askmill.compare` does, which documents the arguments."""
    return await in_loop(lambda call: calls.compare(call, batches, names, expected, match))


async def cancel(batch: str, *, trust_env_file: bool = False) -> Status:
    """Return what `askmill.cancel` does, which documents the arguments."""
    return await in_loop(lambda call: calls.cancel(call, batch, trust_env_file=trust_env_file))


async def retry(
    batch: str | None = None, *, statuses: Iterable[RowStatus] = (), attempts: int | None = None
) -> Status:
    """Return what `askmill.retry` does, which documents the arguments."""
    return await in_loop(lambda call: calls.retry(call, batch, tuple(statuses), attempts))
