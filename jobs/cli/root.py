"""The root command: imports a command's module, suggests commands for typos, sets the exit code."""

import gc
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from askmill.config.misspelt import misspelt_settings
from askmill.jobs.cli.broken_pipe import BROKEN_PIPE, reader_went_away
from askmill.jobs.cli.exit_codes import exit_code_for, say

COMMANDS_BY_MODULE = {
    "run": ("run", "submit"),
    "estimate": ("estimate",),
    "query": ("status", "collect", "show"),
    "listing": ("list",),
    "compare": ("compare",),
    "report": ("report",),
    "control": ("cancel", "retry", "pause", "resume", "purge"),
    "chat": ("chat",),
    "processes": ("worker", "web", "emulator", "doctor"),
}
"""Module → its commands, in the order of the help."""
MODULE_OF = {command: module for module, commands in COMMANDS_BY_MODULE.items() for command in commands}
SUMMARIES = {
    "run": "Run a batch from start to end: submit, work, show progress, collect.",
    "submit": "Check FILE, store the batch and print its id.",
    "estimate": "Show what is read of FILE and estimate the cost, without sending a request.",
    "status": "Show the progress of a batch.",
    "collect": "Write the results, complete or partial, at any time.",
    "show": "Show one row's question, attempts, steps and answer.",
    "list": "List the batches in this Redis.",
    "compare": "Compare batches of the same questions side by side.",
    "report": "Write an HTML page with charts and answers: cost, statuses, times, accuracy.",
    "cancel": "Cancel the queued and running rows; finished rows stay.",
    "retry": "Retry the rows that did not complete.",
    "pause": "Start no more runs; runs in flight finish.",
    "resume": "Resume a paused batch.",
    "purge": "Delete a batch from Redis, and what it created from the API.",
    "chat": "Chat with the profile's assistant in the terminal.",
    "worker": "Start a Celery worker.",
    "web": "Serve the web page and the HTTP API.",
    "emulator": "Start the offline API server.",
    "doctor": "Check the settings, Redis, the API and the workers.",
}


class Root(click.Group):
    """Imports a command's module only when the command is called, and maps each exception to an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in MODULE_OF:
            return None
        module = importlib.import_module(f"askmill.jobs.cli.{MODULE_OF[cmd_name]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        if not gc.isenabled():
            gc.freeze()  # loaded modules are never garbage
            gc.enable()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in MODULE_OF and not name.startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 -- only for a typo

            close = get_close_matches(name, MODULE_OF)
            hint = f"Did you mean {' or '.join(close)}?" if close else "`askmill --help` lists the commands."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the summaries without importing the commands; a test checks that both are equal."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the command line; `--help` prints here."""
        with _broken_pipe_code():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command. A misspelt setting, which nothing reads, is named first."""
        with _broken_pipe_code():
            for sentence in misspelt_settings():
                say(sentence)
            return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command and exit. A traceback is shown only with ASKMILL_LOG_LEVEL=debug."""
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, **extra)
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 -- every exception has its exit code
            code = exit_code_for(error)
        if code == BROKEN_PIPE:
            reader_went_away()
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _broken_pipe_code() -> Iterator[None]:
    """Exit with our code where a reader went away: click's `main` would make it 1."""
    try:
        yield
    except BrokenPipeError:
        raise SystemExit(BROKEN_PIPE) from None


def _print_version(ctx: click.Context, _: click.Parameter, requested: bool) -> None:
    if requested:
        from importlib.metadata import version  # noqa: PLC0415 -- 15 ms

        click.echo(f"askmill {version('askmill')}")
        ctx.exit()


@click.group(
    cls=Root,
    name="askmill",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try it without any setup: askmill run examples/questions.csv --offline",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def askmill() -> None:
    """Turn a CSV of questions into a CSV of answers: one assistant run per row.

    You can kill it at any time: no row is lost and no run is paid twice. Run the same command again to
    resume. BATCH is an id such as b_7hq2m9; without it commands take the newest batch (on a terminal, cancel,
    pause and purge ask first). `-` is stdin or stdout.
    """


if __name__ == "__main__":
    # `COLUMNS=80 python -m askmill.jobs.cli.root --help > jobs/cli/help.txt`
    askmill.main(prog_name="askmill")
