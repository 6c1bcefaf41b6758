"""Maps each exception to an exit code and a sentence on stderr.

0 done, every row completed          3 Redis or the API unreachable, the disk full, or the batch paused
1 done, some row did not complete  130 interrupted
2 bad usage or bad input           141 the reader of the output went away
"""

import os
import shlex
import sys
import traceback
from io import StringIO

import click

from askmill.config.text import safe_text, strip_control
from askmill.jobs.cli.broken_pipe import BROKEN_PIPE
from askmill.jobs.model.errors import AskmillError, Interrupted

INTERRUPTED = 130


def exit_code_for(error: BaseException) -> int:
    """Print on stderr what happened, and return the exit code."""
    # First: it may have interrupted an import made below.
    if isinstance(error, click.Abort | KeyboardInterrupt) or _hides_interrupt(error):
        return _interrupted(error)
    from askmill.config.settings import BadSetting  # noqa: PLC0415 -- 80 ms that `--version` does without

    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case BrokenPipeError():
            return BROKEN_PIPE
        case SystemExit(code=int() | None as code):
            return code or 0
        case SystemExit():
            return _print_error(str(error.code), 1)
        case click.ClickException():
            error.show(usage := StringIO())
            click.echo(strip_control(usage.getvalue()), err=True, nl=False)
            return 2
        case AskmillError():
            return _print_error(str(error), error.exit_code)
        case BadSetting():
            return _print_error(str(error), 2)
        case BaseExceptionGroup():
            return exit_code_for(error.exceptions[0])
        case _:
            return _print_error(_unexpected(error), 1)


def _hides_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C came while pydantic built a model: it raises SchemaError, and its text ends so."""
    return type(error).__name__ == "SchemaError" and str(error).rstrip(": \n").endswith("KeyboardInterrupt")


def _interrupted(error: BaseException) -> int:
    batch = _stored_batch(error)
    stored = f"; {batch} is stored, with every run that was started" if batch else ""
    # With --new the same command would not resume, but create another batch.
    arguments = [argument for argument in sys.argv[1:] if argument != "--new" or batch is None]
    say(f"\nInterrupted{stored}. To resume: {shlex.join(['askmill', *arguments])}")
    return INTERRUPTED


def _stored_batch(error: BaseException) -> str | None:
    """The batch of an `Interrupted`; click replaces it by Abort and keeps it as the cause."""
    cause = error.__cause__ if isinstance(error, click.Abort) else error
    return cause.batch if isinstance(cause, Interrupted) else None


def _print_error(message: str, code: int) -> int:
    say(f"Error: {message}")
    return code


def say(text: str) -> None:
    """Print a message on stderr. It may quote files and the API, so secrets and control codes are removed."""
    click.echo(safe_text(text), err=True)


def _unexpected(error: BaseException) -> str:
    """A short sentence; the traceback goes to the log, and to stderr only when debugging."""
    text = safe_text("".join(traceback.format_exception(error)))
    if os.environ.get("ASKMILL_LOG_LEVEL", "").lower() == "debug":
        click.echo(text, err=True)
    summary = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"Unexpected error: {summary}. {_log_traceback(text)}"


def _log_traceback(text: str) -> str:
    from askmill.config.settings import BadSetting, load_settings  # noqa: PLC0415 -- only after a crash
    from askmill.jobs.local import data_dir  # noqa: PLC0415 -- as above

    try:
        handle, path, _ = data_dir.open_log(load_settings().data_dir, "askmill")
        with os.fdopen(handle, "a", encoding="utf-8") as log:
            log.write(text + "\n")
    except (OSError, BadSetting):
        return "Set ASKMILL_LOG_LEVEL=debug to see the traceback."
    return f"The traceback is in {path}."
