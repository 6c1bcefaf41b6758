"""The functions of `import askmill`. They are synchronous; `askmill.aio` has the same ones as coroutines.

Each runs the use case of the command with the same name, in this process (calls.py, bridge.py).
"""

from collections.abc import Iterable, Sequence
from typing import Unpack

from pydantic import BaseModel

from askmill import calls
from askmill.bridge import in_thread
from askmill.comparison import Comparison
from askmill.options import Options
from askmill.questions import Questions
from askmill.results import Results
from askmill.types import Estimate, RowStatus, Status


def run(
    questions: Questions,
    *,
    offline: bool = False,
    concurrency: int | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> Results:
    """Ask every question, wait, and return every row in input order, whatever its status.

    Starts what is missing (Redis, a worker; with `offline` the emulator) and stops it at the end. Call it
    again with the same questions to resume the same batch or to get its answers again; no run is paid twice.

    Args:
        questions: a path; or texts, mappings (column → value), or a table of pandas, polars or pyarrow.
        offline: let the emulator answer, even if an API key is set.
        concurrency: maximum runs in flight of the worker; None means `ASKMILL_CONCURRENCY`.
        progress: show a bar in a notebook and on a terminal.
        **options: see `Options`.

    Returns:
        One `Row` per question. The rows of the batch are held in memory, compressed.

    Raises:
        InputFaults: the rows have faults; nothing was submitted.
        UsageError: an option, a profile or a setting is wrong, or there is neither a key for the API nor
            `offline`; nothing was submitted.
        Unavailable: Redis or the API does not answer, or the batch has paused itself. Call again to resume.
        Interrupted: Ctrl-C. What was started is stored; call again to resume.
        TypeError: the questions are neither a path nor rows.
    """
    return in_thread(
        lambda call: calls.run(call, questions, {**options}, offline=offline, concurrency=concurrency),
        progress=progress,
    )


def submit(questions: Questions, *, progress: bool = True, **options: Unpack[Options]) -> str:
    """Check the questions, store the batch and return its id. Workers process it (`askmill worker`).

    The same questions with the same options are the same batch, unless `new=True`.

    Args:
        questions: as for `run`.
        progress: print messages in a notebook and on a terminal.
        **options: see `Options`.

    Returns:
        The id of the batch, such as `b_7hq2m9`.

    Raises:
        InputFaults: the rows have faults; nothing was submitted.
        UsageError: an option, a profile or a setting is wrong; nothing was submitted.
        Unavailable: Redis does not answer, or the API does not and a file had to be uploaded.
        TypeError: the questions are neither a path nor rows.
    """
    return in_thread(lambda call: calls.submit(call, questions, {**options}), progress=progress)


def estimate(questions: Questions, **options: Unpack[Options]) -> Estimate:
    """Estimate what the batch would cost. Sends no request and needs no key.

    Args:
        questions: as for `run`.
        **options: see `Options`.

    Returns:
        Rows, tokens and cost in USD, each with its range where the lengths of the answers are not known.

    Raises:
        InputFaults: the rows have faults.
        UsageError: an option, a profile or a setting is wrong.
        TypeError: the questions are neither a path nor rows.
    """
    return in_thread(lambda call: calls.estimate(call, questions, {**options}))


def status(batch: str | None = None) -> Status:
    """Return the progress of a batch.

    Args:
        batch: its id; None is the newest batch.

    Raises:
        NotFound: there is no such batch in this Redis.
        Unavailable: Redis does not answer.
    """
    return in_thread(lambda call: calls.status(call, batch))


def collect(
    batch: str | None = None,
    *,
    statuses: Iterable[RowStatus] = (),
    wait: bool = False,
    response_schema: type[BaseModel] | None = None,
    progress: bool = True,
) -> Results:
    """Return the rows of a batch as they are now, in input order.

    Args:
        batch: its id; None is the newest batch.
        statuses: only rows with these statuses; empty means all.
        wait: wait first until the batch is done, cancelled or paused. Waiting needs a live worker; a message
            says so if there is none.
        response_schema: the pydantic model whose instances `Row.parsed` should be.
        progress: show a bar while waiting, in a notebook and on a terminal.

    Raises:
        NotFound: there is no such batch in this Redis.
        Unavailable: Redis does not answer; with `wait`, also if the batch has paused itself.
        Interrupted: Ctrl-C while waiting; workers continue with the batch.
    """
    return in_thread(
        lambda call: calls.collect(call, batch, tuple(statuses), wait=wait, response_schema=response_schema),
        progress=progress,
    )


def compare(
    *batches: str | Results,
    names: Sequence[str] = (),
    expected: str | None = None,
    match: str | None = None,
) -> Comparison:
    """Compare batches of the same questions side by side: models, prompts or tiers.

    Args:
        *batches: two or more, as ids or as the results of `run`.
        names: what to call them, in their order; empty means their models.
        expected: column with the expected answers; None means that of the batches, if they have one.
        match: how answers are compared, as `--match`; None means exactly.

    Returns:
        A row per question, and a summary per batch. The rows are held in memory.

    Raises:
        NotFound: there is no such batch in this Redis.
        UsageError: fewer than two batches, batches of other questions, or an unknown column.
        Unavailable: Redis does not answer.
    """
    return in_thread(lambda call: calls.compare(call, batches, names, expected, match))


def cancel(batch: str, *, trust_env_file: bool = False) -> Status:
    """Cancel the queued and running rows of a batch; finished rows stay. Returns at once, with its status.

    Workers cancel the running runs at the API; if none is alive, this call does.

    Args:
        batch: its id.
        trust_env_file: send the environment's API key to the address that `.env` names.

    Raises:
        NotFound: there is no such batch in this Redis.
        UsageError: the key may not be sent to the API.
        Unavailable: Redis does not answer, or a run could not be cancelled.
    """
    return in_thread(lambda call: calls.cancel(call, batch, trust_env_file=trust_env_file))


def retry(
    batch: str | None = None, *, statuses: Iterable[RowStatus] = (), attempts: int | None = None
) -> Status:
    """Queue the rows that did not complete again, for workers; return the batch's status.

    A row keeps its old result until the new one arrives. `run` with the same questions starts a worker for
    them.

    Args:
        batch: its id; None is the newest batch.
        statuses: the statuses to retry; empty means failed, expired and incomplete.
        attempts: maximum additional runs per row; None means the batch's own.

    Returns:
        The batch's progress, with those rows queued.

    Raises:
        NotFound: there is no such batch in this Redis.
        UsageError: rows with such a status cannot be retried.
        Unavailable: Redis does not answer.
    """
    return in_thread(lambda call: calls.retry(call, batch, tuple(statuses), attempts))
