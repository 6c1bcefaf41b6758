"""`run`, `submit`, `status`, `collect`: each call runs the command of that name in a child process.

    caller ──arguments, questions─▶ python -P -m askmill.jobs.cli.subprocess_main ──▶ one command of jobs/cli
           ◀──rows, id, status───── stdout      ◀── its exception as JSON, in a file
           ◀──progress───────────── stderr, line by line on the caller's sys.stderr

The child process keeps the caller's event loop, signal handlers and logging untouched.
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
from askmill.options import Options, to_argv
from askmill.types import Row, RowStatus, Status, row_from_json, status_from_json

Questions = str | PathLike[str] | Iterable[str | Mapping[str, Any]]
"""A path (CSV, TSV, JSONL, Parquet), or rows: a text is a question, a mapping has the columns by name."""
PAUSED = 3
"""The exit code of a batch that has paused itself; for other errors of that code there is an error file."""
PAUSED_LINES = 3
"""The last lines of a paused `run` or `collect --wait`: the counts, the reason, what to do."""


def run(
    questions: Questions, *, offline: bool = False, concurrency: int | None = None, **options: Unpack[Options]
) -> list[Row]:
    """Ask every question, wait, and return every row in input order, whatever its status.

    Starts what is missing (Redis, a worker; with `offline` the emulator) and stops it at the end. Call it
    again with the same questions to resume the same batch or to get its answers again; no run is paid twice.

    Args:
        questions: a path, or rows. The answers of all rows are held in memory.
        offline: let the emulator answer, even if an API key is set.
        concurrency: maximum runs in flight of the worker; None means `ASKMILL_CONCURRENCY`.
        **options: see `Options`.

    Returns:
        One `Row` per question.

    Raises:
        InputFaults: the rows have faults; nothing was submitted.
        UsageError: an option, a profile or a setting is wrong, or there is neither a key for the API nor
            `offline`; nothing was submitted.
        Unavailable: Redis or the API does not answer, or the batch has paused itself. Call again to resume.
        Interrupted: Ctrl-C. What was started is stored; call again to resume.
    """
    argv = ["run", "--out=-", "--format=jsonl", "--yes", *to_argv(options)]
    argv += ["--offline"] if offline else []
    argv += [f"--concurrency={concurrency}"] if concurrency is not None else []
    return [row_from_json(json.loads(line)) for line in _command_with_questions(argv, questions)]


def submit(questions: Questions, **options: Unpack[Options]) -> str:
    """Check the questions, store the batch and return its id. Workers process it (`askmill worker`).

    The same questions with the same options are the same batch, unless `new=True`.

    Args:
        questions: a path, or rows.
        **options: see `Options`.

    Returns:
        The id of the batch, such as `b_7hq2m9`.

    Raises:
        InputFaults: the rows have faults; nothing was submitted.
        UsageError: an option, a profile or a setting is wrong; nothing was submitted.
        Unavailable: Redis does not answer, or the API does not and a file had to be uploaded.
    """
    return "".join(_command_with_questions(["submit", *to_argv(options)], questions)).strip()


def status(batch: str | None = None) -> Status:
    """Return the progress of a batch.

    Args:
        batch: its id; None is the newest batch.

    Raises:
        NotFound: there is no such batch in this Redis.
        Unavailable: Redis does not answer.
    """
    argv = ["status", "--json", *_batch_argument(batch)]
    return status_from_json(json.loads("".join(_command(argv))))


def collect(batch: str | None = None, *, statuses: Iterable[RowStatus] = (), wait: bool = False) -> list[Row]:
    """Return the rows of a batch as they are now, in input order.

    Args:
        batch: its id; None is the newest batch.
        statuses: only rows with these statuses; empty means all.
        wait: wait first until the batch is done, cancelled or paused. Waiting needs a live worker; a message
            on stderr says so if there is none.

    Raises:
        NotFound: there is no such batch in this Redis.
        Unavailable: Redis does not answer; with `wait`, also if the batch has paused itself.
        Interrupted: Ctrl-C while waiting; workers continue with the batch.
    """
    status_list = ",".join(statuses)
    argv = ["collect", "--out=-", "--format=jsonl", *([f"--status={status_list}"] if status_list else [])]
    argv += ["--wait"] if wait else []
    return [row_from_json(json.loads(line)) for line in _command([*argv, *_batch_argument(batch)])]


def _batch_argument(batch: str | None) -> list[str]:
    return [] if batch is None else ["--", batch]


def _command_with_questions(argv: list[str], questions: Questions) -> Iterator[str]:
    """The command's lines; a path becomes its argument, rows become its stdin."""
    if isinstance(questions, str | PathLike):
        yield from _command([*argv, "--", fspath(questions)])
        return
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        lines.writelines(_json_line(number, row) for number, row in enumerate(questions, 1))
        lines.seek(0)
        yield from _command([*argv, "-"], lines)


