"""How every ending becomes an exit code and a sentence on stderr.

0 done, every row completed          3 Redis or the API unreachable, the disk full, or the batch paused
1 done, some row did not complete  130 interrupted
2 bad usage or bad input           141 the reader of our output went away
"""

import os
import shlex
import sys
import traceback
from io import StringIO
from typing import Any

import click

from askmill.config.text import safe_text, strip_control
from askmill.jobs.model.errors import AskmillError, InputFaults, Interrupted

INTERRUPTED = 130


def exit_code_for(ended: BaseException) -> int:
    """Say on stderr what happened, and return the exit code."""
    if isinstance(ended, click.Abort | KeyboardInterrupt):  # first: it may have cut off an import made below
        return _interrupted(ended)
    from askmill.config.settings import BadSetting  # noqa: PLC0415 -- 80 ms that `--version` does without

    match ended:
        case click.exceptions.Exit():
            return ended.exit_code
        case SystemExit(code=int() | None as code):
            return code or 0
        case SystemExit():
            return _said(str(ended.code), 1)
        case click.ClickException():
            ended.show(shown := StringIO())
            click.echo(strip_control(shown.getvalue()), err=True, nl=False)
            return 2
        case AskmillError():
            return _said(str(ended), ended.exit_code)
        case BadSetting():
            return _said(str(ended), 2)
        case BaseExceptionGroup():
            return exit_code_for(ended.exceptions[0])
        case BrokenPipeError():
            return 141
        case _:
            return _said(_unexpected(ended), 1)


def error_to_json(ended: BaseException) -> dict[str, Any]:
    """The same for `import askmill`: the class of askmill/errors.py and what it is made of, as JSON."""
    from askmill.config.settings import BadSetting  # noqa: PLC0415

    match ended:
        case click.Abort() | KeyboardInterrupt():
            return {"kind": "Interrupted", "batch": _stored_batch(ended)}
        case InputFaults():
            faults = [(fault.line, fault.reason) for fault in ended.faults]
            return {"kind": "InputFaults", "file": ended.file, "faults": faults, "total": ended.total}
        case AskmillError():
            return {"kind": type(ended).__name__, "said": safe_text(str(ended))}
        case click.ClickException():
            return {"kind": "UsageError", "said": safe_text(ended.format_message())}
        case BadSetting():
            return {"kind": "UsageError", "said": safe_text(str(ended))}
        case BaseExceptionGroup():
            return error_to_json(ended.exceptions[0])
        case _:
            return {"kind": "AskmillError", "said": safe_text(_unexpected(ended))}


def _interrupted(ended: BaseException) -> int:
    batch = _stored_batch(ended)
    stored = f"; {batch} is stored, with every run that was begun" if batch else ""
    # With --new the same command would not go on, but begin another batch.
    again = [word for word in sys.argv[1:] if word != "--new" or batch is None]
    say(f"\nInterrupted{stored}. To go on: {shlex.join(['askmill', *again])}")
    return INTERRUPTED


def _stored_batch(ended: BaseException) -> str | None:
    """A KeyboardInterrupt becomes click's Abort, which keeps it as the cause."""
    cause = ended.__cause__ if isinstance(ended, click.Abort) else ended
    return cause.batch if isinstance(cause, Interrupted) else None


def _said(sentence: str, code: int) -> int:
    say(f"Error: {sentence}")
    return code


def say(text: str) -> None:
    """To the person, beside the results: words of files and of the API too, so without secrets and codes."""
    click.echo(safe_text(text), err=True)


def _unexpected(error: BaseException) -> str:
    """A short sentence; the traceback goes to the log, and to stderr only when debugging."""
    text = safe_text("".join(traceback.format_exception(error)))
    if os.environ.get("ASKMILL_LOG_LEVEL", "").lower() == "debug":
        click.echo(text, err=True)
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"askmill met something it did not expect: {said}. {_kept(text)}"


def _kept(text: str) -> str:
    from askmill.config.settings import BadSetting, load_settings  # noqa: PLC0415
    from askmill.jobs.local import data_dir as folders  # noqa: PLC0415 -- only when something went wrong

    try:
        handle, path, _ = folders.open_log(load_settings().data_dir, "askmill")
        with os.fdopen(handle, "a", encoding="utf-8") as log:
            log.write(text + "\n")
    except (OSError, BadSetting):
        return "Set ASKMILL_LOG_LEVEL=debug to see where."
    return f"The details are in {path}."
