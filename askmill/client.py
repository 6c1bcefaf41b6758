"""`run`, `submit`, `status`, `collect`: each call is the command of that name, in a process of its own.

    caller ──words, questions──▶ python -P -m askmill.jobs.cli.subprocess_main ──▶ one command of jobs/cli
           ◀──rows, id, status── stdout      ◀── its error, by class, in a file
           ◀──progress────────── stderr, line by line on the caller's sys.stderr

A process, for our packages are called `config`, `jobs` and `worker`: imported into a notebook they would
stand where the user's own `config.py` belongs, or find it in their place. So nothing of ours but this package
is ever imported there; a running event loop is no matter, and the caller's signals and logging stay.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, Unpack

from askmill import errors
from askmill.options import Options, words_of
from askmill.types import Row, RowStatus, Status, row_of, status_of

Questions = str | PathLike[str] | Iterable[str | Mapping[str, Any]]
"""A path (CSV, TSV, JSONL, Parquet), or rows: a text is a question, a mapping has the columns by name."""
PAUSED = 3
"""The exit code of a batch that has paused itself; an error of that code has told its name."""


def run(
    questions: Questions, *, offline: bool = False, concurrency: int | None = None, **options: Unpack[Options]
) -> list[Row]:
    """Ask every question, wait, and return every row in input order, whatever became of it.

    Starts what is missing (Redis, a worker; with `offline` the emulator), and stops it.
    The same questions again go on with the same batch, or return the answers there are; nothing is paid
    twice.

    Args:
        questions: a path, or rows; the answers of all rows are in memory at the end.
        offline: let the emulator answer, even when a key is set.
        concurrency: runs in flight of its own worker; None: `ASKMILL_CONCURRENCY`.
        **options: see `Options`.

    Raises:
        InputFaults: the rows have faults; nothing was submitted.
        UsageError: an option, a profile or a setting cannot be right, or there is no key for the API and no
            `offline`; nothing was submitted.
        Unavailable: Redis or the API does not answer, or the batch has paused itself; the same call goes on.
        Interrupted: Ctrl-C; what was begun is stored, and the same call goes on.
    """
    words = ["run", "--out=-", "--format=jsonl", "--yes", *words_of(options)]
    words += ["--offline"] if offline else []
    words += [f"--concurrency={concurrency}"] if concurrency is not None else []
    return [row_of(json.loads(line)) for line in _asked(words, questions)]


def submit(questions: Questions, **options: Unpack[Options]) -> str:
    """Check and store the batch, and return its id at once; workers answer it (`askmill worker`).

    The same questions with the same options are the same batch, unless `new=True`.

    Raises:
        InputFaults: the rows have faults; nothing was submitted.
        UsageError: an option, a profile or a setting cannot be right; nothing was submitted.
        Unavailable: Redis does not answer; or the API, where files had to be uploaded.
    """
    return "".join(_asked(["submit", *words_of(options)], questions)).strip()


def status(batch: str | None = None) -> Status:
    """How far a batch is; None is the newest.

    Raises:
        NotFound: no such batch in this Redis.
        Unavailable: Redis does not answer.
    """
    words = ["status", "--json", *_named(batch)]
    return status_of(json.loads("".join(_command(words))))


def collect(batch: str | None = None, *, statuses: Iterable[RowStatus] = (), wait: bool = False) -> list[Row]:
    """The rows of a batch as they stand now, in input order; None is the newest.

    Args:
        batch: its id.
        statuses: only the rows that ended so; empty: all.
        wait: first wait until it is done, cancelled or paused; needs workers, and says so when there is none.

    Raises:
        NotFound: no such batch in this Redis.
        Unavailable: Redis does not answer; with `wait`, also when the batch has paused itself.
        Interrupted: Ctrl-C while waiting; the batch goes on where workers are.
    """
    wanted = ",".join(statuses)
    words = ["collect", "--out=-", "--format=jsonl", *([f"--status={wanted}"] if wanted else [])]
    words += ["--wait"] if wait else []
    return [row_of(json.loads(line)) for line in _command([*words, *_named(batch)])]


def _named(batch: str | None) -> list[str]:
    return [] if batch is None else ["--", batch]


def _asked(words: list[str], questions: Questions) -> Iterator[str]:
    """The command's lines, with a file as its argument or rows as its stdin."""
    if isinstance(questions, str | PathLike):
        yield from _command([*words, "--", fspath(questions)])
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        lines.writelines(_line(number, row) for number, row in enumerate(questions, 1))
        lines.seek(0)
        yield from _command([*words, "-"], lines)


def _line(number: int, row: str | Mapping[str, Any]) -> str:
    cells = {"question": row} if isinstance(row, str) else dict(row)
    try:
        return json.dumps(cells, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as fault:
        raise errors.UsageError(
            f"row {number} cannot be written as JSON: {fault}. Make it text or a plain number first."
        ) from None


def _command(words: list[str], questions: IO[str] | None = None) -> Iterator[str]:
    """The lines of the command's stdout; at their end, its error as the exception it was."""
    with tempfile.TemporaryDirectory(prefix="askmill-") as folder:
        fault = Path(folder) / "fault.json"
        try:
            with _child([str(fault), *words], questions) as (child, said):
                assert child.stdout is not None
                yield from child.stdout
        except KeyboardInterrupt:
            raise _error(fault) or errors.Interrupted(None) from None
        if (error := _error(fault)) is not None:
            raise error
        if child.returncode == PAUSED:
            raise errors.Unavailable("".join(said[-SAID_LINES:]).strip())


SAID_LINES = 3
"""At its end a paused `run` or `collect --wait` tells so: what there is, why it paused, what to do."""


@contextmanager
def _child(
    words: list[str], questions: IO[str] | None
) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """The process, ended with the block; the list fills with what it says on stderr."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "askmill.jobs.cli.subprocess_main", *words],
        stdin=subprocess.DEVNULL if questions is None else questions,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        # Out of the terminal's Ctrl-C, which it would else hear twice: a second one means hurry.
        start_new_session=True,
    )
    said: list[str] = []
    teller = threading.Thread(target=_tell, args=(child.stderr, said), name="askmill-tell", daemon=True)
    teller.start()
    try:
        yield child, said
        child.wait()
    except BaseException:
        _ended(child)
        raise
    finally:
        teller.join()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def _tell(lines: IO[str], said: list[str]) -> None:
    """Not inherited: a notebook's sys.stderr is no file of the system's."""
    for line in lines:
        said.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


def _ended(child: "subprocess.Popen[str]") -> None:
    """Tell it, and wait while it hands over; whoever interrupts again does not want to wait."""
    if child.poll() is None:
        child.terminate()  # not SIGINT, which whoever is started in the background never hears
    try:
        child.wait()
    except KeyboardInterrupt:
        child.kill()
        child.wait()


def _error(fault: Path) -> BaseException | None:
    """The exception that the child wrote down (jobs/cli/subprocess_main.py), if one ended it."""
    if not fault.exists():
        return None
    told = json.loads(fault.read_text(encoding="utf-8"))
    kind = getattr(errors, told["kind"])
    if kind is errors.InputFaults:
        faults = [errors.Fault(line, reason) for line, reason in told["faults"]]
        named = "the rows given" if told["file"] == "stdin" else told["file"]
        return errors.InputFaults(named, faults, told["total"])
    if kind is errors.Interrupted:
        return errors.Interrupted(told["batch"])
    made = kind(told["said"])
    assert isinstance(made, errors.AskmillError)
    return made