def _json_line(number: int, row: str | Mapping[str, Any]) -> str:
    cells = {"question": row} if isinstance(row, str) else dict(row)
    try:
        return json.dumps(cells, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as fault:
        raise errors.UsageError(
            f"row {number} cannot be written as JSON: {fault}. Convert it to text or a plain number."
        ) from None


def _command(argv: list[str], stdin: IO[str] | None = None) -> Iterator[str]:
    """Yield the lines of the command's stdout, then raise its exception if it had one."""
    with tempfile.TemporaryDirectory(prefix="askmill-") as folder:
        error_file = Path(folder) / "error.json"
        try:
            with _child([str(error_file), *argv], stdin) as (child, stderr_lines):
                assert child.stdout is not None
                yield from child.stdout
        except KeyboardInterrupt:
            raise _read_error(error_file) or errors.Interrupted(None) from None
        if (error := _read_error(error_file)) is not None:
            raise error
        if child.returncode == PAUSED:
            raise errors.Unavailable("".join(stderr_lines[-PAUSED_LINES:]).strip())


@contextmanager
def _child(argv: list[str], stdin: IO[str] | None) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """Start the child process and end it with the block; the list collects the lines of its stderr."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "askmill.jobs.cli.subprocess_main", *argv],
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        # Outside the terminal's process group: it would get Ctrl-C twice, and the second skips the handover.
        start_new_session=True,
    )
    stderr_lines: list[str] = []
    forwarder = threading.Thread(
        target=_forward, args=(child.stderr, stderr_lines), name="askmill-stderr", daemon=True
    )
    forwarder.start()
    try:
        yield child, stderr_lines
        child.wait()
    except BaseException:
        _terminate(child)
        raise
    finally:
        forwarder.join()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def _forward(stderr: IO[str], lines: list[str]) -> None:
    """Copy to sys.stderr. The child cannot inherit it: in a notebook it is not a file of the system."""
    for line in stderr:
        lines.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


def _terminate(child: "subprocess.Popen[str]") -> None:
    """Terminate the child and wait for its handover; a second Ctrl-C kills it."""
    if child.poll() is None:
        child.terminate()  # not SIGINT, which a process that was started in the background ignores
    try:
        child.wait()
    except KeyboardInterrupt:
        child.kill()
        child.wait()


def _read_error(error_file: Path) -> BaseException | None:
    """The exception that ended the child, if there was one: see `error_to_json` in jobs/cli/exit_codes.py."""
    if not error_file.exists():
        return None
    fields = json.loads(error_file.read_text(encoding="utf-8"))
    kind = getattr(errors, fields["kind"])
    if kind is errors.InputFaults:
        faults = [errors.Fault(line, reason) for line, reason in fields["faults"]]
        file = "the rows" if fields["file"] == "stdin" else fields["file"]
        return errors.InputFaults(file, faults, fields["total"])
    if kind is errors.Interrupted:
        return errors.Interrupted(fields["batch"])
    error = kind(fields["message"])
    assert isinstance(error, errors.AskmillError)
    return error
