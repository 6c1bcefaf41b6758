"""How every ending becomes an exit code and a sentence on stderr.

0 done, every row completed          3 Redis or the API unreachable, or the batch has paused itself
1 done, some row did not complete  130 interrupted
2 bad usage or bad input           141 the reader of our output went away
"""

import os
import shlex
import sys
import traceback

import click

from jobs.errors import AskmillError, Interrupted

INTERRUPTED = 130


def ending_of(ended: BaseException) -> int:
    """Say on stderr what happened, and return the exit code."""
    if isinstance(ended, click.Abort | KeyboardInterrupt):  # first: it may have cut off an import made below
        return _interrupted(ended)
    from config.settings import BadSetting  # noqa: PLC0415 -- 80 ms that `--version` does without

    match ended:
        case click.exceptions.Exit() | SystemExit():
            code = ended.exit_code if isinstance(ended, click.exceptions.Exit) else ended.code
            return code if isinstance(code, int) else 0
        case click.ClickException():
            ended.show()
            return 2
        case AskmillError():
            return _said(str(ended), ended.exit_code)
        case BadSetting():
            return _said(str(ended), 2)
        case BaseExceptionGroup():
            return ending_of(ended.exceptions[0])
        case BrokenPipeError():
            return 141
        case _:
            return _said(_unexpected(ended), 1)


def _interrupted(ended: BaseException) -> int:
    batch = ended.batch if isinstance(ended, Interrupted) else None
    stored = f"; {batch} is stored, with every run that was begun" if batch else ""
    click.echo(f"\nInterrupted{stored}. To go on: {shlex.join(['askmill', *sys.argv[1:]])}", err=True)
    return INTERRUPTED


def _said(sentence: str, code: int) -> int:
    from config.logs import masked  # noqa: PLC0415

    click.echo(f"Error: {masked(sentence)}", err=True)
    return code


def _unexpected(error: BaseException) -> str:
    """A short sentence; the traceback goes to the log, and to stderr only when debugging."""
    from config.logs import masked  # noqa: PLC0415

    text = masked("".join(traceback.format_exception(error)))
    if os.environ.get("ASKMILL_LOG_LEVEL", "").lower() == "debug":
        click.echo(text, err=True)
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"askmill met something it did not expect: {said}. {_kept(text)}"


def _kept(text: str) -> str:
    from config.settings import BadSetting, load_settings  # noqa: PLC0415
    from jobs.local import folders  # noqa: PLC0415 -- only when something went wrong

    try:
        handle, path, _ = folders.open_log(load_settings().data_dir, "askmill")
        with os.fdopen(handle, "a", encoding="utf-8") as log:
            log.write(text + "\n")
    except (OSError, BadSetting):
        return "Set ASKMILL_LOG_LEVEL=debug to see where."
    return f"The details are in {path}."
